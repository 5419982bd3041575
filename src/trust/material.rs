//! Keys and certificates that a policy names: members of a requirement come in, bytes go out, each
//! with the place it came from. Files are read when they are asked for and never earlier, so a policy
//! for images that nobody uses may name keys that nobody has.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::json::{Json, Object, Problem, named};

/// The largest key file that is read, in bytes: a keyring of thousands of keys.
const MAX_KEY_BYTES: u64 = 16 << 20;

/// Where keys are: in files, or in the policy itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Material {
    Files(Vec<PathBuf>),
    Inline(Vec<Vec<u8>>),
}

/// The bytes of one key file or of one piece of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// A path, or words for a place in the policy.
    pub(super) place: String,
    pub(super) bytes: Vec<u8>,
}

impl Material {
    /// All of it; one file that cannot be read makes the whole unusable.
    pub(super) fn load(&self) -> Result<Vec<Piece>, Problem> {
        match self {
            Self::Files(files) => files.iter().map(|file| read(file)).collect(),
            Self::Inline(pieces) => {
                let piece = |bytes: &Vec<u8>| Piece {
                    place: "the policy's own data".into(),
                    bytes: bytes.clone(),
                };
                Ok(pieces.iter().map(piece).collect())
            }
        }
    }

    /// What it is, for explanations.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Files(files) if files.is_empty() => "the empty list".into(),
            Self::Files(files) => {
                let names = files.iter().map(|f| f.display().to_string());
                names.collect::<Vec<_>>().join(", ")
            }
            Self::Inline(_) => "the policy's own data".into(),
        }
    }

    /// A path under `key`; an empty one counts as none.
    pub(super) fn take_path(object: &mut Object, key: &str) -> Result<Option<Self>, Problem> {
        let text = object.take_text(key)?;
        Ok((!text.is_empty()).then(|| Self::Files(vec![text.into()])))
    }

    /// Paths under `key`, at least one where the key is there.
    pub(super) fn take_paths(object: &mut Object, key: &str) -> Result<Option<Self>, Problem> {
        let list = object.take(key).map(texts).transpose();
        let list = filled(key, named(key, list)?)?;
        Ok(list.map(Self::Files))
    }

    /// Paths under `key`, where null counts as none and an empty list does not.
    pub(super) fn take_optional_paths(
        object: &mut Object,
        key: &str,
    ) -> Result<Option<Self>, Problem> {
        match object.take(key) {
            None | Some(Json::Null) => Ok(None),
            Some(json) => Ok(Some(Self::Files(named(key, texts(json))?))),
        }
    }

    /// Base64 under `key`.
    pub(super) fn take_data(object: &mut Object, key: &str) -> Result<Option<Self>, Problem> {
        match object.take(key) {
            None | Some(Json::Null) => Ok(None),
            Some(json) => Ok(Some(Self::Inline(vec![named(key, json.base64())?]))),
        }
    }

    /// Several pieces in base64 under `key`, at least one where the key is there.
    pub(super) fn take_datas(object: &mut Object, key: &str) -> Result<Option<Self>, Problem> {
        let decode = |json: Json| json.list()?.into_iter().map(Json::base64).collect();
        let list: Result<Option<Vec<_>>, _> = object.take(key).map(decode).transpose();
        let list = filled(key, named(key, list)?)?;
        Ok(list.map(Self::Inline))
    }
}

fn filled<T>(key: &str, list: Option<Vec<T>>) -> Result<Option<Vec<T>>, Problem> {
    match list {
        Some(list) if list.is_empty() => Err(format!("{key} is empty")),
        list => Ok(list),
    }
}

fn texts(json: Json) -> Result<Vec<PathBuf>, Problem> {
    let texts = json.list()?.into_iter().map(Json::text);
    texts.map(|text| text.map(PathBuf::from)).collect()
}

fn read(file: &Path) -> Result<Piece, Problem> {
    let place = file.display().to_string();
    match read_bounded(file, MAX_KEY_BYTES) {
        Ok(bytes) => Ok(Piece { place, bytes }),
        Err(error) => Err(format!("the key file {place} cannot be read: {error}")),
    }
}

/// Reads a file of at most `limit` bytes.
pub(super) fn read_bounded(file: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = File::open(file)?.take(limit + 1);
    reader.read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}
