//! Tests of writing layers: what goes in comes out, and the number of threads changes nothing.

use std::io::Read;

use proptest::prelude::*;

use super::*;
use crate::image::{Chunked, Compression, Descriptor, Layer, LayerKind};
use crate::testing::tar as fixture;

const ALL: [LayerCompression; 5] = [
    LayerCompression::None,
    LayerCompression::Gzip(1),
    LayerCompression::Gzip(6),
    LayerCompression::Zstd(3),
    LayerCompression::ZstdChunked(3),
];

fn threads(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

fn write(compression: LayerCompression, workers: usize, pieces: &[&[u8]]) -> LayerBlob {
    let compressor = Compressor::new(compression, threads(workers)).unwrap();
    let mut writer = compressor.layer(tempfile::tempfile().unwrap()).unwrap();
    for piece in pieces {
        writer.write_all(piece).unwrap();
    }
    writer.finish().unwrap()
}

fn bytes(blob: &LayerBlob) -> Vec<u8> {
    let mut bytes = Vec::new();
    blob.file.reader().read_to_end(&mut bytes).unwrap();
    assert_eq!(
        (Digest::of(&bytes), bytes.len() as u64),
        (blob.digest, blob.size)
    );
    bytes
}

fn plain(compression: LayerCompression, blob: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        LayerCompression::None => out.extend_from_slice(blob),
        // One member, and nothing behind it.
        LayerCompression::Gzip(_) => {
            let mut input = flate2::bufread::GzDecoder::new(blob);
            input.read_to_end(&mut out).unwrap();
            assert!(input.into_inner().is_empty());
        }
        LayerCompression::Zstd(_) | LayerCompression::ZstdChunked(_) => {
            out = zstd::decode_all(blob).unwrap();
        }
    }
    out
}

/// Bytes that compress a little, with repetitions across blocks.
fn data(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let words: Vec<u8> = (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"abcdefgh"[(state >> 29) as usize]
        })
        .collect();
    words
}

#[test]
fn what_goes_in_comes_out_whatever_the_threads() {
    let big = format!(
        "file /usr/a 0 0 644 hello\ndata /usr/big 0 0 644 900000 1\n{}",
        "file /e 0 0 644\n"
    );
    let long = format!(
        "{big}link /l {}\nfile /{} 0 0 644 x\n",
        "t/".repeat(90),
        "d/".repeat(80) + "f"
    );
    let mut tar = fixture::Tar::new(Vec::new(), fixture::Dialect::Gnu);
    tar.entries(&crate::testing::lines::parse(&long).unwrap())
        .unwrap();
    let tar = tar.finish().unwrap();
    for compression in ALL {
        let one = write(compression, 1, &[&tar]);
        assert_eq!(one.diff_id, Digest::of(&tar));
        assert_eq!(plain(compression, &bytes(&one)), tar, "{compression:?}");
        let pieces: Vec<&[u8]> = tar.chunks(777).collect();
        for workers in [1, 4] {
            let again = write(compression, workers, &pieces);
            assert_eq!(again.digest, one.digest, "{compression:?} {workers}");
            assert_eq!(again.annotations, one.annotations);
        }
    }
}

#[test]
fn blocks_that_are_just_full_or_empty_are_no_special_case() {
    for length in [
        0,
        1,
        (256 << 10) - 1,
        256 << 10,
        (256 << 10) + 1,
        512 << 10,
        1_300_000,
    ] {
        let data = data(length);
        let blob = write(LayerCompression::Gzip(6), 3, &[&data]);
        assert_eq!(
            plain(LayerCompression::Gzip(6), &bytes(&blob)),
            data,
            "{length}"
        );
    }
}

/// What zlib makes of a stream at its default level.
fn zlib(data: &[u8]) -> u64 {
    let mut whole = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    whole.write_all(data).unwrap();
    whole.finish().unwrap().len() as u64
}

#[test]
fn blocks_are_not_larger_than_what_others_write() {
    let program = std::fs::read("/proc/self/exe").unwrap();
    for data in [
        data(5 << 20),
        program[..(20 << 20).min(program.len())].to_vec(),
    ] {
        let (blocks, whole) = (write(LayerCompression::Gzip(5), 2, &[&data]), zlib(&data));
        assert!(
            blocks.size * 100 <= whole * 101,
            "{} instead of {whole} bytes",
            blocks.size
        );
        let again = write(LayerCompression::Gzip(5), 3, &[&data]);
        assert_eq!(again.digest, blocks.digest);
    }
}

