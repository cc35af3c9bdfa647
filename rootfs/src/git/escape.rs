//! Names git refuses, written so that it takes them.
//!
//! A component git forbids (`.git` in any spelling a filesystem might take for it) or obeys (`.gitmodules`,
//! `.gitattributes`) has its first byte percent-escaped: `.git` is stored as `%2egit`. Git looks behind
//! backslashes too, so each part between them is judged by itself.

use std::borrow::Cow;

use super::oid::hex_pair;

/// The name under which a component is stored in a tree.
pub(crate) fn escape(name: &[u8]) -> Cow<'_, [u8]> {
    rewrite(name, |part| {
        let (first, rest) = part.split_first()?;
        reserved(part).then(|| [format!("%{first:02x}").as_bytes(), rest].concat())
    })
}

/// The component a stored name stands for: no two are stored alike.
#[cfg(test)]
fn unescape(name: &[u8]) -> Cow<'_, [u8]> {
    rewrite(name, |part| decode_first(part).filter(|decoded| reserved(decoded)))
}

/// Applies `change` to each part between backslashes; borrows when none was changed.
fn rewrite(name: &[u8], change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Cow<'_, [u8]> {
    let parts: Vec<_> =
        name.split(|byte| *byte == b'\\').map(|part| (part, change(part))).collect();
    if parts.iter().all(|(_, changed)| changed.is_none()) {
        return Cow::Borrowed(name);
    }
    let parts: Vec<_> =
        parts.into_iter().map(|(part, changed)| changed.unwrap_or_else(|| part.to_vec())).collect();
    Cow::Owned(parts.join(&b'\\'))
}

/// What must be escaped: forbidden parts, and whatever reads like one that is escaped already.
fn reserved(part: &[u8]) -> bool {
    // Each round takes two bytes away, so a long `%25%25…` name ends the loop soon enough.
    let mut part = Cow::Borrowed(part);
    loop {
        if forbidden(&part) {
            return true;
        }
        match decode_first(&part) {
            Some(decoded) => part = Cow::Owned(decoded),
            None => return false,
        }
    }
}

fn decode_first(part: &[u8]) -> Option<Vec<u8>> {
    let (escaped, rest) = part.strip_prefix(b"%")?.split_at_checked(2)?;
    Some([&[hex_pair(escaped)?], rest].concat())
}

/// Whether git's fsck rejects the part, or git itself would act on the file.
fn forbidden(part: &[u8]) -> bool {
    if !matches!(part.first(), Some(b'.' | b'g' | b'G' | 0xe2 | 0xef)) {
        return false;
    }
    let mut plain = without_ignored(part);
    plain.make_ascii_lowercase();
    // NTFS: what follows a colon names a stream of the file, and trailing dots and spaces do not count.
    let end = plain.iter().position(|byte| *byte == b':').unwrap_or(plain.len());
    let mut stem = plain.get(..end).unwrap_or(&plain);
    while let [shorter @ .., b'.' | b' '] = stem {
        stem = shorter;
    }
    matches!(stem, b".git" | b".gitmodules" | b".gitattributes") || is_short_name(stem)
}

/// NTFS' short names of those files: `git~1`, `gitmod~1`, `gi7eba~1`. They begin with g and have a
/// numbered tilde among their eight characters; nothing else that does is worth telling apart.
fn is_short_name(stem: &[u8]) -> bool {
    let numbered = |pair: &[u8]| matches!(pair, [b'~', digit] if digit.is_ascii_digit());
    stem.first() == Some(&b'g') && stem.len() <= 8 && stem.windows(2).any(numbered)
}

/// The name as HFS+ compares it: without the code points it ignores.
fn without_ignored(part: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some((first, tail)) = rest.split_first() {
        // U+200C–U+200F, U+202A–U+202E, U+206A–U+206F and U+FEFF, as UTF-8.
        match rest {
            [0xe2, 0x80, 0x8c..=0x8f | 0xaa..=0xae, tail @ ..]
            | [0xe2, 0x81, 0xaa..=0xaf, tail @ ..]
            | [0xef, 0xbb, 0xbf, tail @ ..] => rest = tail,
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: impl AsRef<[u8]>, stored: impl AsRef<[u8]>) {
        let (name, stored) = (name.as_ref(), stored.as_ref());
        assert_eq!(escape(name).as_ref(), stored);
        assert_eq!(unescape(stored).as_ref(), name);
    }

    #[test]
    fn what_git_forbids_is_escaped_and_comes_back() {
        check(".git", "%2egit");
        check(".GiT", "%2eGiT");
        check(".git. .", "%2egit. .");
        check(".git:x", "%2egit:x");
        check("git~1", "%67it~1");
        check("GI7EBA~1", "%47I7EBA~1");
        check(".gitmodules", "%2egitmodules");
        check(".gitattributes ", "%2egitattributes ");
        check("\u{200c}.g\u{feff}it", b"%e2\x80\x8c.g\xef\xbb\xbfit");
        check("a\\.git\\b", "a\\%2egit\\b");
    }

    #[test]
    fn what_reads_like_an_escaped_name_is_escaped_again() {
        check("%2egit", "%252egit");
        check("%252egit", "%25252egit");
    }

    #[test]
    fn everything_else_is_left_alone() {
        for name in
            [".github", ".gitignore", "foo_1%3a2.deb", "%2e", "%", "%zz", "glib~", "system\\x2d"]
        {
            check(name, name);
        }
        check(b"\xff\xfe %\n", b"\xff\xfe %\n");
    }
}
