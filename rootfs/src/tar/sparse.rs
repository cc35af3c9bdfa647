//! Where the bytes of a sparse file belong.

use super::{BLOCK, Error, Result, field};

/// More than any real file has, and few enough to hold in memory.
pub(super) const MAX_SEGMENTS: usize = 65_536;

const MALFORMED: Error = Error::Malformed("a malformed sparse map");

/// A run of stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// How a PAX header describes a sparse file.
pub(super) enum Layout {
    /// Formats 0.0 and 0.1: the map is in the header.
    Known { size: u64, segments: Vec<Segment> },
    /// Format 1.0: the map is in front of the data.
    InData { size: u64 },
}

/// The up to four segments of an old GNU header.
pub(super) fn from_header(block: &[u8; BLOCK]) -> Result<Vec<Segment>> {
    let mut map = Vec::new();
    entries(&mut map, &block[386..482])?;
    Ok(map)
}

/// Adds the segments of a continuation block; true when another block follows.
pub(super) fn extend(map: &mut Vec<Segment>, block: &[u8; BLOCK]) -> Result<bool> {
    entries(map, &block[..504])?;
    Ok(block[504] != 0)
}

fn entries(map: &mut Vec<Segment>, area: &[u8]) -> Result<()> {
    for pair in area.chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        if offset.first() == Some(&0) {
            break; // unused
        }
        map.push(Segment { offset: field::size(offset)?, length: field::size(length)? });
    }
    Ok(())
}

/// How many lines the map of format 1.0 has: a count, then that many pairs, one number a line. `None`
/// until the first line is there.
pub(super) fn lines(text: &[u8]) -> Result<Option<usize>> {
    let Some(end) = text.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let count = number(text.get(..end))?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_SEGMENTS);
    let count = count.ok_or(Error::Malformed("a sparse map is too long"))?;
    Ok(Some(count * 2 + 1))
}

/// Reads the map of format 1.0.
pub(super) fn from_text(text: &[u8]) -> Result<Vec<Segment>> {
    let Some(needed) = lines(text)? else { return Err(MALFORMED) };
    let mut numbers = text.split(|byte| *byte == b'\n').take(needed).skip(1);
    let mut map = Vec::new();
    while let Some(offset) = numbers.next() {
        map.push(Segment { offset: number(Some(offset))?, length: number(numbers.next())? });
    }
    Ok(map)
}

fn number(digits: Option<&[u8]>) -> Result<u64> {
    let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    let text = text.filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok()).ok_or(MALFORMED)
}

/// Segments must be in order, apart, inside the file, and account for every stored byte.
pub(super) fn check(segments: &[Segment], size: u64, stored: u64) -> Result<()> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for segment in segments {
        if segment.offset < end {
            return Err(MALFORMED);
        }
        end = segment.offset.checked_add(segment.length).ok_or(MALFORMED)?;
        sum = sum.checked_add(segment.length).ok_or(MALFORMED)?;
    }
    // lseek(2) and ftruncate(2) take signed numbers.
    if end > size || sum != stored || i64::try_from(size).is_err() {
        return Err(MALFORMED);
    }
    Ok(())
}
