//! Stands before a server and sees how each connection begins.

use parking_lot::Mutex;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// How connections have begun: their first eight bytes.
pub(crate) struct Relay {
    pub(crate) port: u16,
    beginnings: Arc<Mutex<Vec<[u8; 8]>>>,
}

/// What asks a server whether it speaks TLS.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

impl Relay {
    pub(crate) async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let beginnings = Arc::new(Mutex::new(Vec::new()));
        let seen = beginnings.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (server, seen) = (server.clone(), seen.clone());
                tokio::spawn(async move {
                    let mut first = [0; 8];
                    if client.read_exact(&mut first).await.is_err() {
                        return;
                    }
                    seen.lock().push(first);
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    if server.write_all(&first).await.is_ok() {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { port, beginnings }
    }

    pub(crate) fn beginnings(&self) -> Vec<[u8; 8]> {
        self.beginnings.lock().clone()
    }
}

/// A server that answers the question with these bytes and says no more.
pub(crate) async fn answering(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut question = [0; 8];
            let _ = client.read_exact(&mut question).await;
            let _ = client.write_all(answer).await;
        }
    });
    port
}
