//! Where items come from: a file or a pipe, as it is or compressed, read once from front to back.

use anyhow::{Context, bail};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// As long as the longest magic number below.
const MAGIC: usize = 6;
const BUFFER: usize = 128 * 1024;

/// Decompressed bytes, and how far into the file they are.
pub(super) struct Source {
    /// The bytes.
    pub(super) bytes: Box<dyn BufRead + Send>,
    /// How far it was read.
    pub(super) meter: Meter,
}

/// How far a file was read, for whoever shows progress.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    read: Arc<AtomicU64>,
    /// Bytes of the file; none of a pipe.
    pub(super) size: Option<u64>,
}

impl Meter {
    /// Bytes read so far, before decompression.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Whether it is of a pipe or a device, which is read once: what comes from it the next time may be something else.
    pub(super) fn is_of_a_pipe(&self) -> bool {
        self.size.is_none()
    }
}

/// A file, if this names one whose size and content stay: no pipe and no device.
fn regular_file(path: &Path) -> anyhow::Result<Option<File>> {
    if is_stdin(path) {
        return Ok(None);
    }
    let shown = path.display();
    let metadata = std::fs::metadata(path).with_context(|| shown.to_string())?;
    if metadata.is_dir() {
        bail!("{shown} is a directory");
    }
    metadata.is_file().then(|| File::open(path).with_context(|| shown.to_string())).transpose()
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

impl Source {
    /// Opens a file, or standard input for `-`. Compression is known by the first bytes.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let read = Arc::<AtomicU64>::default();
        let (raw, size): (Box<dyn Read + Send>, _) = match regular_file(path)? {
            Some(file) => {
                let size = file.metadata().with_context(|| path.display().to_string())?.len();
                (Box::new(file), Some(size))
            }
            None if is_stdin(path) => (Box::new(io::stdin()), None),
            None => (Box::new(File::open(path).with_context(|| path.display().to_string())?), None),
        };
        let bytes = decompressed(Box::new(Metered { inner: raw, read: read.clone() }))
            .with_context(|| path.display().to_string())?;
        Ok(Self { bytes, meter: Meter { read, size } })
    }
}

struct Metered {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// What these bytes are a compressed form of, if they are one.
fn decompressed(mut raw: Box<dyn Read + Send>) -> anyhow::Result<Box<dyn BufRead + Send>> {
    let mut magic = Vec::with_capacity(MAGIC);
    raw.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
    let all = BufReader::with_capacity(BUFFER, Cursor::new(magic.clone()).chain(raw));
    Ok(match magic.as_slice() {
        // Several members after another are one file, as `cat` and parallel compressors make them.
        [0x1f, 0x8b, ..] => {
            Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(all)))
        }
        // A frame, or one to be skipped with which some compressors begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(BufReader::with_capacity(BUFFER, zstd::stream::read::Decoder::with_buffer(all)?))
        }
        [b'B', b'Z', b'h', ..] => {
            bail!("is compressed with bzip2: decompress it into a pipe (bzcat FILE | trex import -)")
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            bail!("is compressed with xz: decompress it into a pipe (xzcat FILE | trex import -)")
        }
        [b'P', b'K', 3, 4, ..] => {
            bail!("is a zip archive: unpack it into a pipe (unzip -p FILE | trex import -)")
        }
        _ => Box::new(all),
    })
}
