//! Finds the Postgres server programs that the machine has.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::EmbeddedError;

/// A directory that holds `initdb` and `postgres`, and their major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    dir: PathBuf,
    major: u32,
}

impl Binaries {
    /// The binaries to use for a cluster of version `wanted`, or for a new one.
    ///
    /// A directory that was named, by the caller or in `PG_BINDIR`, is the only one considered.
    pub(super) fn find(
        named: Option<&Path>,
        wanted: Option<u32>,
        data_dir: &Path,
    ) -> Result<Self, EmbeddedError> {
        let from_env = std::env::var_os("PG_BINDIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        if let Some(dir) = named.map(Path::to_path_buf).or(from_env) {
            let dir = std::path::absolute(&dir).map_err(EmbeddedError::io("resolve", &dir))?;
            let binaries = Self::inspect(&dir).ok_or(EmbeddedError::NotABinaryDir(dir))?;
            return select(std::iter::once(binaries), wanted, data_dir);
        }
        select(candidates().filter_map(|dir| Self::inspect(&dir)), wanted, data_dir)
    }

    fn inspect(dir: &Path) -> Option<Self> {
        if !(dir.join("initdb").is_file() && dir.join("postgres").is_file()) {
            return None;
        }
        let answer = answer_of(&dir.join("postgres"), "--version")?;
        Some(Self { dir: dir.to_path_buf(), major: parse_version(&answer)? })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }
}

/// The first that fits. Lazy, because each candidate costs the start of a program.
fn select(
    found: impl Iterator<Item = Binaries>,
    wanted: Option<u32>,
    data_dir: &Path,
) -> Result<Binaries, EmbeddedError> {
    let mut others = Vec::new();
    for binaries in found {
        match wanted {
            Some(wanted) if wanted != binaries.major => others.push(binaries.major.to_string()),
            _ => return Ok(binaries),
        }
    }
    match wanted {
        Some(wanted) if !others.is_empty() => {
            others.dedup();
            let data_dir = data_dir.to_path_buf();
            Err(EmbeddedError::VersionMismatch { data_dir, wanted, found: others.join(", ") })
        }
        _ => Err(EmbeddedError::NoBinaries),
    }
}

fn candidates() -> impl Iterator<Item = PathBuf> {
    let configured = std::iter::once_with(|| answer_of(Path::new("pg_config"), "--bindir"))
        .flatten()
        .map(|dir| PathBuf::from(dir.trim()));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&on_path).filter(|dir| dir.is_absolute()).collect::<Vec<_>>();
    let packaged = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];
    let homebrew = [("/opt/homebrew/opt", "postgresql"), ("/usr/local/opt", "postgresql")];
    let installed = packaged.into_iter().chain(homebrew);
    configured
        .chain(on_path)
        .chain(installed.flat_map(|(parent, prefix)| versions_in(Path::new(parent), prefix)))
}

/// `<parent>/<prefix>*/bin`, newest version first.
fn versions_in(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort_by_key(|name| Reverse(first_number(name)));
    names.into_iter().map(|name| parent.join(name).join("bin")).collect()
}

/// What a program prints when asked; `None` if it is not there or fails.
fn answer_of(program: &Path, argument: &str) -> Option<String> {
    let output =
        Command::new(program).arg(argument).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The major version in the answer of `postgres --version`, as in
/// `postgres (PostgreSQL) 17.5 (Debian 17.5-1)`.
fn parse_version(answer: &str) -> Option<u32> {
    first_number(answer)
}

/// The major version in the text of a `PG_VERSION` file.
pub(super) fn parse_pg_version(text: &str) -> Option<u32> {
    first_number(text.lines().next()?)
}

fn first_number(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(major: u32) -> Binaries {
        Binaries { dir: PathBuf::from(format!("/pg/{major}/bin")), major }
    }

    fn pick(found: &[u32], wanted: Option<u32>) -> Result<Binaries, EmbeddedError> {
        select(found.iter().copied().map(of), wanted, Path::new("/data"))
    }

    #[test]
    fn versions_are_parsed() {
        for (answer, major) in [
            ("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 18beta1\n", Some(18)),
            ("postgres (PostgreSQL) 19devel", Some(19)),
            ("postgres", None),
        ] {
            assert_eq!(parse_version(answer), major, "{answer}");
        }
        assert_eq!(parse_pg_version("15\n"), Some(15));
        assert_eq!(parse_pg_version(""), None);
    }

    #[test]
    fn the_binaries_that_fit_the_data_are_preferred() {
        assert!(pick(&[17, 15], Some(15)).is_ok_and(|found| found == of(15)));
        assert!(pick(&[17, 15], None).is_ok_and(|found| found == of(17)));
        assert!(matches!(pick(&[], Some(15)), Err(EmbeddedError::NoBinaries)));
        let Err(mismatch) = pick(&[17, 16, 16], Some(15)) else { panic!("15 is not there") };
        let expected = "the data in /data is of Postgres 15, but this machine has only Postgres 17, 16";
        assert_eq!(mismatch.to_string(), expected);
    }

    #[test]
    fn newest_version_comes_first() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        for name in ["postgresql@9", "postgresql@17", "postgresql", "postgresql@15", "redis"] {
            std::fs::create_dir(dir.path().join(name))?;
        }
        let expected = ["postgresql@17", "postgresql@15", "postgresql@9", "postgresql"];
        let expected = expected.map(|name| dir.path().join(name).join("bin"));
        assert_eq!(versions_in(dir.path(), "postgresql"), expected);
        Ok(())
    }
}
