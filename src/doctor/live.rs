//! `/proc/modules`: proc_modules(5).

use crate::host::Host;

/// A line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// The module.
    pub name: Vec<u8>,
    /// Its users: modules that need it, and whatever else holds it. `-` on kernels without unloading.
    pub references: Option<u32>,
    /// The modules that need it.
    pub users: Vec<Vec<u8>>,
    /// `Live`, `Loading` or `Unloading`.
    pub state: String,
}

impl Live {
    /// References that no module holds: a rule, a table, an open socket.
    pub fn own_references(&self) -> u32 {
        let users = u32::try_from(self.users.len()).unwrap_or(u32::MAX);
        self.references.unwrap_or(0).saturating_sub(users)
    }
}

/// All loaded modules; `None` if the kernel does not tell.
pub fn live_modules(host: &Host) -> Option<Vec<Live>> {
    let bytes = host.read("/proc/modules", 4 << 20).ok()?;
    Some(bytes.split(|&byte| byte == b'\n').filter_map(line).collect())
}

/// NAME SIZE REFERENCES USERS STATE ADDRESS; users end in a comma each, or are `-`.
fn line(line: &[u8]) -> Option<Live> {
    let mut fields = line.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    let name = fields.next()?.to_vec();
    let references = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok();
    let users = fields.next()?.split(|&byte| byte == b',').filter(|user| !user.is_empty() && user != b"-");
    // `[permanent],` stands among the users of a module that can't be unloaded.
    let users = users.filter(|user| !user.starts_with(b"[")).map(<[u8]>::to_vec).collect();
    let state = fields.next().map(|state| String::from_utf8_lossy(state).into_owned()).unwrap_or_default();
    Some(Live { name, references, users, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let parsed = line(b"nf_nat 57344 3 nft_chain_nat,xt_MASQUERADE, Live 0xffffffffc09c5000 (E)").unwrap();
        assert_eq!((parsed.references, parsed.own_references()), (Some(3), 1));
        assert_eq!(parsed.users, [b"nft_chain_nat".to_vec(), b"xt_MASQUERADE".to_vec()]);
        let permanent = line(b"a 1 - [permanent], Loading 0x0").unwrap();
        assert_eq!((permanent.references, permanent.users.len(), permanent.state.as_str()), (None, 0, "Loading"));
        for garbage in [&b""[..], b"a", b"a 1", b"\xff\xff \xff \xff"] {
            assert_eq!(line(garbage), None);
        }
        assert_eq!(line(b"a 1 x -").unwrap().references, None);
    }
}