#[test]
fn the_table_of_contents_is_where_the_annotations_say() {
    let tar = fixture::layer(
        "dir /usr 0 0 755\nfile /usr/a 0 0 644 hello\nfile /usr/e 0 0 644\nlink /usr/l a\n\
         xattr /usr/a user.x 0x00ff",
    )
    .unwrap();
    let blob = write(LayerCompression::ZstdChunked(3), 1, &[&tar]);
    let data = bytes(&blob);
    let layer = Layer {
        index: 0,
        descriptor: Descriptor {
            media_type: LayerCompression::ZstdChunked(3).media_type().into(),
            digest: blob.digest,
            size: Some(blob.size),
            annotations: blob.annotations.clone(),
        },
        diff_id: blob.diff_id,
        compression: Compression::Zstd,
        kind: LayerKind::Derived,
    };
    let found = Chunked::of(&layer).unwrap();
    let part = |bytes: std::ops::Range<u64>| &data[bytes.start as usize..bytes.end as usize];
    let packed = part(found.toc.bytes.clone());
    assert_eq!(Digest::of(packed), found.toc_digest);
    let toc = zstd::decode_all(packed).unwrap();
    assert_eq!(toc.len() as u64, found.toc.inflated);
    let toc: serde_json::Value = serde_json::from_slice(&toc).unwrap();
    let entry = &toc["entries"][1];
    assert_eq!(
        (entry["name"].as_str(), entry["size"].as_u64()),
        (Some("/usr/a"), Some(5))
    );
    assert_eq!(entry["xattrs"], serde_json::json!({"user.x": "AP8="}));
    let frames = entry["offset"].as_u64().unwrap()..entry["endOffset"].as_u64().unwrap();
    assert_eq!(zstd::decode_all(part(frames)).unwrap(), b"hello");
    assert_eq!(toc["entries"][2].get("digest"), None);
    assert_eq!(toc["entries"][3]["linkName"], "a");
    let split = part(found.tar_split.bytes.clone());
    assert_eq!(toc["tarSplitDigest"], Digest::of(split).to_string());
    let split = String::from_utf8(zstd::decode_all(split).unwrap()).unwrap();
    assert_eq!(split.len() as u64, found.tar_split.inflated);
    // CRC-64 of "hello" with the polynomial of ISO 3309, as Go computes it.
    assert!(split.contains(r#""payload":"PD7u4tgQAAA=""#), "{split}");
    assert_eq!(&data[data.len() - 8..], b"GNUlInUx");
}

/// What a chunked layer of these bytes is when read again; an error where there is none.
fn chunked_and_back(data: &[u8]) -> anyhow::Result<Vec<u8>> {
    let compressor = Compressor::new(LayerCompression::ZstdChunked(3), threads(1)).unwrap();
    let mut writer = compressor.layer(tempfile::tempfile().unwrap()).unwrap();
    writer.write_all(data)?;
    let blob = writer.finish()?;
    Ok(zstd::decode_all(&bytes(&blob)[..]).unwrap())
}

#[test]
fn a_stream_that_ends_within_a_file_is_no_layer() {
    let tar = fixture::layer("file /usr/a 0 0 644 hello").unwrap();
    for length in [512, 513, 516] {
        let error = chunked_and_back(&tar[..length]).unwrap_err();
        assert!(
            format!("{error:#}").contains("ends within a file"),
            "{error:#}"
        );
    }
    for length in [0, 100, 511, 517, 700, tar.len()] {
        assert_eq!(chunked_and_back(&tar[..length]).unwrap(), &tar[..length]);
    }
    let mut endless = tar;
    // The size in binary, as large as eight bytes can say.
    endless[124..136].copy_from_slice(&[[0x80, 0, 0, 0].as_slice(), &[0xff; 8]].concat());
    let error = chunked_and_back(&endless).unwrap_err();
    assert!(
        format!("{error:#}").contains("no possible size"),
        "{error:#}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_stream_survives_gzip(data: Vec<u8>, repeat in 1usize..60, cut in 1usize..9000) {
        let data = data.repeat(repeat);
        let pieces: Vec<&[u8]> = data.chunks(cut).collect();
        let blob = write(LayerCompression::Gzip(6), 2, &pieces);
        prop_assert_eq!(plain(LayerCompression::Gzip(6), &bytes(&blob)), data);
    }

    #[test]
    fn bytes_that_are_no_tar_end_or_survive(
        // Some streams begin as an entry's header, as far as this writer looks.
        kind in prop::option::of(prop::sample::select(b"\x000125xLK".as_slice())),
        size in prop::option::of(0u64..3000),
        mut data in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        if let (Some(kind), Some(byte)) = (kind, data.get_mut(156)) {
            *byte = kind;
        }
        if let (Some(size), Some(field)) = (size, data.get_mut(124..136)) {
            field.copy_from_slice(format!("{size:011o}\0").as_bytes());
        }
        if let Ok(back) = chunked_and_back(&data) {
            prop_assert_eq!(back, data);
        }
    }
}
