//! Requests that two readers may cut at two places: none of them may put a second request on a connection.

use super::wire::{Connection, hub};

const ALL: &str = "/api/rh-trex/v1/dinosaurs";

/// A request that is hidden in another's body.
const HIDDEN: &str = "DELETE /api/rh-trex/v1/dinosaurs/hidden HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_row_are_answered_in_a_row() {
    let (hub, mut client) = hub().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let paths = ["/api/rh-trex", ALL, "/nothing", "/api/rh-trex/v1/errors/7"];
    client.send(paths.map(get).concat().as_bytes()).await;
    for (path, status) in paths.iter().zip([200, 200, 404, 200]) {
        assert_eq!(client.answer("GET").await.unwrap().status, status, "{path}");
    }
    // The connection lives on, and a body that nobody read is no request.
    let body = format!("{{\"species\":\"\"}}{}", " ".repeat(100));
    assert_eq!(client.json("POST", ALL, &body).await.status, 400);
    assert_eq!(client.get("/api/rh-trex").await.status, 200);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_two_lengths_ends_its_connection() {
    let (hub, mut other) = hub().await;
    let chunked = format!("0\r\n\r\n{HIDDEN}");
    let json = "host: localhost\r\ncontent-type: application/json\r\n";
    for (name, headers, body) in [
        ("CL.TE", "content-length: 4\r\ntransfer-encoding: chunked\r\n", chunked.as_str()),
        ("TE.CL", "transfer-encoding: chunked\r\ncontent-length: 4\r\n", chunked.as_str()),
        ("TE.TE", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", chunked.as_str()),
        ("odd TE", "transfer-encoding: xchunked\r\n", chunked.as_str()),
        ("TE with a tab", "transfer-encoding:\tchunked\r\ncontent-length: 4\r\n", chunked.as_str()),
        (
            "a space before the colon",
            "transfer-encoding : chunked\r\ncontent-length: 4\r\n",
            chunked.as_str(),
        ),
        ("obs-fold", "x-a: b\r\n transfer-encoding: chunked\r\ncontent-length: 4\r\n", chunked.as_str()),
        ("obs-fold of TE", "transfer-encoding:\r\n chunked\r\n", chunked.as_str()),
        ("two CL", "content-length: 4\r\ncontent-length: 80\r\n", HIDDEN),
        ("signed CL", "content-length: +4\r\n", HIDDEN),
        ("chunked alone", "transfer-encoding: chunked\r\n", chunked.as_str()),
    ] {
        let mut client = Connection::open(&hub).await;
        client.send(format!("POST {ALL} HTTP/1.1\r\n{json}{headers}\r\n{body}").as_bytes()).await;
        let first = client.answer("POST").await;
        assert!(first.is_none_or(|answer| answer.status >= 400), "{name}");
        assert!(client.answer("GET").await.is_none(), "{name}: a second answer");
    }
    let mut client = Connection::open(&hub).await;
    client
        .send(format!("POST {ALL} HTTP/1.0\r\n{json}transfer-encoding: chunked\r\n\r\n{chunked}").as_bytes())
        .await;
    let _ = client.answer("POST").await;
    assert!(client.answer("GET").await.is_none());
    assert_eq!(hub.metric("http_requests_total", r#"route="/api/rh-trex/v1/dinosaurs/{id}""#), 0.0);
    assert_eq!(other.get("/api/rh-trex").await.status, 200);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded_and_h2c_is_not_upgraded_to() {
    let (hub, mut other) = hub().await;
    let mut client = Connection::open(&hub).await;
    let giant = format!("GET /api/rh-trex HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    client.send(giant.as_bytes()).await;
    assert!(client.answer("GET").await.is_none_or(|answer| answer.status == 431));
    let upgrade =
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    assert_eq!(other.ask("GET", "/api/rh-trex", upgrade, "").await.status, 200);
    hub.stop().await;
}
