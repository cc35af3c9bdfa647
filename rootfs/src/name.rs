//! Names from archives: as components that can be used beneath a directory, as text that can be printed,
//! and as text that can be kept.

/// Longest path and deepest nesting that are accepted.
const MAX_PATH: usize = 4095;
const MAX_DEPTH: usize = 2000;

/// The components of a name, joined by single slashes; empty for the root itself.
///
/// A leading slash means nothing, as everything is below the root. `..` is refused wherever it stands: no
/// honest archiver writes it, and what it means depends on links.
pub(crate) fn clean(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.is_empty() {
        return Err("an entry without a name");
    }
    if name.contains(&0) {
        return Err("a NUL in a name");
    }
    let mut path = Vec::with_capacity(name.len());
    let mut depth = 0;
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err("a name with `..`"),
            _ if component.len() > 255 => return Err("a name longer than 255 bytes"),
            _ => {}
        }
        depth += 1;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    if path.len() > MAX_PATH {
        return Err("a path longer than 4095 bytes");
    }
    if depth > MAX_DEPTH {
        return Err("a path deeper than 2000 directories");
    }
    Ok(path)
}

/// The parent and the last component of a clean path that is not the root.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => {
            let (parent, rest) = path.split_at(slash);
            (parent, rest.get(1..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

/// A clean path with one more component.
pub(crate) fn join(parent: &[u8], last: &[u8]) -> Vec<u8> {
    if parent.is_empty() { last.to_vec() } else { [parent, b"/", last].concat() }
}

/// A clean path with another beneath it, either of which may be empty.
pub(crate) fn join_any(parent: &[u8], rest: &[u8]) -> Vec<u8> {
    if rest.is_empty() { parent.to_vec() } else { join(parent, rest) }
}

/// Whether `path` is `directory` or beneath it.
pub(crate) fn is_within(path: &[u8], directory: &[u8]) -> bool {
    match path.strip_prefix(directory) {
        Some(rest) => directory.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

/// The name with everything a terminal might obey escaped (D-15).
pub(crate) fn printable(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || is_direction(character) {
                text.extend(character.escape_unicode());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Marks that reorder the text after them.
fn is_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Any bytes as text that [`decode`] turns back: `%` and what is not plain UTF-8 become `%XX`.
pub(crate) fn encode(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' || character.is_control() {
                text.push_str(&format!("%{:02X}", u32::from(character)));
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Undoes [`encode`].
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    while let Some((first, rest)) = left.split_first() {
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if *first == b'%' => {
                name.push(byte);
                left = rest.get(2..).unwrap_or_default();
            }
            _ => {
                name.push(*first);
                left = rest;
            }
        }
    }
    name
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn names_become_components() {
        for (name, expected) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/x", "etc/x"),
            (".", ""),
            ("/", ""),
            ("./", ""),
        ] {
            assert_eq!(clean(name.as_bytes()).unwrap(), expected.as_bytes(), "{name}");
        }
        for name in ["", "..", "../a", "a/../b", "a/..", "/..", "a\0b"] {
            assert!(clean(name.as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn limits_hold_exactly() {
        assert!(clean(&[b'x'; 255]).is_ok());
        assert!(clean(&[b'x'; 256]).is_err());
        assert!(clean("x/".repeat(2000).as_bytes()).is_ok());
        assert!(clean("x/".repeat(2001).as_bytes()).is_err());
        let long = [vec![b'y'; 255].as_slice(), b"/"].concat().repeat(16);
        assert!(clean(long.get(..4095).unwrap()).is_ok());
        assert!(clean(&[&long, b"z/".as_slice()].concat()).is_err());
    }

    #[test]
    fn kept_names_come_back() {
        for name in
            [b"plain/name".as_slice(), b"50%", b"\xff\xfe", b"a\nb\x7f", "caf\u{e9}".as_bytes()]
        {
            assert_eq!(decode(&encode(name)), name);
            assert!(!encode(name).chars().any(char::is_control));
            assert!(!printable(name).chars().any(char::is_control));
        }
    }
}
