//! Listening sockets.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};
use tokio::net::lookup_host;

/// The pause of a listener that cannot accept, for lack of file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {address}")]
pub struct BindError {
    flag: &'static str,
    address: String,
    source: io::Error,
}

/// Listens on every address that a name resolves to: `localhost` on both loopbacks, with the same port.
/// `flag` is for the error.
pub async fn bind(flag: &'static str, address: &str) -> Result<Vec<TcpListener>, BindError> {
    let listeners = async {
        let mut listeners: Vec<TcpListener> = Vec::new();
        for mut resolved in lookup_host(address).await? {
            if let (0, Some(first)) = (resolved.port(), listeners.first()) {
                resolved.set_port(first.local_addr()?.port());
            }
            match listen(resolved) {
                Ok(listener) => listeners.push(listener),
                // A machine without IPv6 still resolves localhost to ::1.
                Err(error)
                    if error.kind() == io::ErrorKind::AddrNotAvailable
                        || error.raw_os_error() == Some(EAFNOSUPPORT) => {}
                Err(error) => return Err(error),
            }
        }
        if listeners.is_empty() { Err(io::Error::other("no address to listen on")) } else { Ok(listeners) }
    };
    listeners.await.map_err(|source| BindError { flag, address: address.to_owned(), source })
}

/// "Address family not supported by protocol", which has no `ErrorKind`.
const EAFNOSUPPORT: i32 = 97;

/// The backlog is large enough for a reconnecting crowd; the system may cap it.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
