//! Files of records as people keep them: plain, or packed by gzip, zstd or xz, which their first bytes tell.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::modules::Compression;

/// What is read at once of a packed file.
const BUFFER: usize = 128 << 10;

/// A file of records, open at its beginning.
pub struct Opened {
    /// Its lines.
    pub lines: Box<dyn Read + Send>,
    /// Whether they are unpacked while they are read.
    pub is_packed: bool,
}

/// Opens `path`; `-` is standard input. `on_read` hears of all bytes that are read of it, packed or not.
///
/// # Errors
/// Those of open(2), and of the first read; the path stands in front of them and of all that come later.
pub fn open(path: &Path, on_read: impl Fn(u64) + Send + 'static) -> io::Result<Opened> {
    let said =
        |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{}: {what}: {error}", path.display()));
    let raw: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(|error| said("open", error))?)
    };
    let Opened { lines, is_packed } = unpacked(Heard { raw, on_read }).map_err(|error| said("read", error))?;
    let shown = path.display().to_string();
    Ok(Opened { lines: Box::new(Named { shown, lines }), is_packed })
}

fn unpacked(mut raw: impl Read + Send + 'static) -> io::Result<Opened> {
    let mut magic = Vec::new();
    raw.by_ref().take(6).read_to_end(&mut magic)?;
    let compression = Compression::of(&magic);
    let whole = Cursor::new(magic).chain(raw);
    if compression == Compression::None {
        return Ok(Opened { lines: Box::new(whole), is_packed: false });
    }
    let packed = BufReader::with_capacity(BUFFER, whole);
    let lines: Box<dyn Read + Send> = match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new(packed, true)),
        Compression::Zstd | Compression::None => {
            Box::new(Frames { packed, decoder: FrameDecoder::new(), is_inside: false })
        }
    };
    Ok(Opened { lines, is_packed: true })
}

/// Tells how much is read.
struct Heard<F> {
    raw: Box<dyn Read + Send>,
    on_read: F,
}

impl<F: Fn(u64)> Read for Heard<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.raw.read(into)?;
        (self.on_read)(count as u64);
        Ok(count)
    }
}

/// Says in every error which file it is about.
struct Named {
    shown: String,
    lines: Box<dyn Read + Send>,
}

impl Read for Named {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.lines.read(into).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, format!("{}: read: {error}", self.shown)),
        })
    }
}

/// The frames of a zstd file, one behind the other (RFC 8878, section 3): whoever packs in parallel, or appends, makes
/// several.
struct Frames<R> {
    packed: R,
    decoder: FrameDecoder,
    is_inside: bool,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.decoder.read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            if self.is_inside && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.packed, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
                continue;
            }
            if self.packed.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.decoder.init(&mut self.packed) {
                Ok(()) => self.is_inside = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    self.is_inside = false;
                    io::copy(&mut self.packed.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// `bytes` packed by the tool that people use.
    fn packed(tool: &str, bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new(tool).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    fn read(bytes: &[u8]) -> io::Result<(Vec<u8>, bool, u64)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let heard = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&heard);
        let mut opened = open(file.path(), move |count| {
            counter.fetch_add(count, Ordering::Relaxed);
        })?;
        let mut all = Vec::new();
        opened.lines.read_to_end(&mut all)?;
        Ok((all, opened.is_packed, heard.load(Ordering::Relaxed)))
    }

    #[test]
    fn what_is_packed_is_told_by_its_bytes() {
        let lines: Vec<u8> = (0..50_000).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
        assert_eq!(read(&lines).unwrap(), (lines.clone(), false, lines.len() as u64));
        for tool in ["gzip", "xz", "zstd"] {
            let once = packed(tool, &lines);
            assert_eq!(read(&once).unwrap(), (lines.clone(), true, once.len() as u64), "{tool}");
            // As by `cat a.gz b.gz`.
            assert_eq!(read(&once.repeat(2)).unwrap().0, lines.repeat(2), "{tool}");
            let cut = read(once.get(..once.len() / 2).unwrap()).unwrap_err().to_string();
            assert!(cut.contains(": read: "), "{tool}: {cut}");
        }
        // A frame that holds no data (RFC 8878, section 3.1.2).
        let mut skipped = vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        skipped.extend(packed("zstd", b"after\n"));
        let frames = [packed("zstd", b"before\n"), skipped].concat();
        assert_eq!(read(&frames).unwrap().0, b"before\nafter\n");
        for short in [&b""[..], b"a", b"\x1f"] {
            assert_eq!(read(short).unwrap(), (short.to_vec(), false, short.len() as u64));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = open(Path::new("/no/such/file"), |_| ()).err().unwrap().to_string();
        assert!(error.starts_with("/no/such/file: open: "), "{error}");
    }
}
