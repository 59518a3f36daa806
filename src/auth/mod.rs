//! Who calls, and what they may do: credentials, checked without asking anybody, and the policy.
//!
//! Nothing here does I/O or reads a clock: keys, files and the time come as arguments, so that tests drive
//! every case.

mod action;
pub mod api_key;
mod authenticator;
mod certificate;
mod claims;
mod denied;
pub mod jwks;
pub mod jwt;
mod key_ring;
mod policy;
mod policy_cell;
mod principal;
mod term;

pub use action::{Action, BadScope, Scope};
pub use authenticator::{Authenticator, Offered, Several};
pub use claims::{Claims, ClaimsError};
pub use denied::Denied;
pub use key_ring::{KeyRing, StoredKey};
pub use policy::{Limits, Policy, PolicyError, Rows, Rule, Shown};
pub use policy_cell::PolicyCell;
pub use principal::{Method, Principal};
pub use term::{Over, Term, Terms};
