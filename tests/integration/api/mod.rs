//! The API as its clients meet it: DESIGN section 4.

mod deadlines;
mod refusals;
mod unary;
mod watches;
