//! What the tests of this directory share: an image, a plain file to install to, and looking into
//! what was written.

use std::cmp::Reverse;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bowline::testing::samples;
pub use bowline::testing::samples::stderr;
use serde_json::Value;

/// Bytes in a mebibyte.
pub const MIB: u64 = 1 << 20;

/// An image `os` in a layout directory, and a disk.
pub struct Scene {
    pub dir: tempfile::TempDir,
}

impl Scene {
    /// A scene with an image of the fixture system and `more` lines; nothing where there is no
    /// root.
    #[allow(clippy::print_stdout, reason = "a test that cannot run says why")]
    pub fn new(more: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        // Not /tmp: it may be a tmpfs, which has no user.* attributes before Linux 6.6.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let scene = Self { dir };
        scene.publish("os", more);
        fs::create_dir(scene.path("scratch")).unwrap();
        fs::write(scene.path("policy.json"), samples::ANY_IMAGE).unwrap();
        Some(scene)
    }

    /// Writes an image of the fixture system and `more` lines under a tag.
    pub fn publish(&self, tag: &str, more: &str) {
        let image = samples::os_image("1", more).unwrap();
        image.write_layout(&self.path("layout"), tag).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn image(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.path("layout").display())
    }

    /// The blobs of an image's layers, in the order of fetching: the largest first.
    pub fn layers(&self, tag: &str) -> Vec<PathBuf> {
        let layout = self.path("layout");
        let blob = |digest: &Value| {
            let (kind, hex) = digest.as_str().unwrap().split_once(':').unwrap();
            layout.join("blobs").join(kind).join(hex)
        };
        let read =
            |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let index = read(&layout.join("index.json"));
        let images = index["manifests"].as_array().unwrap();
        let named = |image: &&Value| {
            image["annotations"]["org.opencontainers.image.ref.name"].as_str() == Some(tag)
        };
        let image = images.iter().find(named).unwrap();
        let manifest = read(&blob(&image["digest"]));
        let layers = manifest["layers"].as_array().unwrap().iter();
        let mut blobs: Vec<_> = layers.map(|layer| blob(&layer["digest"])).collect();
        blobs.sort_by_key(|blob| Reverse(blob.metadata().unwrap().len()));
        blobs
    }

    /// A blank plain file.
    pub fn disk(&self, size: u64) -> PathBuf {
        let path = self.path("disk.raw");
        fs::File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    /// `install to-disk` of the image `os` to the disk, with further arguments.
    pub fn to_disk(&self, args: &[&str]) -> Output {
        self.to_disk_command(args).output().unwrap()
    }

    /// The same, killed when it would run a program.
    pub fn killed_by(&self, program: &str, args: &[&str]) -> Output {
        self.with_program(program, "kill -9 $PPID", args)
    }

    /// The same, with a script instead of a program.
    pub fn with_program(&self, program: &str, script: &str, args: &[&str]) -> Output {
        let dir = self.path("path");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let file = dir.join(program);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = self.to_disk_command(args);
        command.env("PATH", &dir).output().unwrap()
    }

    fn to_disk_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command
            .args(["install", "to-disk"])
            .arg(self.path("disk.raw"));
        // A relative path, as people give one.
        command.args(["--image", &self.image("os"), "--scratch", "scratch"]);
        command.current_dir(self.dir.path()).args(args).env_clear();
        command.env("CONTAINERS_POLICY_JSON", self.path("policy.json"));
        command
    }

    /// `install to-disk`, which must succeed; nothing is left in the scratch directory.
    pub fn installs(&self, args: &[&str]) -> String {
        let said = samples::stdout(&mut self.to_disk_command(args)).unwrap();
        assert_eq!(self.path("scratch").read_dir().unwrap().count(), 0);
        said
    }

