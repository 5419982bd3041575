//! Answers the requests of one connection of the test registry: looks things up, applies faults,
//! keeps count. Never outlives the registry's runtime.

use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::http::{Request, Response};
use super::{Fault, Seen, State, StoredManifest, access, fault, http, range};
use crate::image::Digest;

pub(super) async fn connection(stream: TcpStream, state: Arc<Mutex<State>>) {
    // An error here is the client hanging up, which tests do on purpose.
    let _ = serve(stream, &state).await;
}

async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let host = stream.local_addr()?.to_string();
    let (read, mut write) = stream.split();
    let mut reader = BufReader::new(read);
    while let Some(request) = http::read(&mut reader).await? {
        let wire = answer(state, &request, &host);
        write.write_all(wire.head.as_bytes()).await?;
        for piece in wire.body.chunks(64 << 10) {
            tokio::time::sleep(wire.pause).await;
            write.write_all(piece).await?;
        }
        match wire.after {
            After::Next => {}
            After::Close => return Ok(()),
            After::Silence => pending().await,
            After::Repeat(bytes) => loop {
                write.write_all(&bytes).await?;
            },
        }
    }
    Ok(())
}

/// Bytes of an answer, and what follows them.
struct Wire {
    status: u16,
    head: String,
    body: Bytes,
    after: After,
    pause: Duration,
}

enum After {
    Next,
    Close,
    Silence,
    Repeat(Vec<u8>),
}

impl Wire {
    fn new(response: &Response, faults: &[Fault]) -> Self {
        let body = &response.body;
        let size = body.len() as u64;
        let first =
            |bytes: u64| body.slice(..body.len().min(usize::try_from(bytes).unwrap_or(usize::MAX)));
        let pause = faults.iter().find_map(|fault| match fault {
            Fault::Slow(pause) => Some(*pause),
            _ => None,
        });
        let wire = |head, body, after| Self {
            status: response.status,
            head,
            body,
            after,
            pause: pause.unwrap_or_default(),
        };
        let head = |length| response.head(Some(length));
        let ends = faults.iter().find_map(|fault| match fault {
            Fault::Hang => Some(wire(String::new(), Bytes::new(), After::Silence)),
            Fault::Close => Some(wire(String::new(), Bytes::new(), After::Close)),
            Fault::Garbage => Some(wire("SSH-2.0-Test\r\n".into(), Bytes::new(), After::Close)),
            Fault::CutAfter(bytes) => Some(wire(head(size), first(*bytes), After::Close)),
            Fault::StallAfter(bytes) => Some(wire(head(size), first(*bytes), After::Silence)),
            Fault::Shorten(bytes) => {
                let body = first(*bytes);
                Some(wire(head(body.len() as u64), body, After::Next))
            }
            Fault::Endless(bytes) => {
                let after = After::Repeat(bytes.clone());
                Some(wire(response.head(None), Bytes::new(), after))
            }
            _ => None,
        });
        ends.unwrap_or_else(|| wire(head(size), body.clone(), After::Next))
    }
}

/// Decides on an answer and notes it, before any of it is sent.
fn answer(state: &Mutex<State>, request: &Request, host: &str) -> Wire {
    let mut state = state.lock().expect("the test is alive");
    let faults = fault::take(&mut state.faults, &request.path);
    let response = faulty_answer(&faults).unwrap_or_else(|| {
        if request.path.starts_with("/token") {
            return access::token(&mut state, request);
        }
        access::check(&mut state, request, host).unwrap_or_else(|| {
            range::ranged(request, &faults, changed(&faults, find(&state, request)))
        })
    });
    let wire = Wire::new(&response, &faults);
    state.requests.push(Seen {
        method: request.method.clone(),
        path: request.path.clone(),
        headers: request.headers.clone(),
        body: request.body.clone(),
        status: if wire.head.is_empty() { 0 } else { wire.status },
        bytes: wire.body.len() as u64,
    });
    wire
}

fn faulty_answer(faults: &[Fault]) -> Option<Response> {
    faults.iter().find_map(|fault| match fault {
        Fault::Status(status, body) => Some(Response::new(*status, body.clone())),
        Fault::RetryAfter(status, after) => {
            Some(Response::new(*status, "").with("Retry-After", after))
        }
        Fault::Redirect(to) => Some(Response::new(307, "").with("Location", to)),
        _ => None,
    })
}

fn find(state: &State, request: &Request) -> Response {
    let path = request.path.split('?').next().unwrap_or_default();
    // A client that takes us for its proxy sends whole URLs.
    let path = path.split_once("/v2/").map_or("", |(_, path)| path);
    if let Some((name, reference)) = path.rsplit_once("/manifests/") {
        let key = (name.to_owned(), reference.to_owned());
        let stored = state.manifests.get(&key).cloned();
        return match stored.or_else(|| manifest_blob(state, reference)) {
            Some(manifest) => Response::new(200, manifest.bytes.clone())
                .with("Content-Type", &manifest.media_type)
                .with(
                    "Docker-Content-Digest",
                    &Digest::of(&manifest.bytes).to_string(),
                ),
            None => Response::new(
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
            ),
        };
    }
    let digest = path
        .rsplit_once("/blobs/")
        .and_then(|(_, d)| d.parse().ok());
    let blob = digest.and_then(|d: Digest| state.blobs.get(&d));
    match blob.map(super::Content::read) {
        Some(Ok(bytes)) => {
            Response::new(200, bytes).with("Content-Type", "application/octet-stream")
        }
        Some(Err(error)) => Response::new(500, error.to_string()),
        None if path.is_empty() => Response::new(200, "{}"),
        None => Response::new(
            404,
            r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#,
        ),
    }
}

/// A manifest that lies among the blobs of a layout, as the entries of an index do.
fn manifest_blob(state: &State, reference: &str) -> Option<StoredManifest> {
    let bytes = state.blobs.get(&reference.parse().ok()?)?.read().ok()?;
    let json: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let media_type = json["mediaType"].as_str();
    let media_type = media_type.unwrap_or("application/vnd.oci.image.manifest.v1+json");
    Some(StoredManifest {
        media_type: media_type.into(),
        bytes,
    })
}

fn changed(faults: &[Fault], mut response: Response) -> Response {
    for fault in faults {
        response = match fault {
            Fault::FlipAt(offset) => {
                let mut body = response.body.to_vec();
                if let Some(byte) = body.get_mut(usize::try_from(*offset).unwrap_or(usize::MAX)) {
                    *byte ^= 1;
                }
                response.body = body.into();
                response
            }
            Fault::DigestHeader(digest) => response.with("Docker-Content-Digest", digest),
            Fault::WrongBytes => {
                let mut body = response.body.to_vec();
                if let Some(last) = body.last_mut() {
                    *last ^= 1;
                }
                response.body = body.into();
                response
            }
            _ => response,
        };
    }
    response
}
