//! A password that is not in the URL, from where libpq looks for it: `PGPASSWORD`, then the password file.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Permissions of others than the owner.
const OTHERS: u32 = 0o077;

/// What selects a line of a password file.
pub(super) struct Wanted<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password of the first line that matches. A missing file has none; a file that others may read is not
/// used, as in libpq, and the error says so.
pub(super) fn look_up(path: &Path, wanted: &Wanted<'_>) -> Result<Option<String>, String> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(None) };
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.mode() & OTHERS != 0 {
        return Err(format!("the password file {} is not used: chmod 0600 it", path.display()));
    }
    let Ok(text) = fs::read_to_string(path) else { return Ok(None) };
    Ok(text.lines().find_map(|line| fitting(line, wanted)))
}

fn fitting(line: &str, wanted: &Wanted<'_>) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let fields = fields(line);
    let [host, port, database, user, password] = fields.as_slice() else { return None };
    let port_text = wanted.port.to_string();
    // libpq calls a socket in the default directory localhost.
    let is = |field: &String, value: &str| field == "*" || field == value;
    let fits = is(host, wanted.host)
        && is(port, &port_text)
        && is(database, wanted.database)
        && is(user, wanted.user);
    fits.then(|| password.clone())
}

/// Separated by colons; a backslash escapes what follows.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.len() - 1;
        match character {
            '\\' => fields[last].extend(characters.next()),
            ':' if fields.len() < 5 => fields.push(String::new()),
            other => fields[last].push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let wanted = Wanted { host: "db.example", port: 5432, database: "app", user: "hub" };
        assert_eq!(fitting("db.example:5432:app:hub:se:c\\\\ret", &wanted).as_deref(), Some("se:c\\ret"));
        assert_eq!(fitting("*:*:*:hub:x", &wanted).as_deref(), Some("x"));
        assert_eq!(fitting("*:5433:*:hub:x", &wanted), None);
        assert_eq!(fitting("# db.example:5432:app:hub:x", &wanted), None);
        assert_eq!(fitting("db.example:5432:app:hub", &wanted), None);
        let odd = Wanted { host: "::1", ..wanted };
        assert_eq!(fitting("\\:\\:1:5432:app:hub:x", &odd).as_deref(), Some("x"));
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        let wanted = || Wanted { host: "h", port: 1, database: "d", user: "u" };
        assert_eq!(look_up(&path, &wanted()), Ok(None));
        fs::write(&path, "*:*:*:*:secret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refusal = look_up(&path, &wanted()).unwrap_err();
        assert!(refusal.contains("chmod 0600") && !refusal.contains("secret"), "{refusal}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(look_up(&path, &wanted()), Ok(Some("secret".to_owned())));
    }
}
