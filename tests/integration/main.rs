//! Integration tests: one binary, one Postgres cluster for the run, a database for each test.

#![allow(unreachable_pub, reason = "one binary: nothing outside of it can reach anything")]

mod slow_reader;
mod smoke;
mod stress;
mod support;
