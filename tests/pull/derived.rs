//! Ordinary layers: path rules, links in any order, whiteouts, and images with nothing else.

use bowline::image::Compression;
use bowline::repo::refs;
use bowline::testing::encapsulate::Encapsulation;
use bowline::testing::fixture::{Fixture, OS};
use bowline::testing::oci::{ImageBuilder, Layer};
use bowline::testing::tar;

use crate::support::{POLICY, Place};

fn base(lines: &str) -> (Fixture, ImageBuilder) {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(lines).unwrap();
    let image = Encapsulation::chunked()
        .image(fixture.repo(), &commit)
        .unwrap();
    (fixture, image)
}

/// Paths of a commit, one per line of `ostree ls -R`, without owners and sizes.
fn paths(listing: &str) -> Vec<String> {
    let path = |line: &str| {
        line.split_whitespace()
            .nth(4)
            .unwrap_or_default()
            .to_owned()
    };
    listing.lines().map(path).collect()
}

#[test]
fn layers_change_add_and_remove() {
    let (_fixture, image) = base(OS);
    let image = image
        .derived(
            "file /usr/etc/motd 0 0 644 derived\\n
             file /etc/new.conf 0 0 600 new\\n
             whiteout /usr/bin/hi
             file /usr/share/doc 0 0 644 other words\\n
             file /top/level 0 0 644 dropped\\n
             file /run/secret 0 0 644 dropped\\n
             char /dev/null 1 3
             data /usr/lib/derived-big 0 0 644 700000 9",
        )
        .unwrap()
        .derived("opaque /usr/lib/modules\nfile /usr/lib/modules/7/vmlinuz 0 0 644 k\\n")
        .unwrap();
    for mode in ["bare", "bare-user", "archive"] {
        let place = Place::new(mode);
        let record = place.pull(&place.add(&image.build(), "d")).unwrap();
        let all = paths(&place.list(&record.commit));
        let has = |path: &str| all.iter().any(|p| p == path);
        assert_eq!(place.read(&record.commit, "/usr/etc/motd"), "derived\n");
        assert_eq!(place.read(&record.commit, "/usr/etc/new.conf"), "new\n");
        assert_eq!(
            place.read(&record.commit, "/usr/share/doc"),
            "other words\n"
        );
        assert!(has("/usr/bin/hello") && !has("/usr/bin/hi"));
        assert!(has("/usr/lib/modules/7/vmlinuz") && !has("/usr/lib/modules/6.1.0"));
        assert!(has("/usr/lib/derived-big") && has("/run"));
        for dropped in ["/top", "/run/secret", "/dev/null", "/etc"] {
            assert!(!has(dropped), "{dropped}");
        }
        assert!(!all.iter().any(|p| p.contains(".wh.")), "{all:?}");
        place.check();
    }
}

#[test]
fn composefs_bases_keep_other_top_level_names() {
    let conf = "file /usr/lib/ostree/prepare-root.conf 0 0 644 [composefs]\\nenabled = yes\\n";
    let (_fixture, image) = base(&format!("{OS}{conf}\n"));
    let image = image
        .derived(
            "file /top/level 0 0 644 kept\\n
             file /sysroot/ostree/repo/objects/ab/cd.file 0 0 755 aside\\n
             hardlink /usr/bin/aside /sysroot/ostree/repo/objects/ab/cd.file",
        )
        .unwrap();
    let place = Place::new("bare-user");
    let record = place.pull(&place.add(&image.build(), "d")).unwrap();
    assert_eq!(place.read(&record.commit, "/top/level"), "kept\n");
    assert_eq!(place.read(&record.commit, "/usr/bin/aside"), "aside\n");
    assert!(!place.list(&record.commit).contains("/sysroot/ostree/repo"));
    place.check();
}

#[test]
fn a_layer_that_lost_paths_to_one_base_has_them_on_another() {
    let conf = "file /usr/lib/ostree/prepare-root.conf 0 0 644 [composefs]\\nenabled = yes\\n";
    let (_plain, plain) = base(OS);
    let (_composefs, composefs) = base(&format!("{OS}{conf}\n"));
    let lines = "file /opt/tool 0 0 755 tool\\n";
    let place = Place::new("bare-user");
    for (image, keeps) in [(&plain, false), (&composefs, true), (&plain, false)] {
        let image = image.clone().derived(lines).unwrap().build();
        let record = place.pull(&place.add(&image, "d")).unwrap();
        let all = paths(&place.list(&record.commit));
        assert_eq!(all.contains(&"/opt/tool".to_owned()), keeps);
        place.check();
    }
}

#[test]
fn a_chunk_may_be_an_ordinary_layer_too() {
    let (_fixture, mut image) = base(OS);
    image.layers.push(image.layers[1].clone());
    let place = Place::new("bare-user");
    let record = place.pull(&place.add(&image.build(), "d")).unwrap();
    let base = refs::of_blob(&record.manifest.layers[0].digest);
    assert_eq!(
        paths(&place.list(&record.commit)),
        paths(&place.list(&base))
    );
    place.check();
}

