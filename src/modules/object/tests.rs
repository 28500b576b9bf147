use super::*;

/// A module of one symbol that it needs and one that it gives, as small as can be.
fn module(is_wide: bool, is_big: bool) -> Vec<u8> {
    let number = |value: u64, length: usize| {
        let bytes = value.to_le_bytes()[..length].to_vec();
        if is_big { bytes.into_iter().rev().collect() } else { bytes }
    };
    let word = if is_wide { 8 } else { 4 };
    let names = b"\0.modinfo\0.gnu.linkonce.this_module\0__versions\0.symtab\0.strtab\0.shstrtab\0__kcrctab\0".to_vec();
    let at = |name: &str| {
        names.windows(name.len() + 1).position(|window| window == [name.as_bytes(), b"\0"].concat()).unwrap() as u64
    };
    let info = b"name=small\0vermagic=6.1 SMP \0depends=a,b-c\0intree=Y\0".to_vec();
    let strings = b"\0taken\0__ksymtab_given\0__crc_given\0__ksymtab_old\0__crc_old\0".to_vec();
    let string = |name: &str| {
        strings.windows(name.len() + 2).position(|window| window == [b"\0", name.as_bytes(), b"\0"].concat()).unwrap()
            as u64
            + 1
    };
    let mut versions = number(0x1234_5678, word);
    versions.extend(b"taken\0");
    versions.resize(64, 0);
    let crcs = [number(0, 4), number(0xabcd_ef01, 4)].concat();
    let symbol = |name: &str, section: u64, value: u64| -> Vec<u8> {
        let name = if name.is_empty() { 0 } else { string(name) };
        match is_wide {
            true => [number(name, 4), number(0, 2), number(section, 2), number(value, 8), number(0, 8)].concat(),
            false => [number(name, 4), number(value, 4), number(0, 4), number(0, 2), number(section, 2)].concat(),
        }
    };
    let symbols = [
        symbol("", 0, 0),
        symbol("taken", 0, 0),
        symbol("__ksymtab_given", 2, 0),
        symbol("__crc_given", 7, 4),
        symbol("__ksymtab_old", 2, 0),
        symbol("__crc_old", 0xfff1, 0x77),
    ]
    .concat();
    let parts: [(&str, u64, Vec<u8>, u64); 8] = [
        ("", 0, vec![], 0),
        (".modinfo", 1, info, 0),
        (".gnu.linkonce.this_module", 1, vec![0; 8], 0),
        ("__versions", 1, versions, 0),
        (".symtab", 2, symbols, 5),
        (".strtab", 3, strings.clone(), 0),
        (".shstrtab", 3, names.clone(), 0),
        ("__kcrctab", 1, crcs, 0),
    ];
    let header = if is_wide { 64 } else { 52 };
    let mut file = vec![0; header];
    let mut headers = Vec::new();
    for (name, kind, bytes, link) in &parts {
        let (start, length) = (file.len() as u64, bytes.len() as u64);
        let name = if name.is_empty() { 0 } else { at(name) };
        headers.extend([number(name, 4), number(*kind, 4), number(0, word), number(0, word)].concat());
        headers.extend([number(start, word), number(length, word), number(*link, 4), number(0, 4)].concat());
        headers.extend([number(1, word), number(0, word)].concat());
        file.extend(bytes);
    }
    let table = file.len() as u64;
    file.extend(headers);
    file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', if is_wide { 2 } else { 1 }, if is_big { 2 } else { 1 }]);
    let mut set = |at: usize, bytes: Vec<u8>| file[at..at + bytes.len()].copy_from_slice(&bytes);
    set(16, number(1, 2));
    set(18, number(62, 2));
    let (offset, counts) = if is_wide { (40, 58) } else { (32, 46) };
    set(offset, number(table, word));
    set(counts, [number(if is_wide { 64 } else { 40 }, 2), number(8, 2), number(6, 2)].concat());
    file
}

