//! What the tests of the two programs share: a repository with a small system, images that the
//! peer makes of it, and ways to run both programs. Needs root, `ostree`, `skopeo`, `buildah`, `setfattr`.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A scratch directory with a repository `src` that holds one commit, and images of it.
pub struct World {
    dir: TempDir,
    /// The checksum of the commit in `src`.
    pub commit: String,
}

/// How the peer makes an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One layer.
    Plain,
    /// A commit layer and three chunks.
    Chunked,
}

impl World {
    pub fn new() -> Self {
        Self::with_tree(|_| {})
    }

    /// A system with everything that is hard about trees and that the peer can write.
    pub fn hard() -> Self {
        Self::with_tree(make_hard)
    }

    /// A system with more in it.
    pub fn with_tree(more: impl FnOnce(&Path)) -> Self {
        let dir = TempDir::with_prefix_in("bowline-peer-", "/var/tmp").unwrap();
        let tree = dir.path().join("tree");
        make_tree(&tree, "1");
        more(&tree);
        let mut world = Self {
            dir,
            commit: String::new(),
        };
        world.new_repo("src");
        world.commit = world.commit_tree(&tree, "1");
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    /// Makes an empty repository; its path goes out.
    pub fn new_repo(&self, name: &str) -> String {
        let repo = self.text(name);
        run("ostree", &["init", "--mode=bare", "--repo", &repo]);
        repo
    }

    /// Makes an empty sysroot with the stateroot `default`; its path goes out.
    pub fn new_sysroot(&self, name: &str) -> String {
        let sysroot = self.text(name);
        fs::create_dir_all(self.path(name).join("boot")).unwrap();
        run("ostree", &["admin", "init-fs", "--modern", &sysroot]);
        run(
            "ostree",
            &["admin", "os-init", "--sysroot", &sysroot, "default"],
        );
        sysroot
    }

    /// Commits the next version of the system; the checksum goes out.
    pub fn next_version(&self, version: &str) -> String {
        let tree = self.path("tree");
        fs::remove_dir_all(&tree).unwrap();
        make_tree(&tree, version);
        self.commit_tree(&tree, version)
    }

    fn commit_tree(&self, tree: &Path, version: &str) -> String {
        let (repo, tree) = (self.text("src"), tree.to_str().unwrap());
        let args = format!(
            "commit --repo={repo} --tree=dir={tree} --branch=os --bootable --subject=peer \
             --timestamp=2026-01-0{version}T00:00:00Z --add-metadata-string=version={version}"
        );
        let args: Vec<&str> = args.split_whitespace().collect();
        run("ostree", &args).trim().into()
    }

    /// The peer encapsulates a commit; the image reference goes out.
    pub fn encapsulate(&self, commit: &str, form: Form, name: &str) -> String {
        let image = format!("oci:{}:latest", self.text(name));
        let repo = self.text("src");
        let meta = self.text("contentmeta.json");
        let mut args = vec!["container", "encapsulate", "--repo", &repo, commit, &image];
        if form == Form::Chunked {
            fs::write(&meta, self.content_meta(commit)).unwrap();
            args.extend(["--contentmeta", &meta]);
        }
        peer(&args);
        image
    }

    /// A chunk for each of /usr/bin, /usr/lib and the rest.
    pub fn content_meta(&self, commit: &str) -> String {
        let files = run(
            "ostree",
            &["ls", "-R", "-C", "--repo", &self.text("src"), commit],
        );
        let mapping = files
            .lines()
            .filter(|l| l.starts_with(['-', 'l']))
            .map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let checksum = fields.iter().find(|f| f.len() == 64).unwrap();
                let path = fields.iter().find(|f| f.starts_with('/')).unwrap();
                let chunk = match *path {
                    p if p.starts_with("/usr/bin/") => "bin",
                    p if p.starts_with("/usr/lib/") => "lib",
                    _ => "unpackaged",
                };
                (checksum.to_string(), chunk.into())
            });
        let mapping: serde_json::Map<String, serde_json::Value> = mapping.collect();
        let layers = serde_json::json!({"bin": "bin", "lib": "lib", "unpackaged": "unpackaged"});
        serde_json::json!({"version": 1, "layers": layers, "mapping": mapping}).to_string()
    }

    /// skopeo writes the image once more, with every layer as zstd.
    pub fn as_zstd(&self, image: &str, name: &str) -> String {
        let other = format!("oci:{}:latest", self.text(name));
        let args = [
            "copy",
            "--quiet",
            "--dest-compress-format",
            "zstd",
            image,
            &other,
        ];
        run("skopeo", &args);
        let manifest = run("skopeo", &["inspect", "--raw", &other]);
        assert!(
            manifest.contains("tar+zstd") && !manifest.contains("tar+gzip"),
            "{manifest}"
        );
        other
    }

    /// buildah puts a layer on top, as a Containerfile does: files come, one goes, one changes.
    pub fn derive(&self, image: &str, name: &str) -> String {
        let other = format!("oci:{}:latest", self.text(name));
        let storage = [self.text("storage"), self.text("run")];
        let buildah = |args: &[&str]| {
            let own = [
                "--root",
                &storage[0],
                "--runroot",
                &storage[1],
                "--storage-driver",
                "vfs",
            ];
            run("buildah", &[&own[..], args].concat())
                .trim()
                .to_string()
        };
        // Not straight from the path: buildah makes a name of it, which has no capital letters.
        let stored = format!(
            "containers-storage:[vfs@{}+{}]localhost/os",
            storage[0], storage[1]
        );
        run("skopeo", &["copy", "--quiet", image, &stored]);
        let container = buildah(&["from", "localhost/os"]);
        let root = PathBuf::from(buildah(&["mount", &container]));
        fs::write(root.join("etc/layer.conf"), "made by a layer\n").unwrap();
        fs::write(root.join("usr/bin/tool"), "#!/bin/sh\n").unwrap();
        fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/tool2")).unwrap();
        fs::write(root.join("etc/motd"), "changed by a layer\n").unwrap();
        fs::remove_file(root.join("usr/bin/hi")).unwrap();
        buildah(&["umount", &container]);
        buildah(&["commit", "--quiet", &container, &other]);
        other
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Deployments are immutable directories.
        let find = Command::new("find")
            .arg(self.dir.path())
            .args([
                "-path",
                "*/ostree/deploy/*/deploy/*",
                "-prune",
                "-type",
                "d",
            ])
            .args(["-exec", "chattr", "-i", "{}", "+"])
            .status();
        assert!(find.unwrap().success());
    }
}