#[test]
fn hard_links_work_in_any_order_and_into_the_repository() {
    let (_fixture, image) = base(OS);
    let image = image
        .derived(
            "hardlink /usr/bin/early /usr/bin/late
             file /usr/bin/late 0 0 755 late\\n
             hardlink /usr/bin/after /usr/bin/late
             hardlink /usr/bin/chain /usr/bin/early
             file /sysroot/ostree/repo/objects/ab/cd.file 0 0 755 aside\\n
             hardlink /usr/bin/aside /sysroot/ostree/repo/objects/ab/cd.file
             hardlink /etc/linked /usr/bin/late",
        )
        .unwrap();
    let place = Place::new("bare-user");
    let record = place.pull(&place.add(&image.build(), "d")).unwrap();
    for name in ["bin/early", "bin/after", "bin/chain", "etc/linked"] {
        assert_eq!(
            place.read(&record.commit, &format!("/usr/{name}")),
            "late\n",
            "{name}"
        );
    }
    assert_eq!(place.read(&record.commit, "/usr/bin/aside"), "aside\n");
    assert!(!place.list(&record.commit).contains("/sysroot/ostree"));
    place.check();
}

#[test]
fn plain_images_become_one_tree_and_keep_their_layers() {
    let image = ImageBuilder::default()
        .derived(
            "dir / 0 0 755
             file /etc/passwd 0 0 644 root\\n
             file /usr/bin/tool 1000 1000 4755 tool\\n
             link /bin usr/bin
             file /srv/www/index 0 0 644 hi\\n",
        )
        .unwrap()
        .derived("whiteout /srv/www\nfile /opt/x 0 0 644 x\\n")
        .unwrap();
    let place = Place::new("bare");
    let record = place.pull(&place.add(&image.build(), "p")).unwrap();
    let listing = place.list(&record.commit);
    let all = paths(&listing);
    for path in ["/usr/etc/passwd", "/usr/bin/tool", "/opt/x", "/srv"] {
        assert!(all.iter().any(|p| p == path), "{path} in {all:?}");
    }
    assert!(!all.iter().any(|p| p == "/srv/www"));
    assert!(listing.contains("04755 1000 1000"), "{listing}");
    let refs = place.ostree(&["refs", "--list", "ostree/container/blob"]);
    let blobs = refs.lines().filter(|name| name.contains("/sha256_3A_"));
    assert_eq!(blobs.count(), 2);
    place.check();
}

#[test]
fn empty_hostname_and_resolv_conf_of_container_builds_go_away() {
    let (_fixture, image) = base(OS);
    let image = image
        .derived("file /etc/hostname 0 0 644\nfile /etc/resolv.conf 0 0 644 nameserver\\n")
        .unwrap();
    let place = Place::new("bare-user");
    let record = place.pull(&place.add(&image.build(), "d")).unwrap();
    let all = paths(&place.list(&record.commit));
    assert!(!all.iter().any(|p| p == "/usr/etc/hostname"));
    assert!(all.iter().any(|p| p == "/usr/etc/resolv.conf"));
}

#[test]
fn whiteouts_act_on_lower_layers_only() {
    // `-x` sorts before `.wh.-x`: an order-bound reader would remove the new file.
    let (_fixture, image) = base(&format!("{OS}\nfile /usr/share/-x 0 0 644 old\\n\n"));
    let image = image
        .derived("whiteout /usr/share/-x\nfile /usr/share/-x 0 0 644 new\\n")
        .unwrap();
    let place = Place::new("bare-user");
    let record = place.pull(&place.add(&image.build(), "d")).unwrap();
    assert_eq!(place.read(&record.commit, "/usr/share/-x"), "new\n");
}

#[test]
fn sparse_files_and_long_names_are_read() {
    let long = format!("usr/share/{}/{}", "d".repeat(120), "f".repeat(200));
    let mut out = tar::Tar::new(Vec::new(), tar::Dialect::Gnu);
    out.sparse_gnu(
        "usr/share/gnu",
        200_000,
        &[(4096, b"gnu"), (150_000, b"end")],
    )
    .unwrap();
    out.sparse_pax("usr/share/pax", 100_000, &[(0, b"start"), (99_999, b"!")])
        .unwrap();
    let entries = bowline::testing::lines::parse(&format!("file /{long} 0 0 644 long\\n")).unwrap();
    out.entries(&entries).unwrap();
    let layer = Layer::new(&out.finish().unwrap(), Compression::Gzip).unwrap();
    let (_fixture, image) = base(OS);
    let place = Place::new("bare-user");
    let record = place
        .pull(&place.add(&image.layer(layer).build(), "d"))
        .unwrap();
    let gnu = place.read(&record.commit, "/usr/share/gnu");
    assert_eq!(
        (gnu.len(), &gnu[4096..4099], &gnu[150_000..150_003]),
        (200_000, "gnu", "end")
    );
    assert!(gnu[..4096].bytes().all(|b| b == 0));
    let pax = place.read(&record.commit, "/usr/share/pax");
    assert_eq!(
        (pax.len(), &pax[..5], &pax[99_999..]),
        (100_000, "start", "!")
    );
    assert_eq!(place.read(&record.commit, &format!("/{long}")), "long\n");
    place.check();
}

