//! Capture, from the statement to the sealed log: what is recorded, and in which order.

mod cascades;
mod partitions;
mod sessions;
mod statements;
mod strangers;
mod tools;
mod triggers;
mod values;
