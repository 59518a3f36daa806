//! How to reach a hub: its address, TLS, and the token that says who asks.

use crate::tls::{self, FileFault};
use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt;

/// What a client shows and trusts.
#[derive(Clone, Default)]
pub struct Access {
    /// The authority of the hub's certificate. `None`: those that this machine trusts.
    pub authority: Option<PathBuf>,
    /// The client's own certificate, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Who asks.
    pub token: Token,
}

/// A bearer token.
#[derive(Clone, Default)]
pub enum Token {
    /// None is sent.
    #[default]
    None,
    /// This one.
    Given(Arc<str>),
    /// The content of this file when a call begins: the file may be replaced at any time.
    File(Arc<Path>),
}

/// Why a hub cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum BadAddress {
    /// It names a protocol that a hub does not speak.
    #[error("a hub does not speak {0}: its address is HOST:PORT, http://HOST:PORT or https://HOST:PORT")]
    Scheme(String),
    /// It does not parse.
    #[error("the address of a hub is HOST:PORT, http://HOST:PORT or https://HOST:PORT")]
    Url(#[source] tonic::transport::Error),
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileFault),
    /// The files do not fit each other.
    #[error("the certificate and the key of this client cannot be used together")]
    Files(#[source] tonic::transport::Error),
    /// Certificates were given for plain text.
    #[error("--ca-file, --client-cert and --client-key are for an address that begins with https://")]
    PlainText,
    /// Everybody on the way could read the token and use it.
    #[error("a token is not sent in plain text to another machine: use an address that begins with https://")]
    TokenInTheClear,
}

/// A hub at an address.
#[derive(Clone)]
pub struct Hub {
    endpoint: Endpoint,
    bearer: Bearer,
}

/// A connection to a hub, which adds the token to every call.
pub type Link = InterceptedService<Channel, Bearer>;

impl Hub {
    /// A hub at a URL, or at a host and port. Nothing is sent yet. A hub that vanishes later is noticed.
    pub fn new(server: &str, access: &Access) -> Result<Self, BadAddress> {
        let (url, encrypted) = match server.split_once("://") {
            None => (format!("http://{server}"), false),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => (server.to_owned(), false),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => (server.to_owned(), true),
            Some((scheme, _)) => return Err(BadAddress::Scheme(scheme.to_owned())),
        };
        let mut endpoint = Endpoint::from_str(&url)
            .map_err(BadAddress::Url)?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        if encrypted {
            endpoint = endpoint.tls_config(tls_config(access)?).map_err(BadAddress::Files)?;
        } else if access.authority.is_some() || access.identity.is_some() {
            return Err(BadAddress::PlainText);
        } else if !matches!(access.token, Token::None) && !is_loopback(&endpoint) {
            return Err(BadAddress::TokenInTheClear);
        }
        Ok(Self { endpoint, bearer: Bearer(access.token.clone()) })
    }

    /// Whether a call that ended so may be made again: a token that has expired is read anew from its file.
    pub fn has_another_token(&self, status: &Status) -> bool {
        let reason = status.get_details_error_info().map(|info| info.reason);
        matches!(self.bearer.0, Token::File(_)) && reason.is_some_and(|reason| reason == "TOKEN_EXPIRED")
    }

    /// With a limit on every call.
    pub fn timeout(self, limit: Duration) -> Self {
        Self { endpoint: self.endpoint.timeout(limit), ..self }
    }

    /// A connection. If there is none to be had, the error is UNAVAILABLE, and the caller may try again.
    pub async fn connect(&self) -> Result<Link, Status> {
        let channel = self.endpoint.connect().await.map_err(|error| Status::from_error(Box::new(error)))?;
        Ok(InterceptedService::new(channel, self.bearer.clone()))
    }

    /// A connection that is made at the first call, and again when it is lost.
    pub fn connect_lazy(&self) -> Link {
        InterceptedService::new(self.endpoint.connect_lazy(), self.bearer.clone())
    }
}

fn tls_config(access: &Access) -> Result<ClientTlsConfig, BadAddress> {
    let mut config = ClientTlsConfig::new().timeout(Duration::from_secs(10));
    config = match &access.authority {
        Some(path) => {
            let pem = tls::read(path)?;
            tls::roots(path, &pem)?;
            config.ca_certificate(Certificate::from_pem(pem))
        }
        None => {
            tls::system_roots()?;
            config.with_native_roots()
        }
    };
    if let Some((certificate, key)) = &access.identity {
        let (chain, secret) = (tls::read(certificate)?, tls::read(key)?);
        tls::certificates(certificate, &chain)?;
        tls::private_key(key, &secret)?;
        config = config.identity(Identity::from_pem(chain, secret));
    }
    Ok(config)
}

fn is_loopback(endpoint: &Endpoint) -> bool {
    let host = endpoint.uri().host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Adds the token to a call.
#[derive(Clone)]
pub struct Bearer(Token);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = match &self.0 {
            Token::None => return Ok(request),
            Token::Given(token) => token.to_string(),
            Token::File(path) => fs::read_to_string(path).map_err(|error| {
                Status::unauthenticated(format!("the token file {}: {error}", path.display()))
            })?,
        };
        let value = MetadataValue::<Ascii>::try_from(format!("Bearer {}", token.trim()));
        let mut value =
            value.map_err(|_| Status::unauthenticated("the token has characters that no token has"))?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(server: &str, access: Access) -> Result<Hub, BadAddress> {
        Hub::new(server, &access)
    }

    #[test]
    fn addresses_say_how_a_hub_is_reached() {
        for good in ["localhost:9000", "http://localhost:9000", "HTTP://[::1]:9000", "hub"] {
            assert!(hub(good, Access::default()).is_ok(), "{good}");
        }
        for other in ["ftp://localhost:9000", "://localhost"] {
            assert!(matches!(hub(other, Access::default()), Err(BadAddress::Scheme(_))), "{other}");
        }
        for bad in ["", "http://", "a b"] {
            assert!(matches!(hub(bad, Access::default()), Err(BadAddress::Url(_))), "{bad}");
        }
    }

    #[test]
    fn a_token_is_not_shown_to_whoever_listens() {
        let access = || Access { token: Token::Given("secret".into()), ..Access::default() };
        for local in ["localhost:9000", "http://127.0.0.2:9000", "http://[::1]:9000"] {
            assert!(hub(local, access()).is_ok(), "{local}");
        }
        for far in ["hub:9000", "http://10.0.0.1:9000", "http://localhost.example:9000"] {
            assert!(matches!(hub(far, access()), Err(BadAddress::TokenInTheClear)), "{far}");
        }
        let mut bearer = Bearer(Token::Given("secret\n".into()));
        let request = bearer.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer secret");
        assert!(!format!("{request:?}").contains("secret"), "{request:?}");
    }

    #[test]
    fn what_is_for_tls_is_not_silently_left_out() {
        let access = Access { authority: Some("/nowhere.pem".into()), ..Access::default() };
        assert!(matches!(hub("http://localhost:1", access.clone()), Err(BadAddress::PlainText)));
        assert!(matches!(hub("https://localhost:1", access), Err(BadAddress::File(_))));
    }
}
