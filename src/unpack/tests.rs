//! Layers that do what layers do, and layers that try to get out: the first give the tree that the image
//! specification says, the second change nothing outside of theirs.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use proptest::prelude::*;

use super::*;
use crate::image::{Digest, host_arch};
use crate::progress::Silent;
use crate::testing::tar::{Dialect, Header, Tar};
use crate::testing::{ImageBuilder, Layer as TestLayer};
use crate::transport::SourceOptions;

/// A place with something outside of the directory that is unpacked to.
struct Scene {
    temp: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("outside")).unwrap();
        fs::write(temp.path().join("outside/secret"), "secret").unwrap();
        Self { temp }
    }

    fn dir(&self) -> PathBuf {
        self.temp.path().join("dir")
    }

    fn unpack(&self, image: &ImageBuilder, owners: bool) -> Result<Unpacked> {
        let layout = self.temp.path().join("layout");
        image.build().write_layout(&layout, "x").unwrap();
        let name = format!("oci:{}:x", layout.display()).parse().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let source = transport::open(&name, &SourceOptions::default()).await?;
            let source: Arc<dyn ImageSource> = source.into();
            let found = transport::resolve(&*source, &host_arch()).await?;
            let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
            run(&source, &found.manifest, &self.dir(), owners, &progress).await
        })
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir().join(path)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.dir().join(path).symlink_metadata().is_ok()
    }

    /// Nothing outside has changed, and nothing was left behind.
    fn check(&self) {
        let outside = self.temp.path().join("outside");
        assert_eq!(
            fs::read_to_string(outside.join("secret")).unwrap(),
            "secret"
        );
        let mode = outside
            .join("secret")
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert_eq!(outside.read_dir().unwrap().count(), 1);
        let names = self.temp.path().read_dir().unwrap();
        let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
        let strange: Vec<_> = names
            .filter(|n| !["outside", "dir", "layout"].contains(&n.as_str()))
            .collect();
        assert!(strange.is_empty(), "{strange:?}");
    }
}

fn lines(layers: &[&str]) -> ImageBuilder {
    let base = ImageBuilder::default();
    let add = |image: ImageBuilder, lines: &&str| image.derived(lines).unwrap();
    layers.iter().fold(base, add)
}

/// One header: type flag, path, link.
type Raw<'a> = (u8, &'a str, &'a str);

fn raw(entries: &[Raw]) -> ImageBuilder {
    let mut tar = Tar::new(Vec::new(), Dialect::Gnu);
    for (flag, path, link) in entries {
        let mut header = Header::new(path, *flag);
        header.link = link.as_bytes().to_vec();
        header.mode = 0o6777;
        let content: &[u8] = match flag {
            b'0' => b"evil",
            _ => b"",
        };
        header.size = content.len() as u64;
        tar.raw(&header.to_bytes(), content).unwrap();
    }
    let tar = tar.finish().unwrap();
    let layer = TestLayer::new(&tar, Compression::Gzip).unwrap();
    ImageBuilder::default().layer(layer)
}

#[test]
fn layers_add_replace_and_take_away() {
    let scene = Scene::new();
    let image = lines(&[
        "dir /usr 0 0 755\ndir /usr/bin 0 0 755\nfile /usr/bin/a 0 0 755 one\nfile /usr/bin/b 0 0 644 b\n
         dir /opaque 0 0 755\nfile /opaque/old 0 0 644 old\nfile /gone/deep/x 0 0 644 x\n
         link /bin usr/bin\nfile /dir-to-file/x 0 0 644 x\nfile /file-to-dir 0 0 644 x",
        "file /usr/bin/a 0 0 700 two\nwhiteout /usr/bin/b\nopaque /opaque\nfile /opaque/new 0 0 644 new\n
         whiteout /gone\nfile /bin/c 0 0 644 through\nfile /dir-to-file 0 0 644 now\n
         dir /file-to-dir 0 0 711\nhardlink /usr/bin/h /usr/bin/a",
    ]);
    let done = scene.unpack(&image, false).unwrap();
    assert_eq!(done.layers, 2);
    assert_eq!(scene.read("usr/bin/a"), "two");
    assert_eq!(scene.read("usr/bin/c"), "through");
    assert_eq!(scene.read("opaque/new"), "new");
    assert_eq!(scene.read("dir-to-file"), "now");
    let mode = |path: &str| scene.dir().join(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode("usr/bin/a"), 0o700);
    assert_eq!(mode("file-to-dir"), 0o711);
    assert_eq!(mode("usr"), 0o755);
    let inode = |path: &str| scene.dir().join(path).metadata().unwrap().ino();
    assert_eq!(inode("usr/bin/a"), inode("usr/bin/h"));
    for path in [
        "usr/bin/b",
        "opaque/old",
        "gone",
        "usr/bin/.wh.b",
        "opaque/.wh..wh..opq",
    ] {
        assert!(!scene.has(path), "{path}");
    }
    scene.check();
}

