//! The operator's listeners: metrics, and health.

use super::host::Hosts;
use crate::{
    health::Health,
    server::{ACCEPT_PAUSE, Tls, Turnstile},
    telemetry::Metrics,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::TcpListener, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a client may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What is served at a path; `None`: nothing.
pub type Pages = Arc<dyn Fn(&str) -> Option<Response<Full<Bytes>>> + Send + Sync>;

/// `/metrics`.
pub fn metrics(metrics: Arc<Metrics>) -> Pages {
    Arc::new(move |path| {
        (path == "/metrics").then(|| match metrics.encode() {
            Ok(text) => page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
            Err(error) => {
                tracing::error!(%error, "metrics");
                page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "metrics failed\n")
            }
        })
    })
}

/// `/healthcheck`: the process lives. `/readyz`: it can do its work, or why not.
/// With `tells_why`, the reasons, which name tables and what is wrong with them.
pub fn health(health: Arc<Health>, tells_why: bool) -> Pages {
    Arc::new(move |path| match path {
        "/healthcheck" => Some(page(StatusCode::OK, TEXT, "ok\n")),
        "/readyz" => Some(match health.reasons() {
            reasons if reasons.is_empty() => page(StatusCode::OK, TEXT, "ready\n"),
            _ if !tells_why => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n"),
            reasons => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons.join("\n") + "\n"),
        }),
        _ => None,
    })
}

const TEXT: &str = "text/plain; charset=utf-8";

fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// Serves pages until `stop`, in plain text without `tls`; the tasks go to `tasks`. On loopback,
/// where pages of a browser could ask, only to requests for these hosts.
pub fn serve(
    listeners: Vec<TcpListener>,
    tls: Option<&Arc<Tls>>,
    pages: &Pages,
    hosts: &Hosts,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> std::io::Result<()> {
    for listener in listeners {
        let hosts = listener.local_addr()?.ip().is_loopback().then(|| hosts.clone());
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (pages, tls, stop) = (pages.clone(), tls.cloned(), stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(accept(listener, (tls, hosts), pages)).await;
        });
    }
    Ok(())
}

async fn accept(
    listener: tokio::net::TcpListener,
    (tls, hosts): (Option<Arc<Tls>>, Option<Hosts>),
    pages: Pages,
) {
    let turnstile = Arc::new(Turnstile::new());
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let (pages, hosts) = (pages.clone(), hosts.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let is_known = hosts.as_ref().is_none_or(|hosts| hosts.check(&request).is_ok());
            let found = match is_known {
                true => pages(request.uri().path())
                    .unwrap_or_else(|| page(StatusCode::NOT_FOUND, TEXT, "no such page\n")),
                false => page(StatusCode::MISDIRECTED_REQUEST, TEXT, "this hub does not go by that name\n"),
            };
            async move { Ok::<_, Infallible>(found) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let (tls, turnstile) = (tls.clone(), turnstile.clone());
        connections.spawn(async move {
            // A client that disconnects is no concern of the hub.
            match tls {
                None => drop(builder.serve_connection(TokioIo::new(stream), answer).await),
                Some(tls) => match turnstile.handshake(&tls, stream).await {
                    Ok(stream) => drop(builder.serve_connection(TokioIo::new(stream), answer).await),
                    Err(error) => tracing::debug!(%error, "TLS handshake"),
                },
            }
        });
    }
}
