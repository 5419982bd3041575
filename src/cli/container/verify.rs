//! `container verify`: what the signature policy says about an image, and why. Fetches the manifest and
//! its signatures, prints every step, and exits as a pull would. Changes nothing.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::args::VerifyArgs;
use super::format;
use crate::cli::{Context, Outcome, reference, text};
use crate::image::{OstreeImageReference, SignatureSource, host_arch, normalize_arch};
use crate::pull;
use crate::transport::{self, Resolved};
use crate::trust::{Judgement, Step};

/// What is printed, for programs. Field names are stable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    image: String,
    manifest_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    index_digest: Option<String>,
    steps: Vec<Told>,
    accepted: bool,
    verdict: String,
}

#[derive(Debug, Serialize)]
struct Told {
    depth: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<bool>,
    text: String,
}

/// Explains the verdict; a refusal is an error as it is for a pull.
pub fn run(args: &VerifyArgs, context: &Context) -> Result<Outcome> {
    let image = reference::parse(&args.image)?;
    let (resolved, judgement) = context
        .block_on(judge(args, &image, context))
        .with_context(|| format!("Verifying {}", image.imgref))?;
    let report = Report::new(&image, &resolved, &judgement);
    context.print(&format(args.format, human, &report)?)?;
    judgement.verdict?;
    Ok(Outcome::Done)
}

async fn judge(
    args: &VerifyArgs,
    image: &OstreeImageReference,
    context: &Context,
) -> Result<(Resolved, Judgement)> {
    let mut rules = context.trust_rules()?;
    if let Some(file) = &args.policy {
        rules.policy.explicit = Some(file.clone());
    }
    let mut options = context.plain_source_options();
    options.authfile.clone_from(&args.authfile);
    let source = transport::open(&image.imgref, &options).await?;
    let arch = args.arch.as_deref();
    let arch = arch.map_or_else(host_arch, normalize_arch);
    let resolved = transport::resolve(&*source, &arch).await?;
    let judgement = pull::judge(&*source, image, &resolved, &rules).await?;
    Ok((resolved, judgement))
}

impl Report {
    fn new(image: &OstreeImageReference, resolved: &Resolved, judgement: &Judgement) -> Self {
        let mut steps: Vec<Told> = judgement.steps.iter().map(Told::of).collect();
        if let SignatureSource::OstreeRemote(remote) = &image.sigverify {
            steps.push(Told {
                depth: 0,
                holds: None,
                text: format!(
                    "the ostree commit inside is verified through remote {remote} when the image is \
                     pulled"
                ),
            });
        }
        Self {
            image: image.to_string(),
            manifest_digest: resolved.manifest.digest().to_string(),
            index_digest: resolved.index.map(|digest| digest.to_string()),
            steps,
            accepted: judgement.verdict.is_ok(),
            verdict: match &judgement.verdict {
                Ok(verdict) => verdict.to_string(),
                Err(denied) => denied.reason.to_string(),
            },
        }
    }
}

impl Told {
    fn of(step: &Step) -> Self {
        Self {
            depth: step.depth,
            holds: step.holds,
            text: step.text.clone(),
        }
    }
}

fn human(report: &Report) -> String {
    let mut lines = format!("{:<10}{}\n", "Image", text::clean(&report.image));
    let index = report.index_digest.as_ref().map(|index| ("Index", index));
    let digests = index
        .into_iter()
        .chain([("Manifest", &report.manifest_digest)]);
    for (name, value) in digests {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{name:<10}{value}");
    }
    for step in &report.steps {
        let mark = match step.holds {
            Some(true) => "yes  ",
            Some(false) => "no   ",
            None => "",
        };
        let indent = "  ".repeat(step.depth);
        let _ = writeln!(lines, "{indent}{mark}{}", text::clean(&step.text));
    }
    let word = match report.accepted {
        true => "Accepted",
        false => "Refused",
    };
    let _ = writeln!(lines, "{word:<10}{}", text::clean(&report.verdict));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_a_line() {
        let told = |depth, holds, text: &str| Told {
            depth,
            holds,
            text: text.into(),
        };
        let report = Report {
            image: "ostree-image-signed:docker://quay.io/a:1".into(),
            manifest_digest: "sha256:1".into(),
            index_digest: Some("sha256:2".into()),
            steps: vec![
                told(0, None, "policy"),
                told(1, Some(true), "signedBy"),
                told(2, Some(false), "a\nb: bad"),
            ],
            accepted: true,
            verdict: "why".into(),
        };
        let expected = "Image     ostree-image-signed:docker://quay.io/a:1\n\
            Index     sha256:2\nManifest  sha256:1\npolicy\n  yes  signedBy\n    no   a b: bad\n\
            Accepted  why\n";
        assert_eq!(human(&report), expected);
    }
}
