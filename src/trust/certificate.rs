//! Certificates of sigstore signers: a leaf and its chain, authorities, and a time come in; the
//! leaf's key goes out, or what is wrong with it. Paths are built and verified by webpki; what it
//! leaves to others (Fulcio's issuer, e-mail addresses, how long an authority itself is valid) is
//! looked at here. Never asks for revocation lists: none exist for these certificates.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{
    EndEntityCert, Error as PathError, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext,
};
use x509_cert::Certificate;
use x509_cert::der::asn1::Utf8StringRef;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::ObjectIdentifier;

use super::json::Problem;
use super::pem;
use super::public_key::PublicKey;

/// Fulcio's issuer of identities, plain text (github.com/sigstore/fulcio, docs/oid-info.md).
const ISSUER_V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
/// The same, a DER text.
const ISSUER_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
/// Purposes that a signer's certificate may have: code signing (RFC 5280, 4.2.1.12), or any.
const PURPOSES: [&[usize]; 2] = [&[1, 3, 6, 1, 5, 5, 7, 3, 3], &[2, 5, 29, 37, 0]];

/// The first of them, DER.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

/// What a signature brings along.
#[derive(Debug, Clone, Copy)]
pub(super) struct Presented<'a> {
    /// The signer's certificate, PEM.
    pub(super) leaf: &'a [u8],
    /// Certificates between it and an authority, PEM, the authority's own last.
    pub(super) chain: Option<&'a [u8]>,
}

/// The authorities of a policy.
#[derive(Debug)]
pub(super) struct Authorities {
    /// DER.
    roots: Vec<Vec<u8>>,
    /// DER.
    intermediates: Vec<Vec<u8>>,
}

/// A certificate that leads to an authority.
#[derive(Debug)]
pub(super) struct Verified {
    certificate: Certificate,
    der: Vec<u8>,
}

impl Authorities {
    /// Takes PEM texts; at least one root must be there.
    pub(super) fn parse(roots: &[u8], intermediates: Option<&[u8]>) -> Result<Self, Problem> {
        let roots = pem::certificates(roots, "the authority's file")?;
        if roots.is_empty() {
            return Err("the authority's file has no certificate".into());
        }
        let intermediates = match intermediates {
            Some(text) => pem::certificates(text, "the file of intermediates")?,
            None => Vec::new(),
        };
        Ok(Self {
            roots,
            intermediates,
        })
    }

    /// Finds a path from the leaf to a root, all of it valid at `time`, in seconds since 1970.
    pub(super) fn verify(&self, presented: Presented<'_>, time: i64) -> Result<Verified, Problem> {
        let leaf = pem::only(presented.leaf, "the certificate")?.der;
        let mut chain = match presented.chain {
            Some(chain) => pem::certificates(chain, "the certificate's chain")?,
            None => Vec::new(),
        };
        // The last one is the authority's, which is believed only where the policy has it.
        chain.pop();
        let between = self.intermediates.iter().chain(&chain);
        let between: Vec<_> = between.map(|der| CertificateDer::from(&**der)).collect();
        self.find_path(&leaf, &between, time)?;
        let bad = |error| format!("the certificate cannot be read: {error}");
        let certificate = Certificate::from_der(&leaf).map_err(bad)?;
        Ok(Verified {
            certificate,
            der: leaf,
        })
    }

