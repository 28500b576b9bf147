//! What is appended to a signed module (include/linux/module_signature.h): the signature, what it is, and a last line.
#![forbid(unsafe_code)]

/// The last line.
const MAGIC: &[u8] = b"~Module signature appended~\n";
/// Bytes of what stands before it: `struct module_signature`.
const TRAILER: usize = 12;

/// A module's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Bytes of it.
    pub length: u32,
}

impl Signature {
    /// The signature at the end of a module that is not compressed.
    pub fn of(bytes: &[u8]) -> Option<Signature> {
        let signed = bytes.strip_suffix(MAGIC)?;
        let trailer = signed.get(signed.len().checked_sub(TRAILER)?..)?;
        // The length comes last, most significant byte first whatever the machine.
        let length: [u8; 4] = trailer.get(TRAILER - 4..)?.try_into().ok()?;
        let length = u32::from_be_bytes(length);
        let fits = usize::try_from(length).is_ok_and(|length| length > 0 && length <= signed.len() - TRAILER);
        fits.then_some(Signature { length })
    }
}
