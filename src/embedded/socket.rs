//! Where the socket lies: a private directory with a short path that depends on the data directory alone.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::datadir::create_private;
use super::error::EmbeddedError;

/// The port names the socket file; Postgres listens on no network address.
pub(super) const PORT: u16 = 5432;

/// `sun_path` holds 108 bytes on Linux and 104 on macOS, with the closing zero.
const SUN_PATH_MAX: usize = 103;

/// In the data directory if it fits there, else under `/tmp`, named after a hash of the data directory.
///
/// `/tmp` and not `$TMPDIR` or `$XDG_RUNTIME_DIR`: those differ between a shell and a service, may be long
/// themselves, and the latter is deleted when the user logs out.
pub(super) fn socket_dir(data_dir: &Path, uid: impl std::fmt::Display) -> PathBuf {
    let inside = data_dir.join("run");
    let is_plain = inside.to_str().is_some_and(|path| path.bytes().all(is_plain_byte));
    let socket_len = inside.join(format!(".s.PGSQL.{PORT}")).as_os_str().len();
    if is_plain && socket_len <= SUN_PATH_MAX {
        return inside;
    }
    let hash = fnv1a(data_dir.as_os_str().as_encoded_bytes());
    PathBuf::from(format!("/tmp/trex-{uid}-{hash:016x}"))
}

/// The file in which Postgres writes its pid.
pub(super) fn lock_file(socket_dir: &Path) -> PathBuf {
    socket_dir.join(format!(".s.PGSQL.{PORT}.lock"))
}

/// Clients split a host at commas, and trim or unquote it: only paths that nobody mistakes are used.
fn is_plain_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+@=".contains(&byte)
}

/// FNV-1a, because the hash must be the same in every release of this program.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Creates the directory, or checks that an existing one belongs to the account alone.
///
/// Anybody may have created it first in `/tmp`, and its owner could put another server there.
pub(super) fn ensure_private(dir: &Path, account: &Account) -> Result<(), EmbeddedError> {
    match std::fs::symlink_metadata(dir) {
        Ok(meta) => {
            let is_private = meta.is_dir() && meta.mode() & 0o077 == 0;
            // Root's is ours as well: left by a start that ended before it handed the directory over.
            let is_owned = account.owns(meta.uid()) || (account.is_other() && meta.uid() == 0);
            if !(is_private && is_owned) {
                let (dir, user) = (dir.to_path_buf(), account.name().to_owned());
                return Err(EmbeddedError::UnsafeSocketDir { dir, user });
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create_private(dir)?,
        Err(error) => return Err(EmbeddedError::io("inspect", dir)(error)),
    }
    account.take(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_short_data_dir_holds_its_socket() {
        assert_eq!(
            socket_dir(Path::new("/var/lib/trex/postgres"), 7),
            Path::new("/var/lib/trex/postgres/run")
        );
    }

    #[test]
    fn the_longest_socket_path_that_fits_is_used() {
        let rest = "/run/.s.PGSQL.5432".len();
        let fits = PathBuf::from(format!("/{}", "d".repeat(SUN_PATH_MAX - rest - 1)));
        assert_eq!(socket_dir(&fits, 7), fits.join("run"));
        let too_long = PathBuf::from(format!("/{}", "d".repeat(SUN_PATH_MAX - rest)));
        assert!(socket_dir(&too_long, 7).starts_with("/tmp"));
    }

    #[test]
    fn odd_and_long_paths_get_a_stable_short_one() {
        let long = PathBuf::from(format!("/{}", "d".repeat(200)));
        assert_eq!(socket_dir(&long, 7), socket_dir(&long, 7));
        assert_ne!(socket_dir(&long, 7), socket_dir(&long.join("x"), 7));
        assert_eq!(socket_dir(Path::new("/a,b"), 7), Path::new("/tmp/trex-7-363b429cb38cd723"));
        assert!(socket_dir(Path::new("/a b"), 7).starts_with("/tmp"));
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let account = Account::choose(Path::new("/none")).unwrap();
        let dir = parent.path().join("run");
        ensure_private(&dir, &account).unwrap();
        ensure_private(&dir, &account).unwrap();
        let link = parent.path().join("link");
        symlink(&dir, &link).unwrap();
        assert!(matches!(ensure_private(&link, &account), Err(EmbeddedError::UnsafeSocketDir { .. })));
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(ensure_private(&dir, &account), Err(EmbeddedError::UnsafeSocketDir { .. })));
    }
}
