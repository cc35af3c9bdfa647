//! The fixed fields of a header block.

use super::{BLOCK, Entry, Error, Kind, Result, Time};

/// Compares the header's checksum, which old archivers computed over signed bytes.
pub(super) fn check_sum(block: &[u8; BLOCK]) -> Result<()> {
    let wanted = octal(&block[148..156])?;
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (index, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&index) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if wanted == unsigned || wanted == signed {
        Ok(())
    } else {
        Err(Error::Malformed("a header's checksum is wrong"))
    }
}

/// Everything a header says by itself; extension headers may change it.
pub(super) fn entry(block: &[u8; BLOCK]) -> Result<Entry> {
    let kind = match block[156] {
        // `7` is a contiguous file, `S` a sparse one of GNU tar's.
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharacterDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return Err(Error::Malformed("an entry of unknown type")),
    };
    let size = size(&block[124..136])?;
    let device = match kind {
        Kind::CharacterDevice | Kind::BlockDevice => {
            // What a 32 bit dev_t has room for, makedev(3).
            (small(&block[329..337], 0xfff)?, small(&block[337..345], 0xf_ffff)?)
        }
        _ => (0, 0),
    };
    Ok(Entry {
        kind,
        path: path(block),
        link: text(&block[157..257]).to_vec(),
        mode: small(&block[100..108], i64::from(u32::MAX))? & 0o7777,
        uid: owner(number(&block[108..116])?)?,
        gid: owner(number(&block[116..124])?)?,
        mtime: Time { seconds: number(&block[136..148])?, nanoseconds: 0 },
        device,
        stored: size,
        size,
        segments: None,
        xattrs: Vec::new(),
    })
}

/// A user or group id; 2^32-1 means "leave it alone" to chown(2) and is nobody's.
pub(super) fn owner(number: i64) -> Result<u32> {
    match u32::try_from(number) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(Error::Malformed("an owner that is no user or group id")),
    }
}

pub(super) fn size(field: &[u8]) -> Result<u64> {
    u64::try_from(number(field)?).map_err(|_| Error::Malformed("a negative size"))
}

fn small(field: &[u8], largest: i64) -> Result<u32> {
    let value = number(field)?;
    match u32::try_from(value) {
        Ok(small) if value <= largest => Ok(small),
        _ => Err(Error::Malformed("a number in a header is out of range")),
    }
}

/// A number, in octal or in GNU tar's base 256.
fn number(field: &[u8]) -> Result<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base_256(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Result<i64> {
    let digits = field.trim_ascii_start();
    let blank = |byte: &u8| *byte == 0 || *byte == b' ';
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(blank) {
        return Err(Error::Malformed("a number in a header is malformed"));
    }
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => Ok(value * 8 + i64::from(digit - b'0')), // 12 digits of 3 bits fit
        _ => Err(Error::Malformed("a number in a header is malformed")),
    })
}

/// Two's complement, most significant byte first; the top bit only says that it is base 256.
fn base_256(field: &[u8]) -> Result<i64> {
    let out_of_range = || Error::Malformed("a number in a header is out of range");
    let negative = field.first().is_some_and(|first| first & 0x40 != 0);
    let mut value = if negative { -1_i64 } else { 0 };
    for (index, byte) in field.iter().enumerate() {
        let byte = match (index, negative) {
            (0, false) => byte & 0x7f,
            (0, true) => byte | 0x80,
            _ => *byte,
        };
        value = value.checked_mul(256).ok_or_else(out_of_range)?;
        value |= i64::from(byte);
    }
    Ok(value)
}

fn path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&block[0..100]);
    // GNU tar's magic is `ustar  `, and what POSIX calls prefix holds other things there.
    let prefix = if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { b"" };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}
