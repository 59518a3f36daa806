//! The API as its clients meet it: DESIGN section 4.

mod compression;
mod deadlines;
mod early;
mod refusals;
mod unary;
mod watches;
