//! The TLS side of a registry's client: which CAs are trusted, which of the client certificates is shown.
//! Files come in through `certs`; a configuration goes out. Never changes what the process
//! trusts elsewhere: the crypto provider is given to each configuration.

use std::sync::{Arc, OnceLock};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, SignatureScheme,
};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use crate::transport::certs::HostCerts;
use crate::transport::{Error, SourceOptions};

/// The TLS configuration for a host. `insecure` takes any certificate.
pub(super) fn config(
    host: &str,
    insecure: bool,
    options: &SourceOptions,
) -> Result<ClientConfig, Error> {
    let certs = HostCerts::load(host, &options.host)?;
    let provider = Arc::new(ring::default_provider());
    let bad = |error: rustls::Error| {
        Error::Config(format!(
            "the certificates for {host} cannot be used: {error}"
        ))
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(bad)?;
    let builder = match insecure {
        true => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider.clone()))),
        false => builder.with_root_certificates(roots(&certs).map_err(bad)?),
    };
    let mut config = match certs.clients.is_empty() {
        true => builder.with_no_client_auth(),
        false => {
            let clients = Clients::new(certs.clients, &provider).map_err(bad)?;
            builder.with_client_cert_resolver(Arc::new(clients))
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The system's CAs and those of the host's directory.
fn roots(certs: &HostCerts) -> Result<Arc<RootCertStore>, rustls::Error> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let system = SYSTEM.get_or_init(|| Arc::new(system_roots())).clone();
    if certs.authorities.is_empty() {
        return Ok(system);
    }
    let mut roots = RootCertStore::clone(&system);
    for authority in &certs.authorities {
        roots.add(authority.clone())?;
    }
    Ok(Arc::new(roots))
}

/// What the system trusts. A host without any CA can still use loopback and insecure registries;
/// for the others the handshake says what is missing.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("reading the system's CA certificates: {error}");
    }
    let (used, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!("{used} system CA certificates, {ignored} of them unusable");
    roots
}

/// The client certificates for a host.
#[derive(Debug)]
struct Clients(Vec<Arc<CertifiedKey>>);

impl Clients {
    /// Takes certificates of every version: OpenSSL has long made some that rustls would not take from
    /// others, and whether they are good is for the registry to say.
    fn new(
        pairs: Vec<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        provider: &CryptoProvider,
    ) -> Result<Self, rustls::Error> {
        let certified = pairs.into_iter().map(|(chain, key)| {
            let key = provider.key_provider.load_private_key(key)?;
            let certified = CertifiedKey::new(chain, key);
            match certified.keys_match() {
                Err(error @ rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                    Err(error)
                }
                _ => Ok(Arc::new(certified)),
            }
        });
        certified.collect::<Result<_, _>>().map(Self)
    }
}

impl ResolvesClientCert for Clients {
    /// The first that one of the authorities has issued which the registry names, else the first.
    fn resolve(&self, names: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let is_known = |cert: &CertificateDer<'_>| {
            let parsed = Certificate::from_der(cert);
            let issuer = parsed.and_then(|cert| cert.tbs_certificate.issuer.to_der());
            issuer.is_ok_and(|issuer| names.contains(&&*issuer))
        };
        let mut known = self.0.iter().filter(|key| key.cert.iter().any(is_known));
        known.next().or_else(|| self.0.first()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Trusts every server certificate, for registries that registries.conf marks as insecure. The
/// handshake must still be made with the key of the certificate that is shown.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
