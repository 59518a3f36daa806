//! The name under which the hub remembers an import.

use super::format::Format;
use anyhow::Context;
use sha2::{Digest, Sha256};
use std::{
    fmt::Write,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Of a file: its format and a digest of its whole content. So the same file resumes, wherever it was moved or copied to, and no other
/// file is ever taken for it: a digest of a part would skip what another file has in the same places.
pub(super) fn of_a_file(path: &Path, format: Format) -> anyhow::Result<String> {
    let digest = File::open(path).and_then(digest).with_context(|| path.display().to_string())?;
    Ok(format!("{}-{digest}", format.name()))
}

/// Of a pipe, whose content is not known beforehand: a new one.
pub(super) fn of_a_pipe() -> String {
    format!("pipe-{}", uuid::Uuid::now_v7().simple())
}

/// The first half of its SHA-256, in hexadecimal: 128 bits.
fn digest(mut file: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    let mut text = String::with_capacity(32);
    for byte in hash.finalize().iter().take(16) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
