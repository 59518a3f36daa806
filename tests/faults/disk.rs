//! A disk that can be filled: a tmpfs with a limit, for who may mount one.

use crate::suite::say;
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

const OPTIONS: &str = "size=128m,mode=0700";
/// Then comes the process whose mount it is.
const PREFIX: &str = "trex-faults-disk-";
const PIECE: usize = 64 << 10;

/// The mount. It goes when this is dropped.
pub struct Disk {
    pub path: PathBuf,
}

impl Disk {
    /// Mounts one for the owner of a directory. `None`, said aloud: this user may not.
    pub fn mount(like: &Path) -> Option<Self> {
        unmount_what_was_left();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let path = tempfile::Builder::new().prefix(&prefix).tempdir().ok()?.keep();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", OPTIONS, "tmpfs"]).arg(&path).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            say("SKIPPED: the faults of a full disk, for this user may not mount a tmpfs");
            let _ = fs::remove_dir(&path);
            return None;
        }
        let disk = Self { path };
        let owner = fs::metadata(like).expect("a directory");
        chown(&disk.path, Some(owner.uid()), Some(owner.gid())).expect("chown");
        Some(disk)
    }

    /// Leaves no byte free for as long as what it returns lives.
    pub fn fill(&self) -> Filler {
        let path = self.path.join("filler");
        let mut file = File::create(&path).expect("a file");
        let piece = vec![1; PIECE];
        loop {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Filler(path),
                Err(error) => panic!("filling the disk: {error}"),
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

fn unmount(path: &Path) {
    let _ = Command::new("umount").arg("-l").arg(path).status();
    let _ = fs::remove_dir(path);
}

/// By a run that was killed.
fn unmount_what_was_left() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            unmount(&entry.path());
        }
    }
}

/// What fills a disk.
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
