//! What the repository knows about the contents that it has: lost, damaged or a lie, it costs one layer at
//! most, and the image is the right one.

use bowline::repo::refs;
use bowline::testing::oci::Image;

use super::{FILE_SIZE, FILES, Scene, chunked, image, lines};

fn index(scene: &Scene) -> std::path::PathBuf {
    scene.place.repo_path().join("extensions/bowline/contents")
}

/// Versions of an image, each with one file more.
fn version(number: usize) -> Image {
    let more: String = (0..number)
        .map(|n| format!("data /usr/more/f{n} 0 0 644 {FILE_SIZE} {}\n", 5000 + n))
        .collect();
    image(
        chunked(&format!("{}{more}", lines(|n| n + 1)))
            .layer()
            .unwrap(),
    )
}

#[test]
fn an_index_that_is_lost_or_wrong_costs_one_layer_at_most() {
    let scene = Scene::new("bare-user");
    for number in 0..2 {
        scene.pull_quietly(&scene.serve(&version(number), &number.to_string()));
    }
    let good = std::fs::read(index(&scene)).unwrap();
    assert_eq!(good.len(), 16 + 64 * FILES);
    // Lost, cut off, of another kind: it is made anew.
    let spoiled = [
        &good[..0],
        &good[..16],
        &good[..1000],
        b"something else",
        &good,
    ];
    let mut number = 2;
    for bytes in spoiled {
        std::fs::write(index(&scene), bytes).unwrap();
        let image = version(number);
        let (record, sent) = scene.pull_quietly(&scene.serve(&image, &number.to_string()));
        assert!(sent < 2 * FILE_SIZE as u64, "{sent}");
        assert_eq!(record.commit, scene.whole(&image));
        number += 1;
    }
    // Every content leads to another object.
    let mut lies = std::fs::read(index(&scene)).unwrap();
    let mut objects: Vec<_> = lies[16..]
        .chunks_exact(64)
        .map(|r| r[32..].to_vec())
        .collect();
    objects.rotate_left(1);
    for (record, object) in lies[16..].chunks_exact_mut(64).zip(objects) {
        record[32..].copy_from_slice(&object);
    }
    std::fs::write(index(&scene), &lies).unwrap();
    let (record, said) = scene.pull(&scene.serve(&version(number), "lies"));
    assert_eq!(record.unwrap().commit, scene.whole(&version(number)));
    assert!(
        said[0].contains("does not have the content that was expected"),
        "{said:?}"
    );
    let (_, sent) = scene.pull_quietly(&scene.serve(&version(number + 1), "after"));
    assert!(sent < 2 * FILE_SIZE as u64, "{sent}");
    scene.place.check();
}

#[test]
fn a_damaged_object_is_found_and_replaced() {
    for mode in ["bare", "bare-user"] {
        let scene = Scene::new(mode);
        for number in 0..2 {
            scene.pull_quietly(&scene.serve(&version(number), &number.to_string()));
        }
        let commit = scene
            .place
            .repo
            .resolve_ref(&image_ref(&scene, "1"))
            .unwrap()
            .unwrap();
        let line = scene.place.ostree(&["ls", "-C", &commit, "/usr/lib/f30"]);
        let checksum = line.split_whitespace().nth(4).unwrap();
        let object = format!("objects/{}/{}.file", &checksum[..2], &checksum[2..]);
        let path = scene.place.repo_path().join(object);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let image = version(2);
        let (record, said) = scene.pull(&scene.serve(&image, "2"));
        assert!(
            said[0].contains(&format!("local object sha256:{checksum}")),
            "{said:?}"
        );
        assert_eq!(record.unwrap().commit, scene.whole(&image));
        scene.place.check();
    }
}

fn image_ref(scene: &Scene, tag: &str) -> String {
    let name = format!("docker://{}/ns/os:{tag}", scene.registry.host());
    refs::of_image(&name.parse().unwrap()).unwrap()
}
