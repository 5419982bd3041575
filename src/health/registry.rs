//! The built-in check that the registry of the followed image answers. A reference comes in, why it
//! is red goes out. Asks for the manifest and uses nothing of it; a refusal is an answer, too.

use std::time::Duration;

use crate::image::{ImageReference, Transport};
use crate::transport::{self, SourceOptions};

/// Asks the registry, for `time` at most. `None` is green; images from elsewhere are always.
pub async fn check(
    image: &ImageReference,
    options: &SourceOptions,
    time: Duration,
) -> Option<String> {
    if image.transport != Transport::Registry {
        return None;
    }
    let ask = async {
        let source = transport::open(image, options)
            .await
            .map_err(|e| e.to_string())?;
        match source.manifest(None).await {
            Err(error) if error.is_temporary() => Err(error.to_string()),
            Ok(_) | Err(_) => Ok(()),
        }
    };
    match tokio::time::timeout(time, ask).await {
        Ok(answer) => answer.err(),
        Err(_) => Some(format!("it did not answer within {} s", time.as_secs_f32())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_registry_that_does_not_answer_is_red() {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let options = SourceOptions {
            retries: 0,
            ..SourceOptions::default()
        };
        let minute = Duration::from_secs(60);
        let image = format!("docker://{address}/os:stable").parse().unwrap();
        assert!(check(&image, &options, minute).await.is_some());
        let image = "oci:/nonexistent:os".parse().unwrap();
        assert_eq!(check(&image, &options, minute).await, None);
    }
}
