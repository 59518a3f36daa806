//! Why there is no TLS with a Postgres server: one line each, with what to do.

use rustls::{AlertDescription, CertificateError, Error};
use std::io;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFault {
    /// It refused TLS.
    #[error("the server does not speak TLS: set ssl=on there, or use sslmode=prefer or disable")]
    NotSpoken,
    /// Its answer is not Postgres'.
    #[error("what answers is no Postgres, or cannot take a connection now")]
    NoPostgres,
    /// It did not answer.
    #[error("the server does not answer the TLS handshake")]
    Silent,
    /// The authority is unknown.
    #[error(
        "the server's certificate is not signed by a certificate in {roots}: sslrootcert must name the file \
         of its authority"
    )]
    UnknownAuthority { roots: String },
    /// The name does not match.
    #[error("the server's certificate is not for host {host}{}: use a name that is in it, or \
             sslmode=verify-ca",
        .names.iter().map(|names| format!(" but for {names}")).collect::<String>())]
    OtherName { host: String, names: Option<String> },
    /// It has expired, or is not valid yet.
    #[error("the server's certificate {when}: renew it on the server, or set this machine's clock")]
    OutOfTime { when: &'static str },
    /// The server demands a client certificate, or another one.
    #[error(
        "the server does not accept the client's certificate ({alert}): sslcert and sslkey must name one \
         that it trusts"
    )]
    ClientCertificate { alert: String },
    /// No common version or cipher.
    #[error(
        "the server and trex have no TLS version or cipher in common: see ssl_min_protocol_version on both \
         sides"
    )]
    NothingInCommon,
    /// It closed the connection.
    #[error("the server closed the connection during the TLS handshake: does its address take TLS{}?",
        if *.direct { ", and sslnegotiation=direct (Postgres 17)" } else { "" })]
    Closed { direct: bool },
    /// Anything else.
    #[error("TLS: {0}")]
    Other(String),
}

/// What an explanation needs to know.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where the authorities were read from.
    pub(super) roots: String,
    /// Whether the handshake began without a request.
    pub(super) direct: bool,
}

impl Context {
    /// Why a handshake with this host failed.
    pub(super) fn explain(&self, host: &str, error: &io::Error) -> TlsFault {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(fault)) => self.certificate(host, fault),
            Some(Error::PeerIncompatible(_)) => TlsFault::NothingInCommon,
            Some(Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
            )) => TlsFault::NothingInCommon,
            Some(error) => alert(error).unwrap_or_else(|| TlsFault::Other(error.to_string())),
            None if is_end(error.kind()) => TlsFault::Closed { direct: self.direct },
            None => TlsFault::Other(error.to_string()),
        }
    }

    /// The same for an error after the handshake, if it is a late answer to it.
    pub(super) fn refusal(&self, error: &io::Error) -> Option<TlsFault> {
        alert(error.get_ref()?.downcast_ref::<Error>()?)
    }

    fn certificate(&self, host: &str, fault: &CertificateError) -> TlsFault {
        let out_of_time = |when| TlsFault::OutOfTime { when };
        match fault {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsFault::UnknownAuthority { roots: self.roots.clone() }
            }
            CertificateError::NotValidForName => TlsFault::OtherName { host: host.to_owned(), names: None },
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names: Vec<_> = presented.iter().map(|name| plain_name(name)).collect();
                let names = (!names.is_empty()).then(|| names.join(", "));
                TlsFault::OtherName { host: host.to_owned(), names }
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => out_of_time("has expired"),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                out_of_time("is not valid yet")
            }
            CertificateError::BadEncoding => TlsFault::Other(
                "the server's certificate cannot be read: make a version 3 one, with a subjectAltName"
                    .to_owned(),
            ),
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => TlsFault::Other(format!(
                "the server's certificate is its own authority: put exactly that certificate into {}",
                self.roots
            )),
            other => TlsFault::Other(format!("the server's certificate is refused: {other}")),
        }
    }
}

/// Turns the library's `DnsName("db.example")` into `db.example`.
fn plain_name(presented: &str) -> String {
    presented.split('"').nth(1).unwrap_or(presented).to_owned()
}

fn is_end(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// The fault, if a server's alert is about the client's certificate.
fn alert(error: &Error) -> Option<TlsFault> {
    let Error::AlertReceived(alert) = error else { return None };
    let about_certificate = matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    );
    about_certificate.then(|| TlsFault::ClientCertificate { alert: format!("{alert:?}") })
}
