//! Records of streams that a generator makes, put together again: what comes out is what went in, however
//! the bytes came, and whatever is content and whatever was dropped.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read};

use proptest::prelude::*;

use super::rebuild::rebuild;
use super::*;

/// A stretch of a stream.
#[derive(Debug, Clone)]
enum Stretch {
    /// Bytes that the record keeps.
    Plain(Vec<u8>),
    /// Content of an object; dropped or not.
    Content(Vec<u8>, bool),
    /// Content of a sparse file: holes of these lengths, each with data behind it.
    Sparse(Vec<(u16, Vec<u8>)>),
    /// A header that names an object, and that object's content.
    Named(Vec<u8>),
}

fn stretch() -> impl Strategy<Value = Stretch> {
    let bytes = || prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..1500);
    prop_oneof![
        bytes().prop_map(Stretch::Plain),
        (bytes(), any::<bool>()).prop_map(|(bytes, dropped)| Stretch::Content(bytes, dropped)),
        prop::collection::vec(
            (any::<u16>(), prop::collection::vec(any::<u8>(), 1..99)),
            1..4
        )
        .prop_map(Stretch::Sparse),
        bytes().prop_map(Stretch::Named),
    ]
}

/// Gives a few bytes at a time.
struct Slowly<R>(R, usize);

impl<R: Read> Read for Slowly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.1);
        self.0.read(&mut buffer[..most])
    }
}

#[derive(Default)]
struct Scene {
    stream: Vec<u8>,
    objects: HashMap<Object, Vec<u8>>,
    dropped: BTreeSet<Object>,
}

fn named_header(object: &Digest) -> Vec<u8> {
    let hex = object.hex();
    let mut header = tar::Header::new_ustar();
    let path = format!(
        "sysroot/ostree/repo/objects/{}/{}.file",
        &hex[..2],
        &hex[2..]
    );
    header.set_path(path).unwrap();
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn take(input: &mut impl BufRead, mut length: usize) {
    while length > 0 {
        let count = input.fill_buf().unwrap().len().min(length);
        input.consume(count);
        length -= count;
    }
}

impl Scene {
    fn object(&mut self, content: Vec<u8>) -> Object {
        let object = (Digest::of(&content), ObjectKind::File);
        self.objects.insert(object, content);
        object
    }

    /// Takes the stretches off a stream as an importer does, and gives the record.
    fn record(&mut self, stretches: &[Stretch], at_once: usize) -> File {
        let mut stream = Vec::new();
        for stretch in stretches {
            match stretch {
                Stretch::Plain(bytes) | Stretch::Content(bytes, _) => stream.extend(bytes),
                Stretch::Sparse(parts) => parts.iter().for_each(|part| stream.extend(&part.1)),
                Stretch::Named(bytes) => {
                    // A header begins at a block.
                    stream.resize(stream.len().next_multiple_of(512), 0);
                    stream.extend(named_header(&Digest::of(bytes)));
                    stream.extend(bytes);
                }
            }
        }
        let tape = Tape::new(tempfile::tempfile().unwrap()).unwrap();
        let input = BufReader::with_capacity(700, Slowly(&*stream, at_once));
        let mut taped = Taped::new(input, Some(tape));
        let mut position = 0;
        for stretch in stretches {
            position += match stretch {
                Stretch::Plain(bytes) => {
                    take(&mut taped, bytes.len());
                    bytes.len()
                }
                Stretch::Content(bytes, dropped) => {
                    let object = self.object(bytes.clone());
                    self.dropped.extend(dropped.then_some(object));
                    taped.leave_out();
                    take(&mut taped, bytes.len());
                    taped.is_content_of(object, None).unwrap();
                    bytes.len()
                }
                Stretch::Sparse(parts) => {
                    let (mut file, mut pieces) = (Vec::new(), Vec::new());
                    for (hole, data) in parts {
                        file.resize(file.len() + usize::from(*hole), 0);
                        pieces.push((file.len() as u64, data.len() as u64));
                        file.extend(data);
                    }
                    let object = self.object(file);
                    taped.leave_out();
                    let length = parts.iter().map(|part| part.1.len()).sum();
                    take(&mut taped, length);
                    taped.is_content_of(object, Some(&pieces)).unwrap();
                    length
                }
                Stretch::Named(bytes) => {
                    let padding = usize::next_multiple_of(position, 512) - position;
                    take(&mut taped, padding + 512);
                    let object = self.object(bytes.clone());
                    taped.leave_out();
                    take(&mut taped, bytes.len());
                    taped.is_content_of(object, None).unwrap();
                    padding + 512 + bytes.len()
                }
            };
        }
        assert_eq!(position, stream.len());
        let tape = taped.take_tape().unwrap();
        drop(taped);
        self.stream = stream;
        tape.finish().unwrap()
    }

    fn open(&self, object: Object) -> anyhow::Result<Box<dyn Read>> {
        let content = self.objects.get(&object);
        let content = content.ok_or_else(|| anyhow::anyhow!("no such object"))?;
        Ok(Box::new(io::Cursor::new(content.clone())))
    }

    fn rebuilt(&self, record: &File) -> Result<Vec<u8>, RebuildError> {
        let mut out = Vec::new();
        rebuild(record, &|object| self.open(object), &mut out)?;
        Ok(out)
    }
}

proptest! {
    #[test]
    fn what_went_in_comes_out(
        stretches in prop::collection::vec(stretch(), 0..12),
        at_once in 1..2000usize,
    ) {
        let mut scene = Scene::default();
        let record = scene.record(&stretches, at_once);
        prop_assert!(scene.rebuilt(&record).unwrap() == scene.stream);
        // The repository loses what was dropped, and nothing changes.
        add_dropped(&record, &scene.dropped, &|object| scene.open(object)).unwrap();
        scene.objects.retain(|object, _| !scene.dropped.contains(object));
        prop_assert!(scene.rebuilt(&record).unwrap() == scene.stream);
    }

    #[test]
    fn a_damaged_record_is_an_error_or_another_stream(
        stretches in prop::collection::vec(stretch(), 1..6),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        use std::os::unix::fs::FileExt as _;
        let mut scene = Scene::default();
        let record = scene.record(&stretches, 4096);
        let length = record.metadata().unwrap().len();
        let at = at.index(length as usize) as u64;
        match cut {
            true => record.set_len(at).unwrap(),
            false => record.write_all_at(&[byte], at).unwrap(),
        }
        // Only a panic or an endless loop would be wrong.
        let _ = scene.rebuilt(&record);
    }
}

#[test]
fn a_chunk_layer_costs_little_for_each_object() {
    let contents: Vec<Vec<u8>> = (0..2000u32).map(|n| n.to_le_bytes().repeat(100)).collect();
    let stretches: Vec<_> = contents.into_iter().map(Stretch::Named).collect();
    let mut scene = Scene::default();
    let record = scene.record(&stretches, 64 << 10);
    let length = record.metadata().unwrap().len();
    assert!(length < 2000 * 50, "{length}");
    assert!(scene.rebuilt(&record).unwrap() == scene.stream);
}
