//! What HTTP itself demands, and what a browser must not be made to do.

use super::wire::{Connection, hub};
use crate::support::{Database, TestHub};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::io::Read;
use trex::{
    app::Settings,
    faces::{Registry, host::Hosts, http::Gate},
};

const ALL: &str = "/api/rh-trex/v1/dinosaurs";
const JSON: &str = "content-type: application/json\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_a_rebound_name_is_answered_nothing() {
    let (hub, _) = hub().await;
    for (host, status) in
        [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:8000", 200), ("evil.example", 421)]
    {
        let mut client = Connection::open(&hub).await;
        client.send(format!("GET /api/rh-trex HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await;
        assert_eq!(client.answer("GET").await.unwrap().status, status, "{host}");
    }
    let mut client = Connection::open(&hub).await;
    client.send(b"GET /api/rh-trex HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.answer("GET").await.unwrap().status, 400);
    let metrics = hub.app().addresses().metrics.clone();
    let mut stream = tokio::net::TcpStream::connect(metrics).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_change_nothing() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    settings.gate = Gate {
        hosts: Hosts::new(["hub.example".to_owned()]),
        origins: ["https://app.example".to_owned()].into(),
    };
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let mut client = Connection::open(&hub).await;
    let body = r#"{"species":"Rex"}"#;
    for (headers, status) in [
        ("content-type: text/plain\r\n", 415),
        ("", 415),
        ("content-type: application/json\r\norigin: https://evil.example\r\n", 403),
        ("content-type: application/json\r\norigin: null\r\n", 403),
        ("content-type: application/json\r\norigin: https://app.example\r\n", 201),
        (JSON, 201),
    ] {
        let answer = client.ask("POST", ALL, headers, body).await;
        assert_eq!(answer.status, status, "{headers}: {}", answer.text());
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed.is_some(), headers.contains("app.example"), "{headers}");
    }
    let preflight = "origin: https://app.example\r\naccess-control-request-method: PATCH\r\n\
                     access-control-request-headers: content-type\r\n";
    let answer = client.ask("OPTIONS", ALL, preflight, "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-headers"), Some("content-type"));
    let answer = client.ask("OPTIONS", ALL, &preflight.replace("app", "evil"), "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-headers")), (204, None));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_spoken_as_those_expect_who_know_it() {
    let (hub, mut client) = hub().await;
    for path in [ALL, "/api/rh-trex", "/nothing", "/v1/nothing"] {
        let answer = client.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(
            answer.header("content-security-policy").is_some() && answer.header("x-operation-id").is_some()
        );
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let answer = client.ask("PUT", ALL, JSON, "{}").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST, HEAD, OPTIONS")));
    assert_eq!(answer.json()["id"], "10");
    assert_eq!(client.ask("OPTIONS", ALL, "", "").await.header("allow"), Some("GET, POST, HEAD, OPTIONS"));
    assert_eq!(client.ask("GET", ALL, "accept: text/html\r\n", "").await.status, 406);
    assert_eq!(client.get("/api/rh-trex/v1/nothing").await.json()["kind"], "Error");
    let answer = client.get("/v1/nothing").await;
    let error = answer.json();
    assert_eq!((answer.status, &error["error"]["status"]), (404, &json!("NOT_FOUND")));
    assert_eq!(error["error"]["details"][0]["domain"], "trex.hub");
    let head = client.ask("HEAD", "/api/rh-trex/v1/errors", "accept-encoding: gzip\r\n", "").await;
    assert_eq!(head.status, 200);
    let answer = client.ask("GET", "/api/rh-trex/v1/errors", "accept-encoding: gzip\r\n", "").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.header("content-length"), head.header("content-length"));
    let mut text = String::new();
    GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["total"], 12);
    assert!(hub.metric("http_requests_total", r#"code="404",route="unknown""#) > 0.0);
    assert!(hub.metric("http_request_duration_seconds_count", r#"route="/api/rh-trex""#) > 0.0);
    hub.stop().await;
}
