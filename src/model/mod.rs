//! Pure values: positions, changes, what a watch selects, filters. No I/O, nothing of ours imported.

mod attached;
mod attributed;
mod change;
pub mod filter;
mod kind;
mod names;
mod pattern;
mod position;
mod schema_change;
mod selector;

pub use attached::{AttachedTable, TableColumn};
pub use attributed::{AttributedChange, Gap, GapCause};
pub use change::{Change, ChangeType, Writer};
pub use kind::{KindId, KindName, Removal, Table};
pub use names::{BadName, TableName, Wish, Wishes};
pub use pattern::{KindPattern, KindRef};
pub use position::{Epoch, Revision, Start};
pub use schema_change::SchemaChange;
pub use selector::{Selector, TypeSet};
