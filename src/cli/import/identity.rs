//! The name under which the hub remembers an import.

use super::{csv::Quoting, format::Format};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The name for a file: how it is read, and a digest of its whole content. So the same file resumes wherever
/// it was moved or copied to, and no other file is ever taken for it: with a digest of a part, another file
/// with the same part would be skipped.
pub(super) fn of_a_file(content: &Sha256, format: Format, quoting: Quoting) -> String {
    // A guess finds items that a strict reading does not, so all that follow have other numbers.
    let lenient = if quoting == Quoting::Lenient { "-lenient" } else { "" };
    format!("{}{lenient}-{}", format.name(), shown(content))
}

/// The name for a pipe, whose content is not known beforehand: a new one.
pub(super) fn of_a_pipe() -> String {
    format!("pipe-{}", uuid::Uuid::now_v7().simple())
}

/// The first half of a SHA-256, in hexadecimal: 128 bits.
fn shown(content: &Sha256) -> String {
    let mut text = String::with_capacity(32);
    for byte in content.clone().finalize().iter().take(16) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
