//! Which user Postgres runs as: it refuses to be root.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::EmbeddedError;

/// Prints the first of its arguments that this user cannot enter.
const FIRST_CLOSED: &str = r#"for dir; do cd "$dir" 2>/dev/null || { printf '%s' "$dir"; exit 1; }; done"#;

/// The user that owns the cluster and runs its programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    name: String,
    uid: u32,
    gid: u32,
    /// Programs must be started under this account, because it is not our own.
    switch: bool,
}

impl Account {
    /// Our own account; for root the owner of the cluster if there is one, else `postgres`, else `nobody`.
    pub(super) fn choose(cluster: &Path) -> Result<Self, EmbeddedError> {
        let (uid, gid) = (own_id("-u")?, own_id("-g")?);
        if uid != 0 {
            return Ok(Self { name: format!("with id {uid}"), uid, gid, switch: false });
        }
        if let Ok(meta) = std::fs::metadata(cluster)
            && meta.uid() != 0
        {
            let name = format!("with id {}", meta.uid());
            return Ok(Self { name, uid: meta.uid(), gid: meta.gid(), switch: true });
        }
        ["postgres", "nobody"].into_iter().find_map(Self::named).ok_or(EmbeddedError::NoAccount)
    }

    fn named(name: &str) -> Option<Self> {
        let lookup = |flag| id(&[flag, name]).ok().flatten();
        Some(Self { name: name.to_owned(), uid: lookup("-u")?, gid: lookup("-g")?, switch: true })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    pub(super) fn owns(&self, uid: u32) -> bool {
        self.uid == uid
    }

    /// Postgres runs as somebody other than us.
    pub(super) fn is_other(&self) -> bool {
        self.switch
    }

    /// A command under this account, free of the caller's directory, terminal and `PG*` variables.
    ///
    /// The caller's working directory may be closed to the account, and a `PGPORT` or `PGDATA` of the user's
    /// shell is meant for another server. Messages come in English, because the supervisor reads some of
    /// them.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C");
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("PG") {
                command.env_remove(key);
            }
        }
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Hands a file or directory to the account.
    pub(super) fn take(&self, path: &Path) -> Result<(), EmbeddedError> {
        if self.switch {
            chown(path, Some(self.uid), Some(self.gid))
                .map_err(EmbeddedError::io("change the owner of", path))?;
        }
        Ok(())
    }

    /// Fails unless the account can enter `dir` and everything above it.
    ///
    /// The kernel is asked, not the mode bits: groups, ACLs and mounts have a say too.
    pub(super) fn check_reach(&self, dir: &Path) -> Result<(), EmbeddedError> {
        if !self.switch {
            return Ok(());
        }
        let mut path: Vec<&Path> = dir.ancestors().collect();
        path.reverse();
        let shell = Path::new("/bin/sh");
        let output = self
            .command(shell)
            .args(["-c", FIRST_CLOSED, "sh"])
            .args(path)
            .output()
            .map_err(EmbeddedError::io("run", shell))?;
        if output.status.success() {
            return Ok(());
        }
        let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).into_owned());
        Err(EmbeddedError::Unreachable { dir, user: self.name.clone() })
    }
}

/// Whether this process runs as root.
pub(super) fn is_root() -> Result<bool, EmbeddedError> {
    Ok(own_id("-u")? == 0)
}

fn own_id(flag: &str) -> Result<u32, EmbeddedError> {
    let unreadable = || std::io::Error::other("its answer is not a number");
    let answer = id(&[flag]).and_then(|id| id.ok_or_else(unreadable));
    answer.map_err(EmbeddedError::io("run", "id"))
}

/// The program `id` rather than /etc/passwd: accounts may come from a directory service. `None`: no such
/// user.
fn id(args: &[&str]) -> std::io::Result<Option<u32>> {
    let output = Command::new("id").args(args).stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_accounts_are_none() {
        assert_eq!(Account::named("no-such-user-here"), None);
    }

    #[test]
    fn commands_do_not_inherit_postgres_variables() {
        let account = Account { name: "me".into(), uid: 1, gid: 1, switch: false };
        let command = account.command(Path::new("/bin/true"));
        assert!(
            command
                .get_envs()
                .all(|(key, value)| !key.to_string_lossy().starts_with("PG") || value.is_none())
        );
        assert_eq!(command.get_current_dir(), Some(Path::new("/")));
    }
}