#[test]
fn a_whiteout_takes_nothing_of_its_own_layer_whatever_the_order() {
    for second in [
        "whiteout /d\nfile /d/new 0 0 644 new\nopaque /o\nfile /o/new 0 0 644 new",
        "file /d/new 0 0 644 new\nwhiteout /d\nfile /o/new 0 0 644 new\nopaque /o",
    ] {
        let scene = Scene::new();
        let first = "file /d/old 0 0 644 old\nfile /o/old 0 0 644 old\nfile /o/in/old 0 0 644 x";
        scene.unpack(&lines(&[first, second]), false).unwrap();
        for path in ["d/new", "o/new"] {
            assert_eq!(scene.read(path), "new");
        }
        for path in ["d/old", "o/old", "o/in"] {
            assert!(!scene.has(path), "{path}");
        }
        scene.check();
    }
}

#[test]
fn directories_without_rights_are_filled_first() {
    let scene = Scene::new();
    let image = lines(&[
        "dir /locked 0 0 0\nfile /locked/a 0 0 644 a\ndir /locked/in 0 0 500\nfile /locked/in/b 0 0 644 b",
        "file /locked/c 0 0 644 c",
    ]);
    scene.unpack(&image, false).unwrap();
    let mode = |path: &str| scene.dir().join(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode("locked"), 0);
    if rustix::process::geteuid().is_root() {
        assert_eq!(scene.read("locked/c"), "c");
        assert_eq!(mode("locked/in"), 0o500);
    } else {
        let open = fs::Permissions::from_mode(0o700);
        fs::set_permissions(scene.dir().join("locked"), open).unwrap();
    }
    scene.check();
}

#[test]
fn set_id_bits_are_for_root_only() {
    for owners in [false, rustix::process::geteuid().is_root()] {
        let scene = Scene::new();
        scene.unpack(&raw(&[(b'0', "su", "")]), owners).unwrap();
        let mode = scene.dir().join("su").metadata().unwrap().mode() & 0o7777;
        assert_eq!(mode, if owners { 0o6777 } else { 0o777 });
        // Nobody but its owner gets in.
        assert_eq!(scene.dir().metadata().unwrap().mode() & 0o777, 0o700);
    }
}

#[test]
fn sparse_files_stay_sparse_and_devices_stay_away() {
    let scene = Scene::new();
    let mut tar = Tar::new(Vec::new(), Dialect::Pax);
    tar.sparse_pax("hole", 64 << 20, &[(32 << 20, b"data")])
        .unwrap();
    let mut header = Header::new("sda", b'4');
    header.device = (8, 0);
    tar.raw(&header.to_bytes(), b"").unwrap();
    tar.raw(&Header::new("pipe", b'6').to_bytes(), b"").unwrap();
    let layer = TestLayer::new(&tar.finish().unwrap(), Compression::Zstd).unwrap();
    let done = scene
        .unpack(&ImageBuilder::default().layer(layer), false)
        .unwrap();
    assert_eq!(
        done,
        Unpacked {
            layers: 1,
            devices: 1
        }
    );
    let found = scene.dir().join("hole").metadata().unwrap();
    assert_eq!(found.len(), 64 << 20);
    assert!(found.blocks() * 512 < 1 << 20, "{}", found.blocks());
    assert!(!scene.has("sda") && scene.has("pipe"));
}