/// A small bootable system.
fn make_tree(root: &Path, version: &str) {
    let write = |path: &str, mode: u32, content: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    for dir in ["boot", "proc", "run", "sys", "dev", "sysroot", "var", "tmp"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    write("usr/bin/hello", 0o755, b"#!/bin/sh\necho hello\n");
    write("usr/bin/same", 0o755, b"#!/bin/sh\necho hello\n");
    write("usr/bin/su", 0o4755, b"su\n");
    write(
        "usr/lib/os-release",
        0o644,
        b"ID=peer\nPRETTY_NAME=\"Peer OS\"\n",
    );
    write("usr/lib/modules/6.1.0/vmlinuz", 0o644, b"a kernel\n");
    write(
        "usr/lib/modules/6.1.0/initramfs.img",
        0o644,
        b"an initramfs\n",
    );
    write("usr/lib/empty", 0o644, b"");
    write("usr/lib/empty2", 0o644, b"");
    write(
        "usr/etc/motd",
        0o644,
        format!("version {version}\n").as_bytes(),
    );
    write("usr/share/large", 0o644, &[7; 100_000]);
    symlink("hello", root.join("usr/bin/hi")).unwrap();
    symlink("sysroot//ostree", root.join("ostree")).unwrap();
    run(
        "setfattr",
        &[
            "-n",
            "user.bowline",
            "-v",
            "yes",
            root.join("usr/lib/empty2").to_str().unwrap(),
        ],
    );
}

/// Hard links, owners, capabilities, names over 255 bytes in a path, content that is no text, holes, and links
/// that must not be normalized.
fn make_hard(root: &Path) {
    let dir = "d".repeat(60);
    let deep = root.join(format!("usr/share/{dir}/{dir}/{dir}/{dir}/{dir}"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep\n").unwrap();
    fs::hard_link(deep.join("file"), root.join("usr/lib/also-deep")).unwrap();
    fs::hard_link(root.join("usr/bin/hello"), root.join("usr/lib/hello3")).unwrap();
    symlink("../../..//sbin/chkconfig", root.join("usr/lib/denormal")).unwrap();
    symlink(
        format!("{}end", "long/".repeat(40)),
        root.join("usr/lib/long"),
    )
    .unwrap();
    symlink("/usr/lib/", root.join("usr/share/slash")).unwrap();
    fs::write(root.join("usr/lib/no-text"), [0xff, 0xfe, 0, 0x80]).unwrap();
    fs::write(root.join("usr/etc/empty"), "").unwrap();
    fs::create_dir_all(root.join("usr/share/ü")).unwrap();
    fs::write(root.join("usr/share/ü/ß"), "ü").unwrap();
    let sparse = fs::File::create(root.join("usr/lib/sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    fs::write(root.join("usr/bin/ping"), "ping\n").unwrap();
    let ping = root.join("usr/bin/ping");
    let capability = "0x0100000200200000000000000000000000000000";
    let args = [
        "-n",
        "security.capability",
        "-v",
        capability,
        ping.to_str().unwrap(),
    ];
    run("setfattr", &args);
    std::os::unix::fs::chown(root.join("usr/share/ü"), Some(5), Some(3_000_000)).unwrap();
    fs::set_permissions(root.join("usr/share/ü"), PermissionsExt::from_mode(0o1750)).unwrap();
    fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
}

/// Runs the peer; what it prints goes out.
pub fn peer(args: &[&str]) -> String {
    run(env!("CARGO_BIN_EXE_bowline-peer"), args)
}

/// Runs Bowline; what it prints goes out.
pub fn bowline(args: &[&str]) -> String {
    run(&bowline_program(), args)
}

/// The path of the peer.
pub fn peer_program() -> String {
    env!("CARGO_BIN_EXE_bowline-peer").into()
}

/// The path of Bowline: `$BOWLINE`, else the newer build of the package this one stands in.
pub fn bowline_program() -> String {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let built = ["release/bowline", "debug/bowline"].map(|name| target.join(name));
    let time = |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified()).ok();
    let newest = || {
        built
            .iter()
            .filter(|p| p.exists())
            .max_by_key(|p| time(p))
            .cloned()
    };
    let program = std::env::var_os("BOWLINE")
        .map(PathBuf::from)
        .or_else(newest);
    let program = program.expect("build bowline first, or set BOWLINE to its path");
    program.to_str().unwrap().into()
}

/// Runs a program that must succeed; its standard output goes out.
pub fn run(program: &str, args: &[&str]) -> String {
    String::from_utf8(run_bytes(program, args)).unwrap()
}

/// The same for output that is no text.
pub fn run_bytes(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    let (out, err) = (&output.stdout, &output.stderr);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err),
    );
    output.stdout
}

/// Fails when the repository is damaged.
pub fn fsck(repo: &str) {
    run("ostree", &["fsck", "--quiet", "--repo", repo]);
}

/// Second names of layers, by the digest of their tar stream: ours alone, and nobody needs them.
const BY_DIFF_ID: &str = "ostree/container/blob/diffid_3A_";

/// Every ref that both programs know with its commit, sorted.
pub fn refs(repo: &str) -> Vec<(String, String)> {
    let names = run("ostree", &["refs", "--repo", repo]);
    let names = names.lines().filter(|name| !name.starts_with(BY_DIFF_ID));
    let commit = |name: &str| {
        run("ostree", &["rev-parse", "--repo", repo, name])
            .trim()
            .to_string()
    };
    let mut refs: Vec<_> = names.map(|n| (n.to_string(), commit(n))).collect();
    refs.sort();
    refs
}

/// The commit of the only image in a repository.
pub fn image_commit(repo: &str) -> String {
    let refs = refs(repo);
    let mut images = refs
        .iter()
        .filter(|(n, _)| n.starts_with("ostree/container/image/"));
    let (_, commit) = images.next().expect("there is no image");
    assert!(
        images.next().is_none(),
        "there is more than one image: {refs:?}"
    );
    commit.clone()
}

/// A commit's tree with owners, modes, checksums and extended attributes.
pub fn tree(repo: &str, commit: &str) -> String {
    run("ostree", &["ls", "-R", "-C", "-X", "--repo", repo, commit])
}

/// A text value of a commit's metadata.
pub fn metadata(repo: &str, commit: &str, key: &str) -> String {
    let flag = format!("--print-metadata-key={key}");
    run("ostree", &["show", &flag, "--repo", repo, commit])
}

/// Whether buildah can work here; says so where not.
pub fn can_mount() -> bool {
    let unshare = Command::new("unshare").args(["--mount", "true"]).output();
    let can = unshare.is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: buildah needs a mount namespace, which a plain chroot cannot have");
    }
    can
}