#[test]
fn labels_come_from_the_policy_of_the_merged_tree() {
    let (_fixture, image) = base(OS);
    let image = image
        .derived(&format!(
            "{POLICY}\nfile /etc/secret 0 0 600 s\nfile /usr/bin/new 0 0 755 n"
        ))
        .unwrap();
    let place = Place::new("bare-user");
    let imgref = place.add(&image.build(), "d");
    let record = place.pull(&imgref).unwrap();
    let listing = place.ostree(&["ls", "-R", "-X", &record.commit]);
    let label = |path: &str| {
        let line = listing
            .lines()
            .find(|line| line.ends_with(&format!(" {path}")));
        let line = line.unwrap_or_else(|| panic!("{path} in {listing}"));
        let (_, label) = line
            .split_once("system_u:object_r:")
            .unwrap_or_else(|| panic!("{line}"));
        label.split(':').next().unwrap().to_owned()
    };
    for (path, expected) in [
        ("/usr/bin/hello", "bin_t"),
        ("/usr/bin/new", "bin_t"),
        ("/usr/etc/secret", "secret_t"),
        ("/usr/etc", "any_t"),
        ("/usr/lib/os-release", "any_t"),
    ] {
        assert_eq!(label(path), expected, "{path}");
    }
    // The layer shares the labelled objects, so that nothing is stored twice.
    let layer = &record.manifest.layers[3].digest;
    let layer = place
        .repo
        .resolve_ref(&bowline::repo::refs::of_blob(layer))
        .unwrap()
        .unwrap();
    let of = |commit: &str| place.ostree(&["ls", "-C", commit, "/usr/bin/new"]);
    assert_eq!(of(&layer), of(&record.commit));
    place.check();
    assert_eq!(place.pull(&imgref).unwrap(), record);
}

#[test]
fn a_label_that_the_kernel_gave_to_an_object_is_not_its_own() {
    let plain = ImageBuilder::default().derived("file /usr/bin/new 0 0 755 n");
    let plain = plain.unwrap();
    let place = Place::new("bare");
    let first = place.add(&plain.build(), "plain");
    let record = place.pull(&first).unwrap();
    let line = place.ostree(&["ls", "-C", &record.commit, "/usr/bin/new"]);
    let (dir, rest) = line.split_whitespace().nth(4).unwrap().split_at(2);
    let object = place.repo_path().join(format!("objects/{dir}/{rest}.file"));
    // As on a host with SELinux, where /ostree has a label of its own.
    let label = b"system_u:object_r:bin_t:s0\0";
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&object, "security.selinux", label, flags).unwrap();
    let image = plain.derived(POLICY).unwrap().build();
    place.pull(&place.add(&image, "labelled")).unwrap();
    place.repo.remove_image(&first).unwrap();
    place.repo.prune().unwrap();
    assert!(!object.exists());
    place.check();
}

#[test]
fn the_deepest_tree_that_is_taken_needs_no_more_stack_than_a_worker_has() {
    let deep = format!("/usr{}", "/d".repeat(510));
    let image = ImageBuilder::default();
    let image = image.derived(&format!("{POLICY}\nfile {deep}/f 0 0 644 f"));
    let image = image.unwrap().derived(&format!("whiteout {deep}/f"));
    let place = Place::new("bare-user");
    let record = place
        .pull(&place.add(&image.unwrap().build(), "d"))
        .unwrap();
    assert!(place.list(&record.commit).contains(&format!("{deep}\n")));
    let error = ImageBuilder::default().derived(&format!("file {deep}/f/f 0 0 644 f"));
    let error = place.pull(&place.add(&error.unwrap().build(), "e"));
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("nested more than 512"), "{error}");
}

/// zstd:chunked is zstd in many frames, and its table of contents in frames that readers skip.
#[test]
fn zstd_in_many_frames_is_one_layer() {
    let content = "data /usr/lib/chunked 0 0 644 90000 4\nfile /usr/lib/end 0 0 644 end\\n";
    let plain = tar::layer(content).unwrap();
    let mut blob = Vec::new();
    for part in plain.chunks(10_000) {
        blob.extend(zstd::encode_all(part, 3).unwrap());
        blob.extend(0x184D_2A50_u32.to_le_bytes());
        blob.extend(5_u32.to_le_bytes());
        blob.extend(b"table");
    }
    let mut layer = Layer::new(&plain, Compression::Zstd).unwrap();
    layer.digest = bowline::image::Digest::of(&blob);
    layer.size = blob.len() as i64;
    layer.blob = blob;
    let (_fixture, image) = base(OS);
    let place = Place::new("bare-user");
    let record = place
        .pull(&place.add(&image.layer(layer).build(), "d"))
        .unwrap();
    assert_eq!(place.read(&record.commit, "/usr/lib/end"), "end\n");
    place.check();
}
