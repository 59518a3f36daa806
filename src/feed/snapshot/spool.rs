//! A file between a table that must be read fast and a client that may be slow. It has no name, and
//! disappears with its last user.
//!
//! The disk space that all of them take is counted: see [`Room`].

use bytes::Bytes;
use std::{
    fs::File,
    future::Future,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::{sync::watch, task::spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

/// Bytes per read.
const CHUNK: u64 = 32 * 1024;

/// Why a spool ends before its table does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The database went away: another attempt may succeed.
    Interrupted,
    /// A fault of the hub.
    Failed(String),
}

/// The disk space that the spools of a hub may take. Once it is taken no other spool is begun; those that
/// were begun go on, or they would wait for each other. So a single one may be larger.
pub(super) struct Room {
    most: u64,
    taken: AtomicU64,
}

impl Room {
    pub(super) fn new(most: u64) -> Self {
        Self { most, taken: AtomicU64::new(0) }
    }
}

struct Spooled {
    file: File,
    bytes: AtomicU64,
    room: Arc<Room>,
}

impl Spooled {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        for taken in [&self.bytes, &self.room.taken] {
            taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.file.write_all_at(bytes, at)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Progress {
    written: u64,
    /// `Some`: nothing more will be written, because of this.
    end: Option<Result<(), Broken>>,
}

/// The writing side.
pub(super) struct Spool {
    file: Arc<Spooled>,
    progress: watch::Sender<Progress>,
}

impl Spool {
    /// `None`: there is no room.
    pub(super) fn new(room: &Arc<Room>) -> io::Result<Option<Self>> {
        if room.taken.load(Ordering::Relaxed) >= room.most {
            return Ok(None);
        }
        let (file, bytes, room) = (tempfile::tempfile()?, AtomicU64::new(0), room.clone());
        let file = Arc::new(Spooled { file, bytes, room });
        Ok(Some(Self { file, progress: watch::Sender::default() }))
    }

    pub(super) fn reader(&self) -> SpoolReader {
        SpoolReader {
            file: self.file.clone(),
            progress: self.progress.subscribe(),
            position: 0,
            reading: None,
            _writer: None,
        }
    }

    pub(super) async fn write(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let (file, at, length) = (self.file.clone(), self.progress.borrow().written, bytes.len() as u64);
        spawn_blocking(move || file.write(&bytes, at)).await??;
        self.progress.send_modify(|progress| progress.written += length);
        Ok(())
    }

    pub(super) fn finish(&self, end: Result<(), Broken>) {
        self.progress.send_modify(|progress| progress.end = Some(end));
    }
}

type Reading = Pin<Box<dyn Future<Output = Result<Bytes, Broken>> + Send>>;

/// The reading side. Dropping it ends the writer.
pub struct SpoolReader {
    file: Arc<Spooled>,
    progress: watch::Receiver<Progress>,
    position: u64,
    reading: Option<Reading>,
    /// Kept for its end.
    _writer: Option<AbortOnDropHandle<()>>,
}

impl SpoolReader {
    pub(super) fn fed_by(mut self, writer: AbortOnDropHandle<()>) -> Self {
        self._writer = Some(writer);
        self
    }

    /// The next bytes; `None`: that was all; an error: that was not all.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let Self { file, progress, position, reading, .. } = self;
        let read = reading.get_or_insert_with(|| Box::pin(read(file.clone(), progress.clone(), *position)));
        let result = ready!(read.as_mut().poll(cx));
        *reading = None;
        Poll::Ready(match result {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => {
                *position += bytes.len() as u64;
                Some(Ok(bytes))
            }
            Err(error) => Some(Err(error)),
        })
    }
}

/// Waits for bytes at a position, and reads some; an empty result: none are left.
async fn read(
    file: Arc<Spooled>,
    mut progress: watch::Receiver<Progress>,
    position: u64,
) -> Result<Bytes, Broken> {
    let (written, end) =
        match progress.wait_for(|progress| progress.written > position || progress.end.is_some()).await {
            Ok(progress) => (progress.written, progress.end.clone()),
            Err(_) => return Err(Broken::Failed("the reading of the table was given up".to_owned())),
        };
    if written == position {
        return end.unwrap_or(Ok(())).map(|()| Bytes::new());
    }
    let length = usize::try_from((written - position).min(CHUNK)).unwrap_or(0);
    let chunk = spawn_blocking(move || {
        let mut chunk = vec![0; length];
        file.file.read_exact_at(&mut chunk, position).map(|()| chunk)
    });
    match chunk.await {
        Ok(Ok(chunk)) => Ok(chunk.into()),
        Ok(Err(error)) => Err(Broken::Failed(error.to_string())),
        Err(error) => Err(Broken::Failed(error.to_string())),
    }
}
