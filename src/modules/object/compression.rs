//! How a module's file is compressed: `.ko.gz`, `.ko.xz`, `.ko.zst`.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use super::Flaw;

/// A way of compressing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// gzip(1).
    Gzip,
    /// xz(1).
    Xz,
    /// zstd(1).
    Zstd,
}

impl Compression {
    /// By the file's name, as modprobe judges it.
    pub fn of_name(path: &str) -> Compression {
        match path.rsplit('.').next() {
            Some("gz") => Compression::Gzip,
            Some("xz") => Compression::Xz,
            Some("zst") => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// By its first bytes.
    pub fn of(bytes: &[u8]) -> Compression {
        match bytes {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "not compressed",
            Compression::Gzip => "gzip",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
        })
    }
}

/// `bytes`, unpacked if they are compressed; at most `limit` bytes.
///
/// # Errors
/// If what is compressed is damaged, or too long.
pub fn unpack(bytes: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, Flaw> {
    let compression = Compression::of(bytes);
    let mut out = Vec::new();
    let wanted = limit as u64 + 1;
    let read = match compression {
        Compression::None => return Ok(Cow::Borrowed(bytes)),
        Compression::Gzip => flate2::read::GzDecoder::new(bytes).take(wanted).read_to_end(&mut out),
        Compression::Xz => lzma_rust2::XzReader::new(bytes, true).take(wanted).read_to_end(&mut out),
        Compression::Zstd => ruzstd::decoding::StreamingDecoder::new(bytes)
            .map_err(std::io::Error::other)
            .and_then(|decoder| decoder.take(wanted).read_to_end(&mut out)),
    };
    match read {
        Ok(length) if length > limit => Err(Flaw::TooLong(limit)),
        Ok(_) => Ok(Cow::Owned(out)),
        Err(error) => Err(Flaw::Packed(compression, error.to_string())),
    }
}
