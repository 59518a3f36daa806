//! Verifies a Postgres server's certificate.

use crate::tls::{self, Validity};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use std::sync::Arc;
use x509_cert::{
    Certificate,
    der::{
        Decode,
        asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef},
        oid::db::rfc4519::COMMON_NAME,
    },
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// What a certificate must fulfil.
#[derive(Debug)]
pub(super) enum Trust {
    /// Nothing: the connection is private, but who is at its other end is not known.
    Anybody,
    /// It is signed by one of these, or is one of these.
    Signed(Roots),
    /// And it is for the host that was asked for.
    Named(Roots),
}

/// Certificates of authorities.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) store: RootCertStore,
    /// The same certificates as in the file: a server's own certificate may be among them, as
    /// `openssl req -x509` makes it.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) trust: Trust,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Anybody => {}
            Trust::Signed(roots) => self.is_signed(roots, certificate, intermediates, now)?,
            Trust::Named(roots) => {
                self.is_signed(roots, certificate, intermediates, now)?;
                is_for(certificate, host)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Verifier {
    fn is_signed(
        &self,
        roots: &Roots,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // A certificate that is itself trusted needs no signature, but must be valid now.
        if roots.certificates.iter().any(|trusted| trusted == certificate) {
            return match tls::validity(certificate, now) {
                Some(Validity::Now) => Ok(()),
                Some(Validity::Expired) => Err(CertificateError::Expired.into()),
                Some(Validity::NotYet) => Err(CertificateError::NotValidYet.into()),
                None => Err(CertificateError::BadEncoding.into()),
            };
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &roots.store,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )
    }
}

/// As libpq: by the alternative names; where there is none of the kind, by the common name.
fn is_for(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> Result<(), Error> {
    let Err(error) = verify_server_name(&ParsedCertificate::try_from(certificate)?, host) else {
        return Ok(());
    };
    let by_common_name = common_name(certificate).is_some_and(|name| fits(&name, &host.to_str()));
    if by_common_name { Ok(()) } else { Err(error) }
}

/// The common name, if the certificate has no alternative names of hosts, which would replace it.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?.tbs_certificate;
    if let Some((_, names)) = parsed.get::<SubjectAltName>().ok()?
        && names.0.iter().any(|name| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_)))
    {
        return None;
    }
    let mut parts = parsed.subject.0.iter().flat_map(|part| part.0.iter());
    let value = &parts.rfind(|part| part.oid == COMMON_NAME)?.value;
    let text = Utf8StringRef::try_from(value).map(|text| text.as_str().to_owned());
    let text = text.or_else(|_| PrintableStringRef::try_from(value).map(|text| text.as_str().to_owned()));
    text.or_else(|_| Ia5StringRef::try_from(value).map(|text| text.as_str().to_owned())).ok()
}

/// Whether a name, whose first label may be a star, matches a host.
fn fits(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(parent), Some((label, rest))) = (name.strip_prefix("*."), host.split_once('.')) else {
        return false;
    };
    !label.is_empty() && parent.contains('.') && parent.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(fits("db.example.org", "DB.example.org"));
        assert!(fits("*.example.org", "db.example.org"));
        for (name, host) in [
            ("*.example.org", "example.org"),
            ("*.example.org", "a.b.example.org"),
            ("*.org", "example.org"),
            ("*", "localhost"),
            ("db.example.org", "db.example.com"),
        ] {
            assert!(!fits(name, host), "{name} {host}");
        }
    }
}