    /// The same, which must fail with a code; the disk is as it was.
    pub fn refuses(&self, code: i32, args: &[&str]) -> String {
        let disk = self.path("disk.raw");
        let before = written(&disk);
        let output = self.to_disk(args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(before == written(&disk), "{args:?} changed the disk");
        stderr(&output)
    }

    /// The partitions of the disk: name, type, first byte and size.
    pub fn partitions(&self) -> Vec<(String, String, u64, u64)> {
        let disk = self.path("disk.raw");
        let table: Value =
            serde_json::from_str(&run("sfdisk", &["-J", disk.to_str().unwrap()])).unwrap();
        assert_eq!(table["partitiontable"]["label"], "gpt");
        let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
        let text = |p: &Value, key: &str| p[key].as_str().unwrap().to_owned();
        let bytes = |p: &Value, key: &str| p[key].as_u64().unwrap() * 512;
        partitions
            .iter()
            .map(|p| {
                (
                    text(p, "name"),
                    text(p, "type"),
                    bytes(p, "start"),
                    bytes(p, "size"),
                )
            })
            .collect()
    }

    /// First byte of a partition.
    pub fn start(&self, name: &str) -> u64 {
        self.partitions().iter().find(|p| p.0 == name).unwrap().2
    }

    /// Mounts the root file system, read-only, while `look` looks at it.
    pub fn with_root(&self, look: impl FnOnce(&Path)) {
        let root = self
            .partitions()
            .into_iter()
            .find(|p| p.0 == "root")
            .unwrap();
        let place = self.path("mnt");
        fs::create_dir_all(&place).unwrap();
        let options = format!("loop,ro,offset={},sizelimit={}", root.2, root.3);
        let disk = self.path("disk.raw");
        run(
            "mount",
            &[
                "-o",
                &options,
                disk.to_str().unwrap(),
                place.to_str().unwrap(),
            ],
        );
        let mounted = Mounted(place);
        look(&mounted.0);
    }

    /// The content of a file in the EFI system partition.
    pub fn esp_file(&self, path: &str) -> Vec<u8> {
        let image = format!("{}@@{}", self.path("disk.raw").display(), self.start("esp"));
        let mut read = Command::new("mtype");
        let output = read
            .args(["-i", &image, &format!("::{path}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{path}: {}", stderr(&output));
        output.stdout
    }

    /// The paths in a directory of the EFI system partition.
    pub fn esp_list(&self, dir: &str) -> Vec<String> {
        let image = format!("{}@@{}", self.path("disk.raw").display(), self.start("esp"));
        let list = run("mdir", &["-i", &image, "-b", &format!("::{dir}")]);
        let paths = list.lines().filter_map(|line| line.strip_prefix("::"));
        paths
            .map(|path| path.trim_end_matches('/').to_owned())
            .collect()
    }

    /// An `install` command with the image `os` and further arguments.
    pub fn install(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command
            .arg("install")
            .args(args)
            .args(["--image", &self.image("os")]);
        command.env_clear();
        command.env("CONTAINERS_POLICY_JSON", self.path("policy.json"));
        command.output().unwrap()
    }

    /// A new ext4 file system, mounted for as long as the guard lives.
    pub fn mounted(&self, size: u64) -> Mounted {
        let (file, place) = (self.path("root.ext4"), self.path("mnt"));
        fs::File::create(&file).unwrap().set_len(size).unwrap();
        fs::create_dir_all(&place).unwrap();
        let (file, at) = (file.to_str().unwrap(), place.to_str().unwrap());
        run("mke2fs", &["-q", "-t", "ext4", file]);
        run("mount", &["-o", "loop", file, at]);
        Mounted(place)
    }
}

/// When and how much of a file was written.
fn written(disk: &Path) -> Option<(std::time::SystemTime, u64)> {
    let meta = disk.metadata().ok()?;
    Some((meta.modified().unwrap(), meta.blocks()))
}

/// A mount point; dropping it unmounts it.
pub struct Mounted(pub PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().unwrap()]);
    }
}

/// Runs a program that must succeed; its stdout goes out.
pub fn run(program: &str, args: &[&str]) -> String {
    samples::stdout(Command::new(program).args(args)).unwrap()
}
