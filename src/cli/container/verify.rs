//! `container verify`: what the signature policy says about an image, and why. Fetches the manifest and
//! its signatures, for `ostree-remote-image:` the layer with the commit, too; prints every step, and exits
//! as a pull would. Changes nothing.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::args::VerifyArgs;
use super::format;
use crate::cli::{Context, Outcome, image, reference, text};
use crate::image::{Digest, OstreeImageReference, SignatureSource, host_arch, normalize_arch};
use crate::progress::Event;
use crate::pull::{self, Accepted, CommitJudgement};
use crate::repo::Repo;
use crate::transport::{self, ImageSource};
use crate::trust::{Denied, Step, VerifiedBy};

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
    let found = context
        .block_on(judge(args, &image, context))
        .with_context(|| format!("Verifying {}", image.imgref))?;
    let report = Report::new(&image, &found);
    context.print(&format(args.format, human, &report)?)?;
    found.verdict?;
    Ok(Outcome::Done)
}

/// What was found out, and why the image is accepted, in words.
struct Found {
    manifest: Digest,
    index: Option<Digest>,
    steps: Vec<Step>,
    verdict: Result<String, Denied>,
}

async fn judge(
    args: &VerifyArgs,
    image: &OstreeImageReference,
    context: &Context,
) -> Result<Found> {
    // What is wrong with the repository is told before anything is fetched.
    let repo = remotes(args, image, context)?;
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
    let (manifest, index) = (resolved.manifest.digest(), resolved.index);
    let mut found = Found {
        manifest,
        index,
        steps: judgement.steps,
        verdict: Ok(String::new()),
    };
    match (judgement.verdict, repo) {
        (Err(denied), _) => found.verdict = Err(denied),
        (Ok(verdict), None) => found.verdict = Ok(verdict.to_string()),
        (Ok(verdict), Some(repo)) => {
            let words = verdict.to_string();
            let accepted = Accepted::new(image, resolved, verdict, &rules);
            match inside(&repo, &*source, &accepted, context).await? {
                Some(commit) => found.add(&words, commit),
                None => found.verdict = Ok(words),
            }
        }
    }
    Ok(found)
}

/// The repository with the remote that an image's commit must be signed for; `None` where it need not.
fn remotes(
    args: &VerifyArgs,
    image: &OstreeImageReference,
    context: &Context,
) -> Result<Option<Repo>> {
    let own = || context.sysroot.join("ostree/repo");
    match &image.sigverify {
        SignatureSource::OstreeRemote(_) => {
            image::open(&args.repo.clone().unwrap_or_else(own)).map(Some)
        }
        SignatureSource::ContainerPolicy | SignatureSource::ContainerPolicyAllowInsecure => {
            Ok(None)
        }
    }
}

/// What the remote says about the commit inside.
async fn inside(
    repo: &Repo,
    source: &dyn ImageSource,
    accepted: &Accepted,
    context: &Context,
) -> Result<Option<CommitJudgement>> {
    let progress = context.progress(&accepted.imgref().to_string())?;
    let judgement = pull::judge_commit(repo, source, accepted, &progress).await;
    progress.event(Event::Finished);
    judgement
}

impl Found {
    /// Adds what was found out about the commit inside an image that is accepted with these words.
    fn add(&mut self, words: &str, commit: CommitJudgement) {
        self.steps.extend(commit.steps);
        self.verdict = commit.verdict.map(|by| {
            let by: Vec<_> = by.iter().map(VerifiedBy::to_string).collect();
            format!("{words}; {}", by.join("; "))
        });
    }
}

impl Report {
    fn new(image: &OstreeImageReference, found: &Found) -> Self {
        Self {
            image: image.to_string(),
            manifest_digest: found.manifest.to_string(),
            index_digest: found.index.map(|digest| digest.to_string()),
            steps: found.steps.iter().map(Told::of).collect(),
            accepted: found.verdict.is_ok(),
            verdict: match &found.verdict {
                Ok(verdict) => verdict.clone(),
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
