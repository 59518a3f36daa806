//! Filters and orders, as their users meet them: docs/filters.md.

mod lists;
mod oracle;
mod streams;
mod types;
mod watches;
