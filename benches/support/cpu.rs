//! Processor time, as the kernel accounts it.

use std::{fs, path::Path, time::Duration};

/// `sysconf(_SC_CLK_TCK)`: 100 on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// Of a process, all threads; zero once it is gone.
pub fn of_process(pid: u32) -> Duration {
    of_stat(Path::new(&format!("/proc/{pid}/stat")))
}

/// Of this process.
pub fn of_self() -> Duration {
    of_process(std::process::id())
}

/// Of the threads of a process whose name begins so. On-processor nanoseconds, finer than ticks.
pub fn of_threads(pid: u32, prefix: &str) -> Duration {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let named = tasks.filter_map(Result::ok).filter(|task| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with(prefix))
    });
    named.map(|task| on_processor(&task.path().join("schedstat"))).sum()
}

fn on_processor(schedstat: &Path) -> Duration {
    let text = fs::read_to_string(schedstat).unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// User and system time: the 14th and 15th field; the second is a name in parentheses that may hold spaces.
fn of_stat(path: &Path) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}
