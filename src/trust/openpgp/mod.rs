//! OpenPGP messages with a signature inside, as GPG simple signing has them (RFC 9580, 10.3; version 3
//! signatures, too): a keyring and a message come in; what was signed and by which certificate goes
//! out. Packets and arithmetic are rPGP's; whether a key may sign, now, is decided here as GnuPG does.
//! Never starts a program, never looks into anybody's own keyring, and never tries a trust model:
//! whoever is in the keyring is trusted, for that is what a policy says.

mod keyring;
mod made;

use std::io::Read;

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    CompressedData, Packet, PacketParser, Signature, SignatureType, Subpacket, SubpacketData,
};

pub use keyring::Keyring;

use super::json::Problem;

/// The largest message that is read, in bytes, compressed or not; real ones have a thousand.
const MAX_MESSAGE: usize = 4 << 20;
/// Packets of a message: a signature in front or behind, the data, and markers that mean nothing.
const MAX_PACKETS: usize = 16;

/// A message with a good signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What was signed.
    pub content: Vec<u8>,
    /// Fingerprint of the certificate's primary key, upper-case hex.
    pub certificate: String,
    /// Fingerprint of the subkey that signed, where it was not the primary key.
    pub subkey: Option<String>,
}

/// A message taken apart; nothing of it is verified.
#[derive(Debug)]
struct Message {
    content: Vec<u8>,
    signature: Signature,
}

impl Keyring {
    /// Verifies a message that was signed once, at `now` (seconds since 1970).
    pub fn verify(&self, message: &[u8], now: i64) -> Result<Signed, String> {
        let message = Message::parse(message)?;
        check_signature(&message.signature, now)?;
        let signer = self.signer(&message.signature, &message.content, now)?;
        Ok(Signed {
            content: message.content,
            certificate: signer.certificate,
            subkey: signer.subkey,
        })
    }
}

impl Message {
    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.len() > MAX_MESSAGE {
            return Err(format!("the signature is larger than {MAX_MESSAGE} bytes"));
        }
        let mut packets = packets(bytes)?;
        if let [Packet::CompressedData(compressed)] = &*packets {
            packets = self::packets(&decompress(compressed)?)?;
        }
        match <[Packet; 3]>::try_from(packets) {
            Ok(
                [
                    Packet::OnePassSignature(_),
                    Packet::LiteralData(data),
                    Packet::Signature(signature),
                ],
            ) => Ok(Self::new(data.data(), signature)),
            Ok(_) => Err(NOT_ONE.into()),
            Err(packets) => match <[Packet; 2]>::try_from(packets) {
                Ok([Packet::Signature(signature), Packet::LiteralData(data)]) => {
                    Ok(Self::new(data.data(), signature))
                }
                _ => Err(NOT_ONE.into()),
            },
        }
    }

    fn new(content: &[u8], signature: Signature) -> Self {
        Self {
            content: content.into(),
            signature,
        }
    }
}

const NOT_ONE: &str = "the signature is no OpenPGP message with exactly one signature";

/// The packets of a message but for markers.
fn packets(bytes: &[u8]) -> Result<Vec<Packet>, Problem> {
    let mut found = Vec::new();
    for packet in PacketParser::new(bytes).take(MAX_PACKETS) {
        // What rPGP says holds whole packets, and a backtrace where those are asked for.
        match packet.map_err(|_| "the signature is no OpenPGP message, or a damaged one")? {
            Packet::Marker(_) => {}
            packet => found.push(packet),
        }
    }
    Ok(found)
}

fn decompress(compressed: &CompressedData) -> Result<Vec<u8>, Problem> {
    let bad = |error: &dyn std::fmt::Display| format!("the signature cannot be unpacked: {error}");
    let reader = compressed.decompress().map_err(|error| bad(&error))?;
    let mut bytes = Vec::new();
    let read = reader.take(MAX_MESSAGE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| bad(&error))?;
    match bytes.len() > MAX_MESSAGE {
        true => Err(bad(&format!("it is larger than {MAX_MESSAGE} bytes"))),
        false => Ok(bytes),
    }
}

/// What a signature of data must be, whoever made it.
fn check_signature(signature: &Signature, now: i64) -> Result<(), Problem> {
    match signature.typ() {
        Some(SignatureType::Binary | SignatureType::Text) => {}
        other => return Err(format!("a signature of kind {other:?} does not sign data")),
    }
    match signature.hash_alg() {
        Some(hash) if is_strong(hash) => {}
        other => return Err(format!("the signature uses {other:?}, which is too weak")),
    }
    if has_unknown_critical(signature) {
        return Err("the signature has a critical part that is not known here".into());
    }
    match expiry(signature) {
        Some(at) if at <= now => Err(format!("the signature expired at {}", words(at))),
        _ => Ok(()),
    }
}

/// Hashes that nobody can find collisions for.
const fn is_strong(hash: HashAlgorithm) -> bool {
    use HashAlgorithm as H;
    matches!(
        hash,
        H::Sha256 | H::Sha384 | H::Sha512 | H::Sha224 | H::Sha3_256 | H::Sha3_512
    )
}

/// Whoever does not know a critical part must not believe the signature (RFC 9580, 5.2.3.7).
fn has_unknown_critical(signature: &Signature) -> bool {
    let unknown = |part: &Subpacket| {
        part.is_critical
            && matches!(
                part.data,
                SubpacketData::Notation(_)
                    | SubpacketData::Experimental(..)
                    | SubpacketData::Other(..)
            )
    };
    let config = signature.config();
    config.is_none_or(|config| config.hashed_subpackets().any(unknown))
}

fn created(signature: &Signature) -> Option<i64> {
    signature.created().map(chrono::DateTime::timestamp)
}

/// When a signature runs out, if ever.
fn expiry(signature: &Signature) -> Option<i64> {
    let after = signature.signature_expiration_time()?.num_seconds();
    let created = created(signature)?;
    (after > 0).then(|| created.saturating_add(after))
}

/// A time for messages.
fn words(seconds: i64) -> String {
    let time = chrono::DateTime::from_timestamp(seconds, 0);
    time.map_or_else(
        || seconds.to_string(),
        |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

#[cfg(test)]
mod tests;
