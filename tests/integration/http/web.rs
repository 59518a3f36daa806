//! gRPC-Web, byte by byte as browsers send it.

use super::wire::Connection;
use crate::{
    support::{Database, PATIENCE, TestHub},
    tables::{everything, hub_of, settings},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use trex::{
    faces::{Registry, http::Gate},
    proto::hub::v1::{GetTableRequest, ListTablesRequest, ListTablesResponse, WatchEvent},
};

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";
const TABLE: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, status text)";

fn framed(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend(body);
    frame
}

/// An answer under way.
struct Web {
    stream: TcpStream,
    head: String,
    raw: Vec<u8>,
    frames: Vec<u8>,
    is_text: bool,
}

impl Web {
    async fn call(hub: &TestHub, path: &str, media: &str, frame: &[u8]) -> Self {
        let mut stream = TcpStream::connect(&hub.app().addresses().api).await.unwrap();
        let is_text = media == TEXT;
        let body = if is_text { STANDARD.encode(frame).into_bytes() } else { frame.to_vec() };
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {media}\r\nx-grpc-web: 1\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.into_bytes(), body].concat()).await.unwrap();
        let mut web = Self { stream, head: String::new(), raw: Vec::new(), frames: Vec::new(), is_text };
        let end = loop {
            if let Some(at) = web.raw.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            web.more().await;
        };
        web.head = String::from_utf8(web.raw.drain(..end).collect()).unwrap().to_lowercase();
        web
    }

    async fn more(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let read = timeout(*PATIENCE, self.stream.read(&mut buffer)).await.expect("in time").unwrap();
        assert!(read > 0, "cut off: {}", self.head);
        self.raw.extend_from_slice(&buffer[..read]);
    }

    /// The next frame: what its first byte says, and what is in it.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some((header, rest)) = self.frames.split_first_chunk::<5>() {
                let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
                if rest.len() >= length {
                    let (kind, body) = (header[0], rest[..length].to_vec());
                    self.frames.drain(..5 + length);
                    return (kind, body);
                }
            }
            // One chunk of HTTP/1.1.
            let Some(at) = self.raw.windows(2).position(|two| two == b"\r\n") else {
                self.more().await;
                continue;
            };
            let length = usize::from_str_radix(std::str::from_utf8(&self.raw[..at]).unwrap(), 16).unwrap();
            if self.raw.len() < at + 2 + length + 2 {
                self.more().await;
                continue;
            }
            let chunk: Vec<_> = self.raw.drain(..at + 2 + length + 2).collect();
            let chunk = &chunk[at + 2..at + 2 + length];
            self.frames.extend(if self.is_text { STANDARD.decode(chunk).unwrap() } else { chunk.to_vec() });
        }
    }

    async fn message<M: Message + Default>(&mut self) -> M {
        let (kind, body) = self.frame().await;
        assert_eq!(kind, 0, "{}", String::from_utf8_lossy(&body));
        M::decode(&*body).unwrap()
    }

    async fn trailers(&mut self) -> String {
        let (kind, body) = self.frame().await;
        assert_eq!(kind, 0x80);
        String::from_utf8(body).unwrap()
    }
}

#[tokio::test]
async fn every_service_is_spoken_to_in_bytes_and_in_text() {
    let database = Database::create().await;
    let hub = hub_of(&database, TABLE, "public.orders").await;
    for media in [BINARY, TEXT] {
        let path = "/hub.v1.TableService/ListTables";
        let mut call = Web::call(&hub, path, media, &framed(&ListTablesRequest {})).await;
        assert!(
            call.head.starts_with("http/1.1 200") && call.head.contains("content-type: application/grpc-web"),
            "{}",
            call.head
        );
        let tables: ListTablesResponse = call.message().await;
        assert_eq!(tables.tables[0].name, "public.orders");
        assert!(call.trailers().await.contains("grpc-status: 0\r\n"));

        let unknown = framed(&GetTableRequest { table: "nothing".into() });
        let refused = Web::call(&hub, "/hub.v1.TableService/GetTable", media, &unknown).await;
        assert!(refused.head.contains("grpc-status: 5\r\n"), "{}", refused.head);
        // ServerReflectionRequest { list_services: "" }
        let list = [&[0, 0, 0, 0, 2][..], &[0x3a, 0]].concat();
        let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let (_, services) = Web::call(&hub, path, media, &list).await.frame().await;
        let services = String::from_utf8_lossy(&services).into_owned();
        assert!(services.contains("hub.v1.WatchService") && !services.contains("AdminService"), "{services}");
    }
    assert!(hub.metric("http_requests_total", r#"route="/hub.v1.TableService/GetTable""#) > 0.0);
    hub.stop().await;
}

#[tokio::test]
async fn a_watch_ends_with_trailers_in_its_last_frame() {
    let database = Database::create().await;
    let hub = hub_of(&database, TABLE, "public.orders").await;
    let mut watches = Vec::new();
    for media in [BINARY, TEXT] {
        let watch =
            Web::call(&hub, "/hub.v1.WatchService/Watch", media, &framed(&everything("orders"))).await;
        assert!(
            watch.head.contains("hub-revision: ") && watch.head.contains("hub-epoch: "),
            "{}",
            watch.head
        );
        watches.push(watch);
    }
    database.connect().await.batch_execute("INSERT INTO orders VALUES (1, 'a'), (2, 'b')").await.unwrap();
    for watch in &mut watches {
        for id in ["1", "2"] {
            assert_eq!(watch.message::<WatchEvent>().await.resource_id, id);
        }
    }
    hub.stop().await;
    for watch in &mut watches {
        let trailers = watch.trailers().await;
        for said in
            ["grpc-status: 14\r\n", "hub-revision: ", "hub-dropped: 0\r\n", "grpc-status-details-bin: "]
        {
            assert!(trailers.contains(said), "{trailers}");
        }
    }
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call_services() {
    let database = Database::create().await;
    let mut settings = settings(&database, "");
    settings.gate = Gate { origins: ["https://app.example".to_owned()].into(), ..Gate::default() };
    let hub = TestHub::start_with(settings, Registry::new(vec![])).await;
    let mut client = Connection::open(&hub).await;
    let path = "/hub.v1.TableService/ListTables";
    let preflight = "origin: https://app.example\r\naccess-control-request-method: POST\r\n\
                     access-control-request-headers: content-type,x-grpc-web\r\n";
    let answer = client.ask("OPTIONS", path, preflight, "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-methods")), (204, Some("POST, OPTIONS")));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("grpc-status") && exposed.contains("hub-revision"), "{exposed}");
    let answer = client.ask("GET", path, "", "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, OPTIONS")));
    assert_eq!(client.json("POST", path, "{}").await.status, 415);
    assert_eq!(client.get("/hub.v1.TableService/Nothing").await.status, 404);
    hub.stop().await;
}
