//! Where items come from: a file or a pipe, as it is or compressed, read once from front to back.

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read, Seek},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The length of the longest magic number below.
const MAGIC: usize = 6;
const BUFFER: usize = 128 * 1024;

/// A file or a pipe that was opened, and not read yet.
pub(super) enum Opened {
    /// A file, with the content it has now.
    File(Box<Part>),
    /// What can be read only once: the next reading may give something else.
    Pipe(Box<dyn Read + Send>),
}

/// Decompressed bytes, and how far into the file they are.
pub(super) struct Source {
    /// The bytes.
    pub(super) bytes: Box<dyn BufRead + Send>,
    /// How far it has been read.
    pub(super) meter: Meter,
}

/// How far a file was read, for whoever shows progress.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    read: Arc<AtomicU64>,
    grown: Arc<AtomicU64>,
    /// Bytes of the file; none of a pipe.
    pub(super) size: Option<u64>,
}

impl Meter {
    /// Bytes read so far, before decompression.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes by which the file had grown when its end was reached. They are not read.
    pub(super) fn grown(&self) -> u64 {
        self.grown.load(Ordering::Relaxed)
    }

    /// Whether it is of a pipe or a device.
    pub(super) fn is_of_a_pipe(&self) -> bool {
        self.size.is_none()
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

impl Opened {
    /// A file, or standard input for `-`.
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        if is_stdin(path) {
            return Ok(Self::Pipe(Box::new(io::stdin())));
        }
        let shown = path.display();
        let metadata = std::fs::metadata(path).with_context(|| shown.to_string())?;
        if metadata.is_dir() {
            bail!("{shown} is a directory");
        }
        let file = File::open(path).with_context(|| shown.to_string())?;
        if !metadata.is_file() {
            return Ok(Self::Pipe(Box::new(file)));
        }
        Part::new(file).map(|part| Self::File(Box::new(part))).with_context(|| shown.to_string())
    }

    /// A digest of a file's content; what is read afterwards must be the same. None for a pipe.
    pub(super) fn digest(&mut self) -> io::Result<Option<Sha256>> {
        match self {
            Self::File(part) => part.digest().map(Some),
            Self::Pipe(_) => Ok(None),
        }
    }

    /// What is in it. Compression is known by the first bytes.
    pub(super) fn read(self) -> anyhow::Result<Source> {
        let (read, mut grown) = (Arc::<AtomicU64>::default(), Arc::default());
        let (raw, size): (Box<dyn Read + Send>, _) = match self {
            Self::File(part) => {
                grown = part.grown.clone();
                let size = part.size;
                (part, Some(size))
            }
            Self::Pipe(pipe) => (pipe, None),
        };
        let bytes = decompressed(Box::new(Metered { inner: raw, read: read.clone() }))?;
        Ok(Source { bytes, meter: Meter { read, grown, size } })
    }
}

/// The part of a file that was there when it was opened: what is added later is left out, and what is removed
/// or changed is an error.
pub(super) struct Part {
    file: File,
    size: u64,
    left: u64,
    /// The last bytes that were read.
    last: Option<u8>,
    is_compressed: bool,
    /// The digest that must have been read at the end, and the one so far, if they are known.
    digests: Option<(Sha256, Sha256)>,
    grown: Arc<AtomicU64>,
}

impl Part {
    fn new(mut file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let mut magic = Vec::with_capacity(MAGIC);
        (&mut file).take(MAGIC as u64).read_to_end(&mut magic)?;
        file.rewind()?;
        let is_compressed = is_gzip(&magic) || is_zstd(&magic);
        Ok(Self { file, size, left: size, last: None, is_compressed, digests: None, grown: Arc::default() })
    }

    fn digest(&mut self) -> io::Result<Sha256> {
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => digest.update(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.file.rewind()?;
        (self.left, self.last) = (self.size, None);
        self.digests = Some((digest.clone(), Sha256::new()));
        Ok(digest)
    }

    /// Whether the file has become another one since it was opened.
    fn at_the_end(&mut self) -> io::Result<()> {
        if let Some((before, now)) = self.digests.take()
            && before.finalize() != now.finalize()
        {
            return Err(io::Error::other("the file has changed since the import began"));
        }
        let grown = self.file.metadata()?.len().saturating_sub(self.size);
        self.grown.store(grown, Ordering::Relaxed);
        if grown > 0 && !self.is_compressed && !matches!(self.last, None | Some(b'\n' | b'\r')) {
            return Err(io::Error::other("was being written when the import began, and is not taken"));
        }
        Ok(())
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(room) = buffer.get_mut(..most).filter(|room| !room.is_empty()) else {
            return self.at_the_end().map(|()| 0);
        };
        let count = self.file.read(room)?;
        let read = room.get(..count).unwrap_or_default();
        if read.is_empty() {
            return Err(io::Error::other("the file has become shorter since the import began"));
        }
        if let Some((_, now)) = &mut self.digests {
            now.update(read);
        }
        self.left -= count as u64;
        self.last = read.last().copied();
        Ok(count)
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

fn is_gzip(magic: &[u8]) -> bool {
    magic.starts_with(&[0x1f, 0x8b])
}

/// A frame, or a skippable one, with which some compressors begin.
fn is_zstd(magic: &[u8]) -> bool {
    matches!(magic, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// The compression that these bytes begin with, if any.
fn decompressed(mut raw: Box<dyn Read + Send>) -> anyhow::Result<Box<dyn BufRead + Send>> {
    let mut magic = Vec::with_capacity(MAGIC);
    raw.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
    let all = BufReader::with_capacity(BUFFER, Cursor::new(magic.clone()).chain(raw));
    Ok(match magic.as_slice() {
        // Several members after another are one file, as `cat` and parallel compressors make them.
        magic if is_gzip(magic) => {
            Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(all)))
        }
        magic if is_zstd(magic) => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const CONTENT: &str = "species\na\nb\n";

    /// What is read of a file whose content changes after its digest was taken, and how much it has grown.
    fn read(content: &str, named: bool, change: impl FnOnce(&mut File)) -> (io::Result<String>, u64) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let mut opened = Opened::new(file.path()).unwrap();
        if named {
            opened.digest().unwrap().unwrap();
        }
        change(file.as_file_mut());
        let Source { mut bytes, meter } = opened.read().unwrap();
        let mut text = String::new();
        let read = bytes.read_to_string(&mut text).map(|_| text);
        (read, meter.grown())
    }

    #[test]
    fn what_is_added_to_a_file_is_left_out() {
        for named in [true, false] {
            let (text, grown) = read(CONTENT, named, |file| file.write_all(b"more\n").unwrap());
            assert_eq!((text.unwrap().as_str(), grown), (CONTENT, 5));
            let (text, grown) = read("species\nhalf a na", named, |file| file.write_all(b"me\n").unwrap());
            assert!(text.unwrap_err().to_string().starts_with("was being written"));
            assert_eq!(grown, 3);
            let (text, grown) = read("species\nhalf a na", named, |_| {});
            assert_eq!((text.unwrap().as_str(), grown), ("species\nhalf a na", 0));
        }
    }

    #[test]
    fn a_file_that_shrinks_or_changes_is_noticed() {
        for named in [true, false] {
            let (text, _) = read(CONTENT, named, |file| file.set_len(10).unwrap());
            assert!(text.unwrap_err().to_string().starts_with("the file has become shorter"));
        }
        let (text, _) = read(CONTENT, true, |file| {
            file.rewind().unwrap();
            file.write_all(b"SPECIES").unwrap();
        });
        assert!(text.unwrap_err().to_string().starts_with("the file has changed"));
    }
}
