//! PAX extended headers.

use super::{Entry, Error, Result, Segment, Time, field, sparse::Layout};

const MALFORMED: Error = Error::Malformed("a malformed PAX record");

/// The records of one header, in order.
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

/// Splits `LENGTH KEY=VALUE\n` records; LENGTH counts the whole record.
pub(super) fn parse(mut body: &[u8]) -> Result<Records> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let space = body.iter().take(20).position(|byte| *byte == b' ').ok_or(MALFORMED)?;
        let (digits, _) = body.split_at(space);
        let length = usize::try_from(decimal(digits)?).map_err(|_| MALFORMED)?;
        let record = body.get(space + 1..length).ok_or(MALFORMED)?;
        body = body.get(length..).ok_or(MALFORMED)?;
        let record = record.strip_suffix(b"\n").ok_or(MALFORMED)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(MALFORMED)?;
        let (key, value) = record.split_at(equals);
        if key.is_empty() || key.contains(&0) {
            return Err(MALFORMED);
        }
        records.push((key.to_vec(), value.get(1..).unwrap_or_default().to_vec()));
    }
    Ok(Records(records))
}

impl Records {
    /// Overrides what the header says; returns how the file is sparse, if it is.
    pub(super) fn apply(self, entry: &mut Entry) -> Result<Option<Layout>> {
        let mut sparse = Sparse::default();
        for (key, value) in self.0 {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                set_xattr(entry, name, value)?;
                continue;
            }
            if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                sparse.record(name, value)?;
                continue;
            }
            if value.is_empty() {
                continue; // means: what the header says
            }
            match key.as_slice() {
                b"path" => entry.path = name(value)?,
                b"linkpath" => entry.link = name(value)?,
                b"size" => {
                    entry.stored = u64::try_from(decimal(&value)?).map_err(|_| MALFORMED)?;
                    entry.size = entry.stored;
                }
                b"uid" => entry.uid = field::owner(decimal(&value)?)?,
                b"gid" => entry.gid = field::owner(decimal(&value)?)?,
                b"mtime" => entry.mtime = time(&value)?,
                // Access and change times, user names, comments: nothing that is kept.
                _ => {}
            }
        }
        sparse.layout(entry)
    }
}

/// The `GNU.sparse.*` records of formats 0.0, 0.1 and 1.0.
#[derive(Default)]
struct Sparse {
    version: (i64, i64),
    name: Option<Vec<u8>>,
    size: Option<u64>,
    numbers: Vec<u64>,
    is_map: bool,
}

impl Sparse {
    fn record(&mut self, key: &[u8], value: Vec<u8>) -> Result<()> {
        let number = || u64::try_from(decimal(&value)?).map_err(|_| MALFORMED);
        match key {
            b"major" => self.version.0 = decimal(&value)?,
            b"minor" => self.version.1 = decimal(&value)?,
            b"name" => self.name = Some(name(value)?),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"numblocks" => drop(number()?),
            // 0.0 repeats offset and numbytes for each segment, in this order.
            b"offset" | b"numbytes" => {
                if self.numbers.len().is_multiple_of(2) != (key == b"offset") {
                    return Err(MALFORMED);
                }
                self.numbers.push(number()?);
                self.is_map = true;
            }
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').filter(|part| !part.is_empty());
                self.numbers = numbers
                    .map(|part| u64::try_from(decimal(part)?).map_err(|_| MALFORMED))
                    .collect::<Result<_>>()?;
                self.is_map = true;
            }
            _ => return Err(Error::Malformed("an unknown form of sparse file")),
        }
        Ok(())
    }

    fn layout(self, entry: &mut Entry) -> Result<Option<Layout>> {
        if let Some(name) = self.name {
            entry.path = name;
        }
        match (self.version, self.size) {
            ((1, 0), Some(size)) => Ok(Some(Layout::InData { size })),
            ((0, 0 | 1), Some(size)) if self.is_map => {
                let pairs = self.numbers.chunks(2).map(|pair| match pair {
                    [offset, length] => Ok(Segment { offset: *offset, length: *length }),
                    _ => Err(MALFORMED),
                });
                Ok(Some(Layout::Known { size, segments: pairs.collect::<Result<_>>()? }))
            }
            ((0, 0), None) if !self.is_map => Ok(None),
            _ => Err(Error::Malformed("an unknown form of sparse file")),
        }
    }
}

fn set_xattr(entry: &mut Entry, key: &[u8], value: Vec<u8>) -> Result<()> {
    // XATTR_NAME_MAX and XATTR_SIZE_MAX of the kernel.
    if key.is_empty() || key.len() > 255 || value.len() > 65_536 {
        return Err(Error::Malformed("an extended attribute is too long"));
    }
    entry.xattrs.retain(|(name, _)| name != key);
    entry.xattrs.push((key.to_vec(), value));
    Ok(())
}

fn name(value: Vec<u8>) -> Result<Vec<u8>> {
    if value.contains(&0) { Err(Error::Malformed("a NUL in a name")) } else { Ok(value) }
}

fn decimal(digits: &[u8]) -> Result<i64> {
    let (negative, digits) = match digits.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(MALFORMED);
    }
    let value = digits.iter().try_fold(0_i64, |value, digit| {
        value.checked_mul(10)?.checked_add(i64::from(digit - b'0'))
    });
    let value = value.ok_or(MALFORMED)?;
    Ok(if negative { -value } else { value })
}

/// Seconds with an optional fraction; more digits than nanoseconds are cut off.
fn time(value: &[u8]) -> Result<Time> {
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let whole = parts.next().unwrap_or_default();
    let fraction = parts.next().unwrap_or_default();
    let seconds = decimal(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(MALFORMED);
    }
    let digit = |index| fraction.get(index).map_or(0, |digit| u32::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |value, index| value * 10 + digit(index));
    if whole.starts_with(b"-") && nanoseconds > 0 {
        let seconds = seconds.checked_sub(1).ok_or(MALFORMED)?;
        return Ok(Time { seconds, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Ok(Time { seconds, nanoseconds })
}