    fn find_path(
        &self,
        leaf: &[u8],
        between: &[CertificateDer<'_>],
        time: i64,
    ) -> Result<(), Problem> {
        let bad = |error: PathError| format!("the certificate is not trusted: {error}");
        let seconds = u64::try_from(time).map_err(|_| "the time lies before 1970")?;
        let roots = self.roots.iter().filter(|root| is_valid_at(root, seconds));
        let roots: Vec<_> = roots.map(|der| CertificateDer::from(&**der)).collect();
        let anchors = roots.iter().map(webpki::anchor_from_trusted_cert);
        let anchors = anchors.collect::<Result<Vec<_>, _>>().map_err(bad)?;
        let leaf = CertificateDer::from(leaf);
        let leaf = EndEntityCert::try_from(&leaf).map_err(bad)?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let path =
            leaf.verify_for_usage(algorithms, &anchors, between, time, CodeSigning, None, None);
        path.map(|_| ()).map_err(bad)
    }
}

/// webpki takes an authority as given; an authority that has run out is none.
fn is_valid_at(der: &[u8], seconds: u64) -> bool {
    let at = Duration::from_secs(seconds);
    Certificate::from_der(der).is_ok_and(|certificate| {
        let validity = certificate.tbs_certificate.validity;
        validity.not_before.to_unix_duration() <= at && at <= validity.not_after.to_unix_duration()
    })
}

/// Certificates for signing code, or for anything, or without a word about it.
#[derive(Debug, Clone, Copy)]
struct CodeSigning;

impl ExtendedKeyUsageValidator for CodeSigning {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), PathError> {
        let mut present = Vec::new();
        for purpose in purposes {
            let purpose = purpose?.to_decoded_oid();
            if PURPOSES.contains(&&*purpose) {
                return Ok(());
            }
            present.push(purpose);
        }
        match present.is_empty() {
            true => Ok(()),
            false => Err(PathError::RequiredEkuNotFoundContext(
                RequiredEkuNotFoundContext {
                    required: KeyUsage::required_if_present(CODE_SIGNING),
                    present,
                },
            )),
        }
    }
}

impl Verified {
    pub(super) fn key(&self) -> Result<PublicKey, Problem> {
        let info = &self.certificate.tbs_certificate.subject_public_key_info;
        let info = info.to_der().map_err(|error| error.to_string())?;
        PublicKey::of_info(&info)
    }

    /// Insists on an e-mail address, compared byte by byte.
    pub(super) fn require_email(&self, wanted: &str) -> Result<(), Problem> {
        let emails = self.emails()?;
        match emails.iter().any(|email| email == wanted) {
            true => Ok(()),
            false => Err(format!(
                "the certificate is not for {wanted} but for {emails:?}"
            )),
        }
    }

    fn emails(&self) -> Result<Vec<String>, Problem> {
        let Some(value) = self.extension(SUBJECT_ALT_NAME)? else {
            return Ok(Vec::new());
        };
        let names = SubjectAltName::from_der(value);
        let names = names.map_err(|error| format!("the certificate's names: {error}"))?;
        let emails = names.0.iter().filter_map(|name| match name {
            GeneralName::Rfc822Name(email) => Some(email.to_string()),
            _ => None,
        });
        Ok(emails.collect())
    }

    /// Insists on a host name.
    pub(super) fn require_hostname(&self, wanted: &str) -> Result<(), Problem> {
        let name = ServerName::try_from(wanted);
        let name = name.map_err(|_| format!("{wanted:?} is no host name"))?;
        let leaf = CertificateDer::from(&*self.der);
        let leaf = EndEntityCert::try_from(&leaf).map_err(|error| error.to_string())?;
        let fits = leaf.verify_is_valid_for_subject_name(&name);
        fits.map_err(|error| format!("the certificate is not for host {wanted}: {error}"))
    }

    /// Who told Fulcio the signer's identity.
    pub(super) fn issuer(&self) -> Result<String, Problem> {
        let plain = self.extension(ISSUER_V1)?.map(|value| {
            let text = String::from_utf8(value.into());
            text.map_err(|_| "the certificate's issuer of identities is not UTF-8")
        });
        let der = self.extension(ISSUER_V2)?.map(|value| {
            let text = Utf8StringRef::from_der(value).map(|text| text.to_string());
            text.map_err(|_| "the certificate's issuer of identities is malformed")
        });
        match (plain.transpose()?, der.transpose()?) {
            (Some(one), Some(two)) if one != two => Err(format!(
                "the certificate has two issuers of identities, {one:?} and {two:?}"
            )),
            (Some(issuer), _) | (None, Some(issuer)) => Ok(issuer),
            (None, None) => Err("the certificate has no issuer of identities".into()),
        }
    }

    /// The value of an extension; one that stands twice is an error.
    fn extension(&self, id: ObjectIdentifier) -> Result<Option<&[u8]>, Problem> {
        let all = self.certificate.tbs_certificate.extensions.iter().flatten();
        let mut found = all.filter(|extension| extension.extn_id == id);
        let first = found
            .next()
            .map(|extension| extension.extn_value.as_bytes());
        match found.next() {
            Some(_) => Err(format!("the certificate has extension {id} twice")),
            None => Ok(first),
        }
    }
}

