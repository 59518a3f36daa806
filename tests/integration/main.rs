//! Integration tests: one binary, one Postgres cluster for the run, a database for each test.

#![allow(unreachable_pub, reason = "one binary: nothing outside of it can reach anything")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod slow_reader;
mod smoke;
mod stress;
mod support;
