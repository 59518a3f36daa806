//! Who makes a call.

use std::{net::SocketAddr, sync::Arc};

/// Who makes a call, as far as its transport knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// Who the client is, as somebody says who is trusted to know; `None`: nobody did.
    pub principal: Option<Arc<str>>,
    /// Names the call in the hub's log.
    pub operation: Arc<str>,
}
