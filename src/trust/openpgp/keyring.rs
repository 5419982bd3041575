//! Certificates: key files come in; "this key of this certificate made that signature, and might" goes
//! out. Everything a certificate says about itself is verified: user IDs and subkeys that its primary
//! key did not sign do not exist.

use std::collections::BTreeMap;
use std::io::Cursor;

use pgp::armor::Dearmor;
use pgp::packet::{
    KeyFlags, Packet, PacketParser, PublicKey, PublicSubkey, Signature, SignatureType,
    SubpacketData, UserId,
};
use pgp::types::{KeyDetails, PublicKeyTrait, Tag};

use super::super::json::Problem;
use super::made::made;
use super::{created, expiry, has_unknown_critical, words};

/// Packets of all key files of a requirement.
const MAX_PACKETS: usize = 100_000;
const ARMOR: &str = "-----BEGIN PGP ";

/// The certificates of a requirement, by fingerprint.
#[derive(Debug, Default)]
pub struct Keyring {
    certificates: BTreeMap<String, Certificate>,
}

/// One certificate with all that was found of it.
#[derive(Debug)]
struct Certificate {
    primary: PublicKey,
    /// Signatures of the primary key itself: revocations and direct ones.
    direct: Vec<Signature>,
    users: Vec<(UserId, Vec<Signature>)>,
    subkeys: Vec<(PublicSubkey, Vec<Signature>)>,
}

/// Who made a signature.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signer {
    pub(super) certificate: String,
    pub(super) subkey: Option<String>,
}

/// Where the packets that follow belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Primary,
    User,
    Subkey,
}

impl Keyring {
    /// Takes the certificates of one more key file: binary or armored, one or many. What is no
    /// certificate is skipped, as GnuPG does.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        for part in dearmored(bytes)? {
            self.add_packets(&part);
        }
        Ok(())
    }

    /// Fingerprints of the primary keys, upper-case hex.
    pub fn fingerprints(&self) -> impl Iterator<Item = &str> {
        self.certificates.keys().map(|key| &**key)
    }

    fn add_packets(&mut self, bytes: &[u8]) {
        let (mut current, mut place) = (String::new(), Place::Nowhere);
        for packet in PacketParser::new(bytes).take(MAX_PACKETS) {
            match packet {
                Ok(Packet::PublicKey(key)) => {
                    current = fingerprint(&key);
                    place = Place::Primary;
                    self.certificates
                        .entry(current.clone())
                        .or_insert_with(|| Certificate::new(key));
                }
                Ok(packet) => match self.certificates.get_mut(&current) {
                    Some(certificate) => certificate.add(packet, &mut place),
                    None => self.add_revocation(packet),
                },
                // A key of a kind that is not known: what follows is not the last one's.
                Err(_) => place = Place::Nowhere,
            }
        }
    }

    /// A revocation that stands alone belongs to whoever made it.
    fn add_revocation(&mut self, packet: Packet) {
        if let Packet::Signature(signature) = packet {
            for certificate in self.certificates.values_mut() {
                certificate.direct.push(signature.clone());
            }
        }
    }

    /// Finds out who made a signature over `content`, and whether they might at `now`.
    pub(super) fn signer(
        &self,
        signature: &Signature,
        content: &[u8],
        now: i64,
    ) -> Result<Signer, Problem> {
        for certificate in self.certificates.values() {
            if let Some(found) = certificate.signer(signature, content, now) {
                return found;
            }
        }
        let mut ids = signature.issuer().into_iter().map(|id| id.to_string());
        let id = ids.next().unwrap_or_else(|| "no name".into());
        let known = |c: &Certificate| c.has_key(signature);
        Err(match self.certificates.values().any(known) {
            true => format!("the signature by key {} was changed", id.to_uppercase()),
            false => format!("the signature is by an unknown key, {}", id.to_uppercase()),
        })
    }
}

impl Certificate {
    const fn new(primary: PublicKey) -> Self {
        Self {
            primary,
            direct: Vec::new(),
            users: Vec::new(),
            subkeys: Vec::new(),
        }
    }

