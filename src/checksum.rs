//! The checksum of what we write and read again.
#![forbid(unsafe_code)]

use crc::{CRC_32_ISO_HDLC, Crc};

static CRC_32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// CRC-32 as in zip and gzip (ISO 3309). By a table: to find out what this processor can do takes CPUID ten times, each of
/// which leaves a virtual machine, and that is more than all that is to be summed up.
pub fn crc32(bytes: &[u8]) -> u32 {
    CRC_32.checksum(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_one_that_is_written_everywhere() {
        for (bytes, sum) in [(&b""[..], 0), (b"123456789", 0xCBF4_3926)] {
            assert_eq!(crc32(bytes), sum);
        }
    }
}
