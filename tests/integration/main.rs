//! Integration tests: one binary, one Postgres cluster for the run, a database for each test.
#![allow(missing_docs, unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail with the test")]

mod api;
mod bookmarks;
mod burst;
mod capture;
mod capture_names;
mod epoch;
mod following;
mod history;
mod kinds;
mod lifecycle;
mod migrations;
mod privileges;
mod slow_reader;
mod smoke;
mod state;
mod stress;
mod support;