    fn add(&mut self, packet: Packet, place: &mut Place) {
        match packet {
            Packet::UserId(user) => {
                self.users.push((user, Vec::new()));
                *place = Place::User;
            }
            Packet::PublicSubkey(key) => {
                self.subkeys.push((key, Vec::new()));
                *place = Place::Subkey;
            }
            Packet::UserAttribute(_) => *place = Place::Nowhere,
            Packet::Signature(signature) => {
                let list = match place {
                    Place::Primary => Some(&mut self.direct),
                    Place::User => self.users.last_mut().map(|(_, list)| list),
                    Place::Subkey => self.subkeys.last_mut().map(|(_, list)| list),
                    Place::Nowhere => None,
                };
                // A revocation counts wherever it stands.
                match list {
                    Some(list) if signature.typ() != Some(SignatureType::KeyRevocation) => {
                        list.push(signature);
                    }
                    _ => self.direct.push(signature),
                }
            }
            _ => {}
        }
    }

    /// Whether a signature says that a key of this certificate made it.
    fn has_key(&self, signature: &Signature) -> bool {
        is_by(signature, &self.primary) || self.subkeys.iter().any(|(key, _)| is_by(signature, key))
    }

    /// `None` where none of the certificate's keys made the signature.
    fn signer(
        &self,
        signature: &Signature,
        content: &[u8],
        now: i64,
    ) -> Option<Result<Signer, Problem>> {
        if made(signature, &self.primary, content) {
            let may = self.check_primary(signature, now, true);
            return Some(may.map(|()| Signer {
                certificate: fingerprint(&self.primary),
                subkey: None,
            }));
        }
        let mut keys = self.subkeys.iter();
        let (key, bindings) = keys.find(|(key, _)| made(signature, key, content))?;
        let may = self.check_primary(signature, now, false);
        let may = may.and_then(|()| self.check_subkey(key, bindings, signature, now));
        Some(may.map(|()| Signer {
            certificate: fingerprint(&self.primary),
            subkey: Some(fingerprint(key)),
        }))
    }

    /// Whether the certificate as a whole is in force; `signs` where the primary key itself signed.
    fn check_primary(&self, signature: &Signature, now: i64, signs: bool) -> Result<(), Problem> {
        let name = format!("key {}", fingerprint(&self.primary));
        if self.is_revoked() {
            return Err(format!("{name} is revoked"));
        }
        let Some(own) = self.own_signature(now) else {
            return Err(format!("{name} does not vouch for any user ID of its own"));
        };
        check_time(&self.primary, own, signature, now).map_err(|why| format!("{name} {why}"))?;
        match signs && !may_sign(own) {
            true => Err(format!("{name} is not for signing")),
            false => Ok(()),
        }
    }

    /// By itself, or by one whom it named for that; the latter is taken at its word.
    fn is_revoked(&self) -> bool {
        let named = self.own_signatures().flat_map(revokers);
        let named: Vec<String> = named.collect();
        let by_other = |s: &Signature| {
            let mut fingerprints = s.issuer_fingerprint().into_iter();
            fingerprints.any(|by| named.contains(&format!("{by:X}")))
        };
        self.direct.iter().any(|signature| {
            signature.typ() == Some(SignatureType::KeyRevocation)
                && (signature.verify_key(&self.primary).is_ok() || by_other(signature))
        })
    }

    /// All that the primary key says of itself.
    fn own_signatures(&self) -> impl Iterator<Item = &Signature> {
        let direct = self.direct.iter().filter(|signature| {
            signature.typ() == Some(SignatureType::Key)
                && signature.verify_key(&self.primary).is_ok()
        });
        let users = self.users.iter().filter_map(move |(user, signatures)| {
            let own = |kind: fn(&Signature) -> bool| {
                let own = signatures.iter().filter(move |signature| {
                    let verified = signature.verify_certification(&self.primary, Tag::UserId, user);
                    kind(signature) && verified.is_ok()
                });
                own.max_by_key(|signature| created(signature))
            };
            let certified = own(|s| s.is_certification())?;
            let revoked = own(|s| s.typ() == Some(SignatureType::CertRevocation));
            let in_force = revoked.is_none_or(|r| created(r) < created(certified));
            in_force.then_some(certified)
        });
        direct.chain(users)
    }

