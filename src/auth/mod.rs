//! Who calls, and what they may do: credentials, checked without asking anybody, and the policy.
//!
//! Nothing here does I/O or reads a clock: keys, files and the time come as arguments, so that tests drive
//! every case.

mod action;
pub mod api_key;
mod authenticator;
mod certificate;
mod claims;
pub mod jwks;
pub mod jwt;
mod key_ring;
mod principal;
mod term;

pub use action::{Action, BadScope, Scope};
pub use authenticator::{Authenticator, Denied, Offered, Several};
pub use claims::{Claims, ClaimsError};
pub use key_ring::{KeyRing, StoredKey};
pub use principal::{Method, Principal};
pub use term::{Over, Term, Terms};
