//! TLS towards clients: what a listener shows, how it is reloaded, and the handshake.
//!
//! A handshake costs a signature, some tenths of a millisecond in which its lane serves nobody. So a lane
//! makes only one between two turns of everything else ([`Turnstile`]); silent peers wait outside of it, for
//! at most [`LIMIT`].

use crate::tls::{self, FileFault, Validity};
use parking_lot::Mutex;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, UnixTime},
    server::{Acceptor, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

/// A handshake that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(10);
/// Handshakes in progress per lane; further clients are turned away. Silent peers count, so there is room for
/// many.
const UNDER_WAY: usize = 4096;

/// The oldest version to accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    #[value(name = "1.2")]
    V12,
    /// TLS 1.3.
    #[value(name = "1.3")]
    V13,
}

/// The protocol inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2, which gRPC is made of.
    Http2,
    /// HTTP/1.1.
    Http1,
    /// Either, as the client likes.
    Either,
}

/// Where a listener's certificate is.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority of client certificates, which every client must then show. `None`: none is asked for.
    pub client_authority: Option<PathBuf>,
}

/// The content of [`Files`], to recognise a change.
#[derive(PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authority: Option<Vec<u8>>,
}

/// TLS of a listener.
pub struct Tls {
    files: Files,
    protocol: Protocol,
    minimum: MinVersion,
    state: Mutex<State>,
    looks: AtomicU64,
}

struct State {
    config: Arc<ServerConfig>,
    content: Content,
    /// What was wrong at the last look: it is reported once.
    told: String,
}

impl Tls {
    /// Reads the files. An error is one line, without what is in them.
    pub fn new(files: Files, protocol: Protocol, minimum: MinVersion) -> Result<Self, FileFault> {
        let content = read(&files)?;
        let config = Arc::new(configure(&files, &content, protocol, minimum)?);
        let state = Mutex::new(State { config, content, told: String::new() });
        Ok(Self { files, protocol, minimum, state, looks: AtomicU64::new(0) })
    }

    /// Reads the files again. A change is used for new connections, as a whole or not at all; open ones stay
    /// as they are.
    pub fn reload(&self) {
        let content = read(&self.files);
        let mut state = self.state.lock();
        // Under the lock, so that a caller that has seen the count also sees the change, once it has the
        // lock.
        self.looks.fetch_add(1, Ordering::Relaxed);
        let configured = match content {
            Ok(content) if content == state.content => return state.told.clear(),
            Ok(content) => configure(&self.files, &content, self.protocol, self.minimum)
                .map(|config| (Arc::new(config), content)),
            Err(fault) => Err(fault),
        };
        match configured {
            Ok((config, content)) => {
                let certificate = self.files.certificate.display().to_string();
                tracing::info!(certificate, "a new certificate");
                *state = State { config, content, told: String::new() };
            }
            Err(fault) => {
                let fault = fault.to_string();
                if fault != state.told {
                    tracing::warn!(fault, "the certificate changed and cannot be used: the one before stays");
                    state.told = fault;
                }
            }
        }
    }

