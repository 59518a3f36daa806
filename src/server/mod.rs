//! The gRPC server: a loop of our own over hyper, because tonic's leaves too much to chance for streams that live for days.

mod bind;
mod call;
mod lanes;
mod methods;
mod outbox;
mod preface;

pub use bind::{ACCEPT_PAUSE, BindError, bind};
pub use call::Calls;
pub use lanes::{ConnectionLimits, Server};