/// Reads certificates as authorities, as what leads to them and as a signer's.
#[cfg(feature = "testing")]
pub(super) fn probe(data: &[u8]) {
    let presented = Presented {
        leaf: data,
        chain: Some(data),
    };
    // What they find is looked at by the tests; here only that they end.
    if let Ok(authorities) = Authorities::parse(data, Some(data)) {
        drop(authorities.verify(presented, 1_700_000_000));
    }
    let der = pem::only(data, "it").map_or_else(|_| data.to_vec(), |block| block.der);
    if let Ok(certificate) = Certificate::from_der(&der) {
        let leaf = Verified { certificate, der };
        drop((
            leaf.issuer(),
            leaf.emails(),
            leaf.key(),
            leaf.require_hostname("a.example"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_yaml_ng::Value;

    use super::*;
    use crate::image::vectors::{list, load, text};

    fn read(folder: &Path, case: &Value, key: &str) -> Option<Vec<u8>> {
        let file = case[key].as_str()?;
        Some(std::fs::read(folder.join(file)).unwrap())
    }

    #[test]
    fn fulcio_agrees_with_containers_image() {
        let Some((folder, table)) = load("signatures") else {
            return;
        };
        for case in list(&table, "fulcio_certificates") {
            let (leaf, ca) = (read(&folder, case, "leaf"), read(&folder, case, "ca"));
            let chain = read(&folder, case, "chain");
            let check = || {
                let authorities = Authorities::parse(&ca.unwrap(), None)?;
                let leaf = leaf.unwrap();
                let presented = Presented {
                    leaf: &leaf,
                    chain: chain.as_deref(),
                };
                let leaf = authorities.verify(presented, case["at_time"].as_i64().unwrap())?;
                let issuer = leaf.issuer()?;
                if issuer != text(case, "oidc_issuer") {
                    return Err(issuer);
                }
                leaf.require_email(text(case, "subject_email"))?;
                leaf.key().map(|_| ())
            };
            let found: Result<(), Problem> = check();
            let expected = text(case, "expect") == "accept";
            assert_eq!(found.is_ok(), expected, "{case:?}: {found:?}");
        }
    }

    #[test]
    fn issuers_agree_with_containers_image() {
        let Some((folder, table)) = load("signatures") else {
            return;
        };
        for case in list(&table["fulcio_issuers"], "cases") {
            let pem = read(&folder, case, "leaf").unwrap();
            let der = pem::only(&pem, "it").unwrap().der;
            let leaf = Verified {
                certificate: Certificate::from_der(&der).unwrap(),
                der,
            };
            let found = leaf.issuer();
            match text(case, "expect") {
                "ok" => assert_eq!(found.as_deref(), Ok(text(case, "issuer")), "{case:?}"),
                _ => assert!(found.is_err(), "{case:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn pki_agrees_with_containers_image() {
        let Some((folder, table)) = load("signatures") else {
            return;
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = i64::try_from(now.unwrap().as_secs()).unwrap();
        for case in list(&table, "pki_certificates") {
            let file = |key: &str| read(&folder, case, key);
            let (leaf, chain) = (file("leaf").unwrap(), file("chain"));
            let (roots, between) = (file("roots").unwrap(), file("intermediates"));
            let check = || {
                let presented = Presented {
                    leaf: &leaf,
                    chain: chain.as_deref(),
                };
                let authorities = Authorities::parse(&roots, between.as_deref())?;
                let leaf = authorities.verify(presented, now)?;
                if let Some(email) = case["subject_email"].as_str() {
                    leaf.require_email(email)?;
                }
                if let Some(host) = case["subject_hostname"].as_str() {
                    leaf.require_hostname(host)?;
                }
                leaf.key().map(|_| ())
            };
            let found: Result<(), Problem> = check();
            let expected = text(case, "expect") == "accept";
            assert_eq!(found.is_ok(), expected, "{case:?}: {found:?}");
        }
    }
}
