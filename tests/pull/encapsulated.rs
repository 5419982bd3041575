//! Images of ostree commits: the commit that comes out is the one that went in, layers are taken
//! from where they are, and a second pull has little or nothing to do.

use bowline::image::{Compression, host_arch};
use bowline::pull::{LayerState, Prepared, Unsuitable};
use bowline::repo::refs;
use bowline::testing::encapsulate::{Encapsulation, XattrStyle};
use bowline::testing::fixture::{Fixture, OS};
use bowline::testing::oci::Image;

use crate::support::Place;

const XATTRS: &str = "
    xattr /usr/bin/ping security.capability 0x010000020a200000000000000000000000000000
    xattr /usr/bin/hello user.word value
";

#[test]
fn the_commit_survives_every_repository_mode_and_wrapping() {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(&format!("{OS}{XATTRS}")).unwrap();
    for mode in ["bare", "bare-user", "archive"] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let place = Place::new(mode);
            let how = Encapsulation {
                compression,
                ..Encapsulation::chunked()
            };
            let image = how.image(fixture.repo(), &commit).unwrap().build();
            let imgref = place.add(&image, "v1");
            let record = place.pull(&imgref).unwrap();
            assert_eq!(record.manifest_digest, image.digest());
            let base = record.manifest.layers[0].digest;
            let stored = place.repo.resolve_ref(&refs::of_blob(&base)).unwrap();
            assert_eq!(stored.as_deref(), Some(&*commit), "{mode} {compression:?}");
            assert_eq!(place.list(&record.commit), place.list(&commit));
            place.check();
        }
    }
}

#[test]
fn all_generations_of_attribute_carriers_are_read() {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(&format!("{OS}{XATTRS}")).unwrap();
    for xattrs in [XattrStyle::V0, XattrStyle::Linked, XattrStyle::Inline] {
        for how in [Encapsulation::default(), Encapsulation::chunked()] {
            let place = Place::new("bare-user");
            let how = Encapsulation { xattrs, ..how };
            let image = how.image(fixture.repo(), &commit).unwrap().build();
            let record = place.pull(&place.add(&image, "v1")).unwrap();
            assert_eq!(
                place.list(&record.commit),
                place.list(&commit),
                "{xattrs:?}"
            );
            place.check();
        }
    }
}

#[test]
fn a_second_pull_has_nothing_to_do() {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(OS).unwrap();
    let place = Place::new("bare-user");
    let image = Encapsulation::chunked()
        .image(fixture.repo(), &commit)
        .unwrap()
        .build();
    let imgref = place.add(&image, "v1");
    let record = place.pull(&imgref).unwrap();
    match place.prepare(&imgref).unwrap() {
        Prepared::Unchanged(found) => assert_eq!(*found, record),
        Prepared::Ready(plan) => panic!("{plan:?}"),
    }
    assert_eq!(place.repo.images().unwrap(), [imgref]);
}

#[test]
fn what_is_here_must_still_suit() {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(OS).unwrap();
    let place = Place::new("bare-user");
    let image = Encapsulation::default().image(fixture.repo(), &commit);
    let imgref = place.add(&image.unwrap().build(), "v1");
    place.pull(&imgref).unwrap();
    let error = place.prepare_for("s390x", &imgref).unwrap_err();
    assert_eq!(
        error.downcast_ref::<Unsuitable>(),
        Some(&Unsuitable::Architecture {
            image: imgref.to_string(),
            found: format!("linux/{}", host_arch()),
            wanted: "linux/s390x".into(),
        })
    );
}

/// Two versions of a system, each as a commit and as the image of it.
fn versions() -> [(String, Image); 2] {
    let fixture = Fixture::new().unwrap();
    let new = format!("{OS}\nfile /usr/bin/new 0 0 755 new\n");
    [OS, &new].map(|lines| {
        let commit = fixture.commit(lines).unwrap();
        let image = Encapsulation::chunked().image(fixture.repo(), &commit);
        (commit, image.unwrap().build())
    })
}