    /// The newest of them that is in force.
    fn own_signature(&self, now: i64) -> Option<&Signature> {
        let in_force = |signature: &&Signature| {
            let ended = expiry(signature).is_some_and(|at| at <= now);
            !ended && !has_unknown_critical(signature)
        };
        let all = self.own_signatures().filter(in_force);
        all.max_by_key(|signature| created(signature))
    }

    fn check_subkey(
        &self,
        key: &PublicSubkey,
        bindings: &[Signature],
        signature: &Signature,
        now: i64,
    ) -> Result<(), Problem> {
        let name = format!("subkey {}", fingerprint(key));
        let verified = |s: &&Signature| s.verify_subkey_binding(&self.primary, key).is_ok();
        let of_kind = |kind: SignatureType| {
            let of_kind = bindings.iter().filter(move |s| s.typ() == Some(kind));
            of_kind.filter(verified)
        };
        if of_kind(SignatureType::SubkeyRevocation).next().is_some() {
            return Err(format!("{name} is revoked"));
        }
        let in_force =
            |s: &&Signature| expiry(s).is_none_or(|at| at > now) && !has_unknown_critical(s);
        let newest = of_kind(SignatureType::SubkeyBinding).filter(in_force);
        let Some(binding) = newest.max_by_key(|s| created(s)) else {
            return Err(format!("{name} does not belong to its certificate"));
        };
        check_time(key, binding, signature, now).map_err(|why| format!("{name} {why}"))?;
        if !may_sign(binding) {
            return Err(format!("{name} is not for signing"));
        }
        let back = binding.embedded_signature().is_some_and(|back| {
            back.typ() == Some(SignatureType::KeyBinding)
                && back.verify_primary_key_binding(key, &self.primary).is_ok()
        });
        match back {
            true => Ok(()),
            false => Err(format!("{name} never agreed to belong to its certificate")),
        }
    }
}

/// Whether a key was in force, by what its certificate says in `own`, when it signed and still is.
fn check_time(
    key: &impl PublicKeyTrait,
    own: &Signature,
    signature: &Signature,
    now: i64,
) -> Result<(), Problem> {
    let born = key.created_at().timestamp();
    let signed = created(signature).ok_or("made a signature that does not say when")?;
    if born > now {
        return Err(format!(
            "is from {}, which has not come yet (is the clock right?)",
            words(born)
        ));
    }
    if born > signed {
        return Err("is newer than the signature".into());
    }
    let after = own
        .key_expiration_time()
        .map_or(0, |after| after.num_seconds());
    match born.saturating_add(after) {
        end if after > 0 && end <= now => Err(format!("expired at {}", words(end))),
        _ => Ok(()),
    }
}

/// Without a word about it, a key is for everything.
fn may_sign(own: &Signature) -> bool {
    let flags = own.key_flags();
    flags == KeyFlags::default() || flags.sign()
}

fn revokers(own: &Signature) -> impl Iterator<Item = String> + '_ {
    let parts = own.config().into_iter().flat_map(|c| c.hashed_subpackets());
    parts.filter_map(|part| match &part.data {
        SubpacketData::RevocationKey(key) => {
            let hex = key.fingerprint.iter().map(|byte| format!("{byte:02X}"));
            Some(hex.collect())
        }
        _ => None,
    })
}

fn fingerprint(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

/// Whether a signature says that this key made it.
pub(super) fn is_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let (ids, fingerprints) = (signature.issuer(), signature.issuer_fingerprint());
    ids.contains(&&key.key_id()) || fingerprints.contains(&&key.fingerprint())
}

/// The binary parts of a key file: the file itself, or each of its armored blocks.
fn dearmored(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Problem> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if text.contains(ARMOR) => text,
        _ => return Ok(vec![bytes.into()]),
    };
    let starts: Vec<usize> = text.match_indices(ARMOR).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let parts = starts.iter().zip(ends).map(|(start, end)| {
        let mut armor = Dearmor::new(Cursor::new(&text.as_bytes()[*start..end]));
        let mut part = Vec::new();
        std::io::Read::read_to_end(&mut armor, &mut part)
            .map_err(|error| format!("the armor around a key is damaged: {error}"))?;
        Ok(part)
    });
    parts.collect()
}
