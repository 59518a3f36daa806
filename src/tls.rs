//! What both sides of TLS need: the one crypto provider, and certificates and keys from files.

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
};
use std::{
    fs, io,
    path::Path,
    sync::{Arc, LazyLock},
};
use x509_cert::{Certificate, der::Decode};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The crypto of every connection of this program.
pub fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// Makes it the process's default, for libraries that ask for that. Called once, at the start.
pub fn install_provider() {
    // An error says that one is installed already.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// Random bytes of the system's source, fit for secrets.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    PROVIDER.secure_random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system has no random bytes"))?;
    Ok(bytes)
}

/// A fault of a file of certificates or keys, in one line, never with its content.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FileFault(String);

impl FileFault {
    /// A fault of the file at `path`.
    pub fn new(path: &Path, what: impl std::fmt::Display) -> Self {
        Self(format!("{}: {what}", path.display()))
    }

    fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::new(path, format!("cannot be read: {error}"))
    }
}

/// The bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileFault> {
    fs::read(path).map_err(|error| FileFault::unreadable(path, &error))
}

/// The certificates in the text of a file, at least one. `path` is for the error.
pub fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(FileFault::new(path, "holds no certificate in PEM format")),
        Ok(found) => Ok(found),
        Err(_) => Err(FileFault::new(path, "is no PEM file of certificates")),
    }
}

/// The private key in the text of a file. `path` is for the error.
pub fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, FileFault> {
    if pem.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) {
        return Err(FileFault::new(path, "the key is encrypted with a password: decrypt it first"));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| FileFault::new(path, "holds no private key in PEM format"))
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// Certificates that others are to be signed by.
pub fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, FileFault> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(path, pem)?);
    if added == 0 {
        return Err(FileFault::new(path, "holds no certificate that others can be signed by"));
    }
    Ok(roots)
}

/// The certificates that this machine trusts.
pub fn system_roots() -> Result<RootCertStore, FileFault> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(FileFault(
            "this machine has no trusted certificates (Debian: apt install ca-certificates)".to_owned(),
        ));
    }
    Ok(roots)
}

/// When a certificate may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Not yet.
    NotYet,
    /// Now.
    Now,
    /// Not any more.
    Expired,
}

/// Whether a certificate may be used at a time; `None`: it does not parse.
pub fn validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<Validity> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let bounds = parsed.tbs_certificate.validity;
    Some(if now.as_secs() < bounds.not_before.to_unix_duration().as_secs() {
        Validity::NotYet
    } else if now.as_secs() > bounds.not_after.to_unix_duration().as_secs() {
        Validity::Expired
    } else {
        Validity::Now
    })
}
