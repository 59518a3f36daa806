//! Integration tests: one binary, one Postgres cluster for the run, a database for each test.

mod capture_names;
mod smoke;
mod support;