#[test]
fn attempts_to_get_out_fail_or_stay_inside() {
    let outside = |scene: &Scene| scene.temp.path().join("outside").display().to_string();
    // What is refused, and what is taken but stays inside.
    let table: [(&[Raw], bool); 15] = [
        (&[(b'0', "../outside/secret", "")], false),
        (&[(b'0', "a/../../outside/secret", "")], false),
        (&[(b'0', "/OUT/secret", "")], true),
        (&[(b'2', "link", "OUT"), (b'0', "link/secret", "")], false),
        (
            &[(b'2', "link", "../outside"), (b'0', "link/secret", "")],
            false,
        ),
        (
            &[(b'2', "secret", "../outside/secret"), (b'0', "secret", "")],
            true,
        ),
        (&[(b'1', "h", "../outside/secret")], false),
        (&[(b'1', "h", "OUT/secret")], false),
        (
            &[(b'2', "link", "../outside"), (b'1', "h", "link/secret")],
            false,
        ),
        (
            &[
                (b'2', "s", "../outside/secret"),
                (b'1', "h", "s"),
                (b'0', "h", ""),
            ],
            true,
        ),
        (
            &[
                (b'2', "d", "../outside"),
                (b'5', "d", ""),
                (b'0', "d/new", ""),
            ],
            true,
        ),
        (
            &[(b'2', "d", "../outside"), (b'0', "d/.wh.secret", "")],
            true,
        ),
        (
            &[(b'2', "d", "../outside"), (b'0', "d/.wh..wh..opq", "")],
            true,
        ),
        (&[(b'0', ".wh...", "")], false),
        (&[(b'0', "d/.wh..", "")], false),
    ];
    for (entries, taken) in table {
        let scene = Scene::new();
        let out = outside(&scene);
        let replaced: Vec<_> = entries
            .iter()
            .map(|(f, p, l)| {
                (
                    *f,
                    p.replace("/OUT", &out).replace("OUT", &out),
                    l.replace("OUT", &out),
                )
            })
            .collect();
        let entries: Vec<_> = replaced.iter().map(|(f, p, l)| (*f, &**p, &**l)).collect();
        let result = scene.unpack(&raw(&entries), rustix::process::geteuid().is_root());
        assert_eq!(result.is_ok(), taken, "{entries:?}: {result:?}");
        assert_eq!(scene.dir().exists(), taken, "{entries:?}");
        scene.check();
    }
}

#[test]
fn a_directory_that_is_in_use_is_left_alone() {
    let scene = Scene::new();
    fs::create_dir(scene.dir()).unwrap();
    scene.unpack(&lines(&["file /a 0 0 644 a"]), false).unwrap();
    let error = scene
        .unpack(&lines(&["file /b 0 0 644 b"]), false)
        .unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(UnpackError::NotEmpty(_))),
        "{error:#}"
    );
    assert!(scene.has("a") && !scene.has("b"));
    fs::remove_dir_all(scene.dir()).unwrap();
    symlink("outside", scene.dir()).unwrap();
    scene
        .unpack(&lines(&["file /b 0 0 644 b"]), false)
        .unwrap_err();
    scene.check();
}

#[test]
fn what_was_not_promised_is_not_unpacked() {
    let scene = Scene::new();
    let mut image = lines(&["file /a 0 0 644 a"]);
    image.layers[0].diff_id = Digest::of(b"other");
    let error = scene.unpack(&image, false).unwrap_err();
    assert!(
        error
            .chain()
            .any(|e| matches!(e.downcast_ref(), Some(UnpackError::Mismatch(_)))),
        "{error:#}"
    );
    assert!(!scene.dir().exists());
    scene.check();
}

/// Names that lead somewhere.
fn name() -> impl Strategy<Value = String> {
    let part = prop::sample::select(
        &[
            "a",
            "b",
            "..",
            ".",
            "",
            "outside",
            "secret",
            ".wh.a",
            ".wh.b",
            ".wh..wh..opq",
        ][..],
    );
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_archive_changes_anything_outside(
        entries in prop::collection::vec(
            (prop::sample::select(&b"0012235567"[..]), name(), name(), any::<bool>()),
            1..12,
        ),
    ) {
        let scene = Scene::new();
        let out = scene.temp.path().display().to_string();
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(flag, path, link, absolute)| {
                let link = if absolute { format!("{out}/{link}") } else { link };
                (flag, path, link.chars().take(100).collect::<String>())
            })
            .collect();
        let entries: Vec<_> = entries.iter().map(|(f, p, l)| (*f, &**p, &**l)).collect();
        let _ = scene.unpack(&raw(&entries), rustix::process::geteuid().is_root());
        scene.check();
    }
}

#[test]
fn names_that_are_no_text_are_kept() {
    let scene = Scene::new();
    let mut header = Header::new("", b'0');
    header.name = b"caf\xe9".to_vec();
    let mut tar = Tar::new(Vec::new(), Dialect::Gnu);
    tar.raw(&header.to_bytes(), b"").unwrap();
    let layer = TestLayer::new(&tar.finish().unwrap(), Compression::None).unwrap();
    scene
        .unpack(&ImageBuilder::default().layer(layer), false)
        .unwrap();
    let name = std::ffi::OsString::from_vec(b"caf\xe9".to_vec());
    assert!(scene.dir().join(name).exists());
}
