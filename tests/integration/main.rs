//! Integration tests: one binary, one Postgres cluster for the run, a database for each test.
#![allow(missing_docs, unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail with the test")]

mod access;
mod admin;
mod altered;
mod api;
mod audit_cli;
mod bench_cli;
mod bookmarks;
mod bulk;
mod burst;
mod capture;
mod capture_names;
mod catalog;
mod commands;
mod controllers;
mod delays;
mod doctor;
mod encodings;
mod epoch;
mod filters;
mod following;
mod history;
mod http;
mod import_cli;
mod kinds;
mod large_rows;
mod lifecycle;
mod migrations;
mod poolers;
mod privileges;
mod read_events;
mod rows;
mod side_by_side;
mod slow_reader;
mod small_frames;
mod smoke;
mod state;
mod stress;
mod support;
mod tables;
mod tls;
mod watch_cli;