fn all() -> impl Iterator<Item = Vec<u8>> {
    [(true, false), (true, true), (false, false), (false, true)].into_iter().map(|(wide, big)| module(wide, big))
}

#[test]
fn every_class_and_order_of_bytes_is_read() {
    for file in all() {
        let object = Object::read(&file).unwrap();
        assert_eq!((object.name.as_deref(), object.vermagic.as_deref()), (Some("small"), Some("6.1 SMP ")));
        assert_eq!((object.depends.as_slice(), object.is_in_tree()), (&["a".to_owned(), "b-c".to_owned()][..], true));
        assert_eq!(object.machine.to_string(), "x86-64");
        assert_eq!(object.needs, [("taken".to_owned(), Some(0x1234_5678))]);
        assert_eq!(object.exports, [("given".to_owned(), Some(0xabcd_ef01)), ("old".to_owned(), Some(0x77))]);
        assert_eq!(object.signature, None);
    }
}

#[test]
fn a_signature_is_seen_if_it_is_whole() {
    let mut file = module(true, false);
    file.extend([9; 5]);
    file.extend([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
    file.extend(b"~Module signature appended~\n");
    assert_eq!(Object::read(&file).unwrap().signature, Some(Signature { length: 5 }));
    file.pop();
    assert_eq!(Object::read(&file).unwrap().signature, None);
    for length in [[0, 0, 0, 0], [255, 255, 255, 255]] {
        let text = [&[0; 8][..], &length, b"~Module signature appended~\n"].concat();
        assert_eq!(Signature::of(&text), None);
    }
    assert_eq!(Signature::of(b"~Module signature appended~\n"), None);
}

#[test]
fn every_cut_is_noticed() {
    for file in all() {
        for length in 0..file.len() {
            assert!(Object::read(&file[..length]).is_err(), "{length} of {}", file.len());
        }
    }
}

#[test]
fn no_change_of_bytes_is_the_end_of_us() {
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for file in all() {
        for _ in 0..5_000 {
            let mut file = file.clone();
            for _ in 0..=random(8) {
                let at = random(file.len());
                file[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
            }
            let _ = Object::read(&file);
        }
    }
}

#[test]
fn the_libraries_of_a_program_are_known() {
    let kmod = std::fs::read("/bin/kmod").or_else(|_| std::fs::read("/sbin/modprobe")).unwrap();
    let found = libraries(&kmod);
    assert!(found.iter().any(|name| name.starts_with("libc.so.")), "{found:?}");
    assert!(libraries(&kmod[..kmod.len() / 2]).is_empty());
    assert!(
        libraries(b"#!/bin/sh\n").is_empty() && libraries(b"").is_empty() && libraries(&module(true, false)).is_empty()
    );
}

#[test]
fn other_files_are_told_apart() {
    assert_eq!(Object::read(b""), Err(Flaw::Empty));
    assert_eq!(Object::read(b"<html>"), Err(Flaw::NotElf));
    let own = std::fs::read("/proc/self/exe").unwrap();
    assert!(matches!(Object::read(&own), Err(Flaw::OtherKind(2 | 3))));
    for packed in [&b"\x1f\x8bxx"[..], b"\xfd7zXZ\0xx", b"\x28\xb5\x2f\xfdxx"] {
        assert!(matches!(Object::read(packed), Err(Flaw::Packed(..))), "{packed:?}");
    }
    assert!(Flaw::CutShort { wanted: 9, length: 5 }.to_string().contains("5 bytes"));
}

#[test]
fn what_unpacks_to_too_much_is_left() {
    use std::io::Write;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&vec![0; 100_000]).unwrap();
    let packed = packed.finish().unwrap();
    assert_eq!(unpack(&packed, 99_999), Err(Flaw::TooLong(99_999)));
    assert_eq!(unpack(&packed, 100_000).unwrap().len(), 100_000);
}