#[test]
fn an_upgrade_fetches_only_what_changed() {
    let place = Place::new("bare-user");
    let [(_, old), (new, image)] = versions();
    place.pull(&place.add(&old, "os")).unwrap();
    let imgref = place.add(&image, "os");
    let plan = place.plan(&imgref);
    let states: Vec<bool> = plan
        .layers
        .iter()
        .map(|l| matches!(l.state, LayerState::Present(_)))
        .collect();
    assert_eq!(
        states,
        [false, false, true],
        "commit layer and bin change, lib does not"
    );
    assert_eq!(plan.layers_to_fetch(), 2);
    let record = place.pull(&imgref).unwrap();
    assert_eq!(place.list(&record.commit), place.list(&new));
    place.check();
}

#[test]
fn a_recompressed_image_is_not_fetched_again() {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(OS).unwrap();
    let place = Place::new("archive");
    let builder = Encapsulation::chunked()
        .image(fixture.repo(), &commit)
        .unwrap();
    place.pull(&place.add(&builder.build(), "gzip")).unwrap();
    let mut zstd = builder.clone();
    zstd.layers = builder
        .layers
        .iter()
        .map(|l| l.recompressed(Compression::Zstd).unwrap())
        .collect();
    zstd.created = "2026-02-02T00:00:00Z".into();
    let imgref = place.add(&zstd.build(), "zstd");
    let plan = place.plan(&imgref);
    assert_eq!((plan.layers_to_fetch(), plan.bytes_to_fetch()), (0, 0));
    let record = place.pull(&imgref).unwrap();
    assert_eq!(place.list(&record.commit), place.list(&commit));
    // That these blobs have this content is only what the image says.
    for layer in &record.manifest.layers {
        let name = refs::of_blob(&layer.digest);
        assert_eq!(place.repo.resolve_ref(&name).unwrap(), None);
    }
    place.repo.prune().unwrap();
    assert_eq!(place.plan_or_none(&imgref), None);
    place.check();
}

#[test]
fn removal_and_prune_leave_what_other_images_need() {
    let place = Place::new("bare-user");
    let [(_, old), (new, image)] = versions();
    let first = place.add(&old, "one");
    place.pull(&first).unwrap();
    let kept = place.pull(&place.add(&image, "two")).unwrap();
    assert!(place.repo.remove_image(&first).unwrap());
    assert!(!place.repo.remove_image(&first).unwrap());
    let report = place.repo.prune().unwrap();
    assert_eq!(
        report.layers, 2,
        "the old commit layer and the old bin layer"
    );
    assert!(report.objects > 0);
    assert_eq!(place.list(&kept.commit), place.list(&new));
    place.check();
    assert_eq!(place.repo.prune().unwrap(), Default::default());
}

/// Whichever layers are here already, the same merge commit comes out.
#[test]
fn any_subset_of_layers_leads_to_the_same_commit() {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(OS).unwrap();
    let image = Encapsulation::chunked()
        .image(fixture.repo(), &commit)
        .unwrap();
    let image = image
        .derived("file /etc/x 0 0 644 x\nwhiteout /usr/bin/hi")
        .unwrap()
        .build();
    let place = Place::new("bare-user");
    let imgref = place.add(&image, "v1");
    let complete = place.pull(&imgref).unwrap();
    let layers = &complete.manifest.layers;
    for kept in 0..1u32 << layers.len() {
        place.ostree(&["refs", "--delete", &refs::of_image(&imgref).unwrap()]);
        for (index, layer) in layers.iter().enumerate() {
            if kept & (1 << index) == 0 {
                place.ostree(&["refs", "--delete", &refs::of_blob(&layer.digest)]);
                let diff_id = &complete.config.diff_ids[index];
                place.ostree(&["refs", "--delete", &refs::of_diff_id(diff_id)]);
            }
        }
        place.ostree(&["prune", "--refs-only", "--depth=0"]);
        let missing = place.plan(&imgref).layers_to_fetch();
        assert_eq!(missing, layers.len() - kept.count_ones() as usize);
        assert_eq!(place.pull(&imgref).unwrap(), complete, "{kept:b}");
        place.check();
    }
}
