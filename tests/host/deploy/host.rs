//! A sysroot with deployments of commits made from fixture lines: made, deployed, looked at.

use std::fs;
use std::path::{Path, PathBuf};

use bowline::deploy::{self, Decision, DeployPlan, Wish};
use bowline::image::OstreeImageReference;
use bowline::sysroot::{DeploymentId, LockedSysroot, Sysroot};
use bowline::testing::{CommitOptions, Fixture, OS, ScratchSysroot};

use crate::scene::ostree;

pub const STABLE: &str = "ostree-unverified-registry:quay.io/example/os:stable";
pub const NEXT: &str = "ostree-unverified-registry:quay.io/example/os:next";

/// A sysroot, and where its commits come from.
pub struct Host {
    sysroot: ScratchSysroot,
    fixture: Fixture,
}

impl Host {
    pub fn new() -> Self {
        Self {
            sysroot: ScratchSysroot::new().unwrap(),
            fixture: Fixture::new().unwrap(),
        }
    }

    pub fn path(&self) -> &Path {
        self.sysroot.path()
    }

    pub fn repo(&self) -> String {
        self.path().join("ostree/repo").to_str().unwrap().into()
    }

    /// Commits the fixture OS with more lines into the sysroot's repository.
    pub fn commit(&self, version: &str, more: &str) -> String {
        let mut options = CommitOptions::default();
        options.metadata[0].1 = version.into();
        let lines = format!("{OS}\n{more}");
        let commit = self.fixture.commit_with(&lines, &options).unwrap();
        let from = self.fixture.path().to_str().unwrap();
        ostree(&[
            "pull-local",
            &format!("--repo={}", self.repo()),
            from,
            &commit,
        ]);
        commit
    }

    pub fn lock(&self) -> LockedSysroot {
        Sysroot::open_locked(self.path()).unwrap()
    }

    pub fn wish(&self, commit: &str, image: &str) -> Wish {
        Wish {
            image: image.parse::<OstreeImageReference>().unwrap(),
            commit: commit.into(),
            stateroot: None,
            retain: false,
            explicit: true,
            arch: "amd64".into(),
            kargs: Vec::new(),
        }
    }

    pub fn deploy(&self, wish: &Wish) -> DeployPlan {
        let sysroot = self.lock();
        let plan = self.plan(&sysroot, wish);
        deploy::carry_out(&sysroot, &plan).unwrap();
        sysroot.clean_deployments().unwrap();
        plan
    }

    /// Plans a deployment.
    pub fn plan(&self, sysroot: &LockedSysroot, wish: &Wish) -> DeployPlan {
        let host = deploy::snapshot(sysroot).unwrap();
        let tree = sysroot.tree_facts(&wish.commit).unwrap();
        match deploy::plan(&host, wish, &tree).unwrap() {
            Decision::Deploy(plan) => *plan,
            Decision::Nothing(..) => panic!("there is nothing to deploy"),
        }
    }

    pub fn deploy_image(&self, commit: &str, image: &str) -> DeployPlan {
        self.deploy(&self.wish(commit, image))
    }

    pub fn ids(&self) -> Vec<DeploymentId> {
        let sysroot = Sysroot::open(self.path()).unwrap();
        let all = sysroot.deployments().unwrap();
        all.into_iter().map(|d| d.id).collect()
    }

    pub fn commits(&self) -> Vec<String> {
        self.ids().into_iter().map(|id| id.commit).collect()
    }

    pub fn directory(&self, at: usize) -> PathBuf {
        let sysroot = Sysroot::open(self.path()).unwrap();
        sysroot.directory(&self.ids()[at])
    }

    /// The boot loader entries, first to boot first, their lines sorted. Versions of libostree
    /// differ in the order of keys, and in whether paths start at the file system of `/boot`.
    pub fn entries(&self) -> Vec<String> {
        let entries = self.path().join("boot/loader/entries");
        let mut names: Vec<_> = fs::read_dir(entries)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        names.sort();
        names
            .iter()
            .rev()
            .map(|path| {
                let text = fs::read_to_string(path).unwrap();
                let text = text.replace(" /boot/ostree/", " /ostree/");
                // Newer libostree keeps the space before the first of no arguments, and names
                // Android boot images that no bootloader of ours reads.
                let text = text.replace("options  ", "options ");
                let mut lines: Vec<_> = text
                    .lines()
                    .filter(|line| !line.starts_with("aboot"))
                    .collect();
                lines.sort_unstable();
                lines.join("\n")
            })
            .collect()
    }

    pub fn roll_back(&self) -> String {
        let sysroot = self.lock();
        let plan = deploy::plan_rollback(&sysroot.deployments().unwrap(), None).unwrap();
        deploy::roll_back(&sysroot, &plan).unwrap();
        plan.to_string()
    }

    /// What must hold after every deed, finished or not.
    pub fn check(&self) {
        ostree(&["fsck", "--quiet", &format!("--repo={}", self.repo())]);
        let status = ostree(&[
            "admin",
            "status",
            &format!("--sysroot={}", self.path().display()),
        ]);
        let shown: Vec<_> = status
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("default "))
            .map(|line| line.split('.').next().unwrap().to_owned())
            .collect();
        let ours = self
            .ids()
            .into_iter()
            .filter(|id| id.stateroot == "default");
        assert_eq!(
            shown,
            ours.map(|id| id.commit).collect::<Vec<_>>(),
            "{status}"
        );
        for entry in self.entries() {
            let find = |key: &str| {
                let line = entry.lines().find(|line| line.starts_with(key)).unwrap();
                line.strip_prefix(key).unwrap().trim().to_owned()
            };
            let kernel = self
                .path()
                .join("boot")
                .join(find("linux").trim_start_matches('/'));
            assert!(kernel.exists(), "{entry}");
            let options = find("options");
            let target = options.split("ostree=/").nth(1).unwrap();
            assert!(self.path().join(target).join("usr").is_dir(), "{entry}");
        }
    }
}

/// A host with a deployment of version 1, and the commits of versions 1 and 2.
pub fn one_and_two() -> (Host, String, String) {
    let host = Host::new();
    let one = host.commit("1", "");
    let two = host.commit("2", "file /usr/x 0 0 644 x");
    host.deploy_image(&one, NEXT);
    (host, one, two)
}
