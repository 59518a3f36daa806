//! The server: one loop over hyper for every face, because the libraries' own loops leave too much to chance
//! for streams that live for days.

mod age;
mod bind;
mod call;
mod face;
mod lanes;
mod outbox;
mod preface;
mod tls;

pub use bind::{ACCEPT_PAUSE, BindError, bind};
pub use call::Calls;
pub use face::{Endable, Method, Service};
pub use lanes::{ConnectionLimits, Server};
pub(crate) use tls::Turnstile;
pub use tls::{Files, MinVersion, PeerCertificate, Protocol, Tls};

#[cfg(test)]
mod tests;
