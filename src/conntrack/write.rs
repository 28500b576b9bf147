//! One kernel setting: read, written, read back.

use std::io;

use crate::host::Host;
use crate::model::{Change, Value};
use crate::text::Text;

/// Writes `wanted` unless it is there already, and reads back.
pub(super) fn set(host: &Host, key: &str, path: &str, wanted: &[u8]) -> Change {
    let before = read(host, path);
    let mut change = Change { key: key.to_owned(), before: before.clone(), after: before, error: None };
    if change.before.as_ref() == Some(&value(wanted)) {
        return change;
    }
    if let Err(error) = write(host, path, wanted) {
        change.error = Some(failure(path, &Text::from(wanted).to_string(), &error));
    }
    change.after = read(host, path);
    if change.error.is_none() {
        change.error = mismatch(path, &value(wanted), change.after.as_ref());
    }
    change
}

/// The kernel may take a number and keep another one. Other values it may well print in another way.
fn mismatch(path: &str, wanted: &Value, after: Option<&Value>) -> Option<String> {
    match (wanted, after) {
        (Value::Number(wanted), Some(Value::Number(after))) if wanted != after => {
            Some(format!("{path}: wrote {wanted}, reads back as {after}"))
        }
        _ => None,
    }
}

pub(super) fn write(host: &Host, path: &str, value: &[u8]) -> io::Result<()> {
    host.write_existing(path, &[value, b"\n"].concat())
}

pub(super) fn failure(path: &str, value: &str, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::InvalidInput => ": this kernel takes no such value",
        io::ErrorKind::ReadOnlyFilesystem => ": mount it writable",
        io::ErrorKind::PermissionDenied => ": it takes root, outside of containers",
        _ => "",
    };
    format!("{path}: write {value}: {error}{remedy}")
}

pub(super) fn read(host: &Host, path: &str) -> Option<Value> {
    host.line(path).map(|line| value(&line))
}

/// A number of entries or buckets. Linux 5.10 shows a max beyond INT_MAX as a negative number.
pub(super) fn entries(host: &Host, path: &str) -> Result<u32, String> {
    let line = host.read(path, 64).map_err(|error| format!("{path}: read: {error}"))?;
    match value(line.trim_ascii()) {
        Value::Number(number) if number < 0 => Ok(i32::MAX.cast_unsigned()),
        Value::Number(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        Value::Text(text) => Err(format!("{path}: read: {text} is no number")),
    }
}

/// A number wherever it is one.
pub(super) fn value(bytes: &[u8]) -> Value {
    let number = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
    number.map_or_else(|| Value::Text(Text::from(bytes)), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_number_is_a_mismatch() {
        for (wanted, after, error) in [
            ("5", Some("5"), None),
            ("5", Some("6"), Some("p: wrote 5, reads back as 6")),
            ("1 2", Some("1\t2"), None),
            ("5", None, None),
        ] {
            let after = after.map(|text| value(text.as_bytes()));
            assert_eq!(mismatch("p", &value(wanted.as_bytes()), after.as_ref()).as_deref(), error, "{wanted}");
        }
    }

    #[test]
    fn an_error_names_path_verb_value_and_remedy() {
        let error = io::Error::from_raw_os_error(libc::EROFS);
        assert_eq!(
            failure("/proc/sys/x", "5", &error),
            "/proc/sys/x: write 5: Read-only file system (os error 30): mount it writable"
        );
    }
}
