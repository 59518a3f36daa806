//! Pure values: positions, changes, what a watch selects, filters. No I/O, nothing of ours imported.

mod attributed;
mod change;
pub mod filter;
mod kind;
mod position;
mod selector;

pub use attributed::{AttributedChange, Gap, GapCause};
pub use change::{Change, ChangeType};
pub use kind::{KindId, KindName, Removal, Table};
pub use position::{Epoch, Revision, Start};
pub use selector::{Selector, TypeSet};
