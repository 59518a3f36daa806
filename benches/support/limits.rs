//! What the machine allows.

/// Beside a connection for each watcher: listeners, Postgres, files.
const OTHERS: usize = 200;

/// How many files a process may have open here.
pub fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether this many connections can be held; prints a note if not.
pub fn enough_open_files(connections: usize) -> bool {
    let allowed = open_files().unwrap_or(usize::MAX);
    let enough = connections + OTHERS <= allowed;
    if !enough {
        println!(
            "skipped: {connections} connections, for a process may have {allowed} files open here (ulimit -n)"
        );
    }
    enough
}