    /// How many times the files have been read again.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// Looks at them this often, until `stop`.
    pub async fn follow(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        let follow = async {
            let mut ticks = tokio::time::interval(every);
            loop {
                ticks.tick().await;
                let tls = self.clone();
                if let Err(error) = tokio::task::spawn_blocking(move || tls.reload()).await {
                    tracing::error!(%error, "reading the certificate");
                }
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    fn config(&self) -> Arc<ServerConfig> {
        self.state.lock().config.clone()
    }
}

fn read(files: &Files) -> Result<Content, FileFault> {
    Ok(Content {
        certificate: tls::read(&files.certificate)?,
        key: tls::read(&files.key)?,
        client_authority: files.client_authority.as_deref().map(tls::read).transpose()?,
    })
}

fn configure(
    files: &Files,
    content: &Content,
    protocol: Protocol,
    minimum: MinVersion,
) -> Result<ServerConfig, FileFault> {
    let chain = tls::certificates(&files.certificate, &content.certificate)?;
    let key = tls::private_key(&files.key, &content.key)?;
    let refuse = |what: &str| FileFault::new(&files.certificate, what);
    match chain.first().and_then(|first| tls::validity(first, UnixTime::now())) {
        Some(Validity::Now) => {}
        Some(Validity::Expired) => return Err(refuse("the certificate has expired")),
        Some(Validity::NotYet) => return Err(refuse("the certificate is not valid yet")),
        None => return Err(refuse("the certificate cannot be read")),
    }
    let versions: &[&SupportedProtocolVersion] = match minimum {
        MinVersion::V12 => &[&TLS13, &TLS12],
        MinVersion::V13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(versions)
        .map_err(|error| refuse(&error.to_string()))?;
    let builder = match (&files.client_authority, &content.client_authority) {
        (Some(path), Some(pem)) => {
            let roots = Arc::new(tls::roots(path, pem)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, tls::provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| FileFault::new(path, error))?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            FileFault::new(&files.key, format!("is not the key of {}", files.certificate.display()))
        }
        error => refuse(&error.to_string()),
    })?;
    let (http2, http1) = (b"h2".to_vec(), b"http/1.1".to_vec());
    config.alpn_protocols = match protocol {
        Protocol::Http2 => vec![http2],
        Protocol::Http1 => vec![http1],
        Protocol::Either => vec![http2, http1],
    };
    Ok(config)
}

/// The certificate that a client has shown and whose authority is trusted: an extension of its requests.
#[derive(Debug, Clone)]
pub struct PeerCertificate(pub Arc<CertificateDer<'static>>);

/// The certificate of the peer, if it has shown one.
pub(crate) fn peer_certificate<T>(stream: &TlsStream<T>) -> Option<PeerCertificate> {
    let shown = stream.get_ref().1.peer_certificates()?.first()?;
    Some(PeerCertificate(Arc::new(shown.clone().into_owned())))
}

/// Lets one handshake at a time sign, and a bounded number wait.
pub(crate) struct Turnstile {
    signing: Semaphore,
    under_way: Semaphore,
}

impl Turnstile {
    pub(crate) fn new() -> Self {
        Self { signing: Semaphore::new(1), under_way: Semaphore::new(UNDER_WAY) }
    }

    /// The encrypted connection, within [`LIMIT`].
    pub(crate) async fn handshake<T>(&self, tls: &Tls, socket: T) -> io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let _place =
            self.under_way.try_acquire().map_err(|_| io::Error::other("too many handshakes under way"))?;
        let handshake = async {
            let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
            let turn = self.signing.acquire().await.map_err(io::Error::other)?;
            // Everything else that is ready goes first; then comes the signature.
            tokio::task::yield_now().await;
            let accepted = hello.into_stream(tls.config());
            drop(turn);
            accepted.await
        };
        timeout(LIMIT, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use std::{fs, path::Path};

    fn write(folder: &Path, change: impl Fn(&mut CertificateParams)) -> Files {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let files = Files {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            client_authority: None,
        };
        fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn refusal(files: &Files) -> String {
        match Tls::new(files.clone(), Protocol::Http2, MinVersion::V12) {
            Err(fault) => fault.to_string(),
            Ok(_) => panic!("{files:?} were taken"),
        }
    }

    #[test]
    fn files_that_cannot_serve_are_refused_in_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path(), |_| {});
        assert!(Tls::new(files.clone(), Protocol::Http2, MinVersion::V13).is_ok());

        let other = tempfile::tempdir().unwrap();
        let others = write(other.path(), |_| {});
        let mixed = Files { key: others.key.clone(), ..files.clone() };
        assert!(refusal(&mixed).contains("is not the key of"), "{}", refusal(&mixed));
        let swapped =
            Files { certificate: files.key.clone(), key: files.certificate.clone(), ..files.clone() };
        assert!(refusal(&swapped).contains("no certificate"), "{}", refusal(&swapped));
        let keyless = Files { key: files.certificate.clone(), ..files.clone() };
        assert!(refusal(&keyless).contains("no private key"), "{}", refusal(&keyless));
        let missing = Files { key: "/nowhere.key".into(), ..files.clone() };
        assert!(refusal(&missing).starts_with("/nowhere.key: cannot be read"), "{}", refusal(&missing));
        let authority = Files { client_authority: Some(files.key.clone()), ..files };
        assert!(refusal(&authority).contains("no certificate"), "{}", refusal(&authority));

        let old = write(other.path(), |params| params.not_after = date_time_ymd(2020, 1, 1));
        assert!(refusal(&old).contains("has expired"), "{}", refusal(&old));
        let new = write(other.path(), |params| params.not_before = date_time_ymd(3000, 1, 1));
        assert!(refusal(&new).contains("not valid yet"), "{}", refusal(&new));
    }

    #[test]
    fn a_half_written_pair_keeps_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path(), |_| {});
        let tls = Tls::new(files.clone(), Protocol::Http2, MinVersion::V12).unwrap();
        let first = tls.config();
        tls.reload();
        assert!(Arc::ptr_eq(&first, &tls.config()), "nothing changed");

        let other = tempfile::tempdir().unwrap();
        let others = write(other.path(), |_| {});
        fs::copy(&others.certificate, &files.certificate).unwrap();
        tls.reload();
        assert!(Arc::ptr_eq(&first, &tls.config()), "half of it is there");
        fs::write(&files.key, "").unwrap();
        tls.reload();
        assert!(Arc::ptr_eq(&first, &tls.config()), "its end is missing");
        fs::copy(&others.key, &files.key).unwrap();
        tls.reload();
        let second = tls.config();
        assert!(!Arc::ptr_eq(&first, &second), "all of it is there");
        fs::remove_file(&files.key).unwrap();
        tls.reload();
        assert!(Arc::ptr_eq(&second, &tls.config()), "it is gone");
    }
}
