//! A repository, an OCI layout beside it, and pulls from one to the other.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;
use bowline::image::{
    Digest, ImageReference, OstreeImageReference, SignatureSource, Transport, host_arch,
};
use bowline::progress::Silent;
use bowline::pull::{self, Accepted, Prepared, PullOptions, PullPlan};
use bowline::repo::{ImageRecord, Repo};
use bowline::testing::oci::Image;
use bowline::transport::{self, ImageSource, SourceOptions};
use bowline::trust::{PolicyPaths, Rules};
use tempfile::TempDir;

/// A policy as small as libselinux takes one.
pub const POLICY: &str = "
    file /etc/selinux/config 0 0 644 SELINUX=enforcing\\nSELINUXTYPE=mini\\n
    file /etc/selinux/mini/policy/policy.33 0 0 644 policy
    file /etc/selinux/mini/contexts/files/file_contexts 0 0 644 /.* system_u:object_r:any_t:s0\\n/usr/bin/.* -- system_u:object_r:bin_t:s0\\n/usr/etc/secret -- system_u:object_r:secret_t:s0\\n
";

/// A scratch place: `repo` and `image` in a temporary directory.
pub struct Place {
    pub repo: Repo,
    pub dir: TempDir,
}

impl Place {
    pub fn new(mode: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("repo");
        ostree(&[
            "init",
            &format!("--mode={mode}"),
            &format!("--repo={}", path.display()),
        ]);
        let repo = Repo::open(&path).unwrap();
        Self { repo, dir }
    }

    pub fn repo_path(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub fn layout(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Puts an image into the layout and gives its reference.
    pub fn add(&self, image: &Image, tag: &str) -> ImageReference {
        image.write_layout(&self.layout(), tag).unwrap();
        let name = format!("{}:{tag}", self.layout().display());
        ImageReference {
            transport: Transport::OciDir,
            name,
        }
    }

    pub fn prepare(&self, imgref: &ImageReference) -> Result<Prepared> {
        self.prepare_for(&host_arch().to_string(), imgref)
    }

    pub fn prepare_for(&self, arch: &str, imgref: &ImageReference) -> Result<Prepared> {
        let options = PullOptions {
            arch: arch.to_owned(),
            require_bootable: false,
        };
        runtime().block_on(async {
            let source = transport::open(imgref, &SourceOptions::default()).await?;
            let accepted = accept(&*source, imgref, arch).await?;
            pull::prepare(&self.repo, &*source, &accepted, &options).await
        })
    }

    pub fn plan(&self, imgref: &ImageReference) -> PullPlan {
        match self.prepare(imgref).unwrap() {
            Prepared::Ready(plan) => *plan,
            Prepared::Unchanged(image) => panic!("nothing to pull: {image:?}"),
        }
    }

    /// How many layers are to be fetched; `None` when there is nothing to do.
    pub fn plan_or_none(&self, imgref: &ImageReference) -> Option<usize> {
        match self.prepare(imgref).unwrap() {
            Prepared::Ready(plan) => Some(plan.layers_to_fetch()),
            Prepared::Unchanged(_) => None,
        }
    }

    pub fn pull(&self, imgref: &ImageReference) -> Result<ImageRecord> {
        let plan = match self.prepare(imgref)? {
            Prepared::Ready(plan) => *plan,
            Prepared::Unchanged(image) => return Ok(*image),
        };
        self.run(imgref, plan)
    }

    pub fn run(&self, imgref: &ImageReference, plan: PullPlan) -> Result<ImageRecord> {
        let record = runtime().block_on(async {
            let source = transport::open(imgref, &SourceOptions::default()).await?;
            pull::run(&self.repo, Arc::from(source), plan, 3, Arc::new(Silent)).await
        })?;
        self.rebuild(&record);
        Ok(record)
    }

    /// Puts every layer of a stored image together again: each is what it was.
    pub fn rebuild(&self, record: &ImageRecord) {
        for diff_id in &record.config.diff_ids {
            let mut tar = Vec::new();
            self.repo.rebuild_layer(diff_id, &mut tar).unwrap();
            assert_eq!(Digest::of(&tar), *diff_id);
        }
    }

    /// Runs `ostree --repo=…` and gives what it prints.
    pub fn ostree(&self, args: &[&str]) -> String {
        let repo = format!("--repo={}", self.repo_path().display());
        let args: Vec<&str> = [repo.as_str()]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        ostree(&args)
    }

    /// Owner, mode, size and path of everything in a commit.
    pub fn list(&self, commit: &str) -> String {
        self.ostree(&["ls", "-R", commit])
    }

    pub fn read(&self, commit: &str, path: &str) -> String {
        self.ostree(&["cat", commit, path])
    }

    /// `ostree fsck`, and nothing of a pull left in `tmp`.
    pub fn check(&self) {
        self.ostree(&["fsck", "--quiet"]);
        let tmp = std::fs::read_dir(self.repo_path().join("tmp")).unwrap();
        let names = tmp.map(|e| e.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = names.filter(|name| name.starts_with("bowline-")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn ostree(args: &[&str]) -> String {
    let output = Command::new("ostree").args(args).output();
    let output = output.expect("these tests need the ostree program (Debian package ostree)");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ostree {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// The whole chain of an error, as one text.
pub fn chain(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

/// Accepts whatever a source has, as a host without a policy does.
pub async fn accept(
    source: &dyn ImageSource,
    imgref: &ImageReference,
    arch: &str,
) -> Result<Accepted> {
    let image = OstreeImageReference {
        sigverify: SignatureSource::ContainerPolicyAllowInsecure,
        imgref: imgref.clone(),
    };
    let policy = PolicyPaths {
        system: Vec::new(),
        ..PolicyPaths::default()
    };
    let rules = Rules {
        policy,
        ..Rules::default()
    };
    pull::accept(source, &image, arch, &rules).await
}
