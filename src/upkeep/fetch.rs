//! A small document from an address: no redirects, no more than a bound, and within a few seconds.

use crate::tls;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{fmt, net::IpAddr, str::FromStr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// All of it must be there within this.
const LIMIT: Duration = Duration::from_secs(5);

/// Where a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    uri: Uri,
    host: String,
    port: u16,
    encrypted: bool,
}

impl FromStr for Place {
    type Err = anyhow::Error;

    /// `https`, or `http` on this machine: whoever is on the way could put keys of its own there.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let uri: Uri = text.parse().with_context(|| format!("{text:?} is no URL"))?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(&host) => false,
            _ => bail!("{text:?} is neither https nor on this machine"),
        };
        ensure!(!host.is_empty(), "{text:?} names no host");
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        Ok(Self { uri, host, port, encrypted })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The document at a place, if it has at most `most` bytes.
pub(super) async fn fetch(place: &Place, most: usize) -> anyhow::Result<Bytes> {
    let fetched = async {
        let stream = TcpStream::connect((&*place.host, place.port)).await?;
        if !place.encrypted {
            return get(place, stream, most).await;
        }
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(tls::system_roots()?)
            .with_no_client_auth();
        let name = ServerName::try_from(place.host.clone())?;
        get(place, TlsConnector::from(Arc::new(config)).connect(name, stream).await?, most).await
    };
    tokio::time::timeout(LIMIT, fetched).await.unwrap_or_else(|_| bail!("no answer within {LIMIT:?}"))
}

async fn get<T>(place: &Place, stream: T, most: usize) -> anyhow::Result<Bytes>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let path = place.uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = place.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let request = Request::get(path).header(HOST, authority).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status() == StatusCode::OK, "it answers {}", response.status());
    let body = Limited::new(response.into_body(), most).collect().await;
    Ok(body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    #[test]
    fn keys_are_not_fetched_in_plain_text() {
        for good in
            ["https://sso.example/keys", "http://localhost:1/keys", "http://127.0.0.1", "http://[::1]:8"]
        {
            assert!(good.parse::<Place>().is_ok(), "{good}");
        }
        for bad in ["http://sso.example/keys", "ftp://localhost", "", "sso.example", "https://", "/keys"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn only_a_whole_and_small_document_is_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{         }",
            "HTTP/1.1 302 Found\r\nlocation: http://elsewhere\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}",
        ];
        let server = tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 1024];
                let read = stream.read(&mut request).await.unwrap();
                assert!(request[..read].starts_with(b"GET /keys?x=1 HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let place: Place = format!("http://{address}/keys?x=1").parse().unwrap();
        assert_eq!(fetch(&place, 10).await.unwrap(), "{}");
        for _ in 1..answers.len() {
            assert!(fetch(&place, 10).await.is_err());
        }
        server.await.unwrap();
    }
}
