//! Commit objects: their text, their trailers, and who is named as their author.

use super::{
    error::{Error, Result},
    oid::ObjectId,
};

/// Who did something and when, in the form git accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    name: String,
    email: String,
    /// Seconds since the epoch. Git knows no earlier time; such times become 0.
    seconds: u64,
}

/// Stands in for an author an image does not name.
const NOBODY: &str = "crun-cargo";

impl Signature {
    /// Takes a name as images give it: `Name <address>`, an address alone, or nothing.
    pub fn new(author: Option<&str>, seconds: i64) -> Self {
        let author = author.unwrap_or_default().trim();
        let (name, email) = match author.split_once('<') {
            Some((name, rest)) => (name, rest.split('>').next().unwrap_or_default()),
            None if author.contains('@') => (author, author),
            None => (author, ""),
        };
        let or_nobody = |text: String| if text.is_empty() { NOBODY.to_owned() } else { text };
        Self {
            name: or_nobody(clean(name)),
            email: or_nobody(clean(email)),
            seconds: u64::try_from(seconds).unwrap_or(0),
        }
    }

    /// When, in seconds since the epoch.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    fn text(&self) -> String {
        format!("{} <{}> {} +0000", self.name, self.email, self.seconds)
    }
}

/// Drops what would end the field early, and the characters git trims from the ends of names.
fn clean(text: &str) -> String {
    let text: String =
        text.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect();
    text.trim_matches(|c: char| c.is_whitespace() || ".,:;\"\\'".contains(c)).to_owned()
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) tree: ObjectId,
    pub(crate) parents: Vec<ObjectId>,
    /// Author and committer at once, so that equal images give equal commits. `None` when the commit
    /// was read, since nobody asks.
    pub(crate) author: Option<Signature>,
    /// Without the trailers.
    pub(crate) message: String,
    /// In order: `Diff-Id`, `Layer-Digest`, and so on.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Commit {
    /// The content of the commit object.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut text = format!("tree {}\n", self.tree);
        for parent in &self.parents {
            text.push_str(&format!("parent {parent}\n"));
        }
        let author = self.author.as_ref().map(Signature::text).unwrap_or_default();
        text.push_str(&format!("author {author}\ncommitter {author}\n\n"));
        // A NUL would end the message for git.
        text.push_str(self.message.replace('\0', "\u{fffd}").trim_end());
        text.push('\n');
        if !self.trailers.is_empty() {
            text.push('\n');
        }
        for (key, value) in &self.trailers {
            text.push_str(&format!("{key}: {value}\n"));
        }
        text.into_bytes()
    }

    /// Reads a commit, ours or anybody's.
    pub(crate) fn decode(id: ObjectId, content: &[u8]) -> Result<Self> {
        let damaged = |why| Error::damaged(format!("commit {id}"), why);
        let text = String::from_utf8_lossy(content);
        let (headers, message) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut tree = None;
        let mut parents = Vec::new();
        for line in headers.lines() {
            match line.split_once(' ') {
                Some(("tree", id)) => tree = id.parse().ok(),
                Some(("parent", id)) => {
                    parents.push(id.parse().map_err(|_| damaged("malformed parent"))?);
                }
                _ => {}
            }
        }
        let (message, trailers) = split_trailers(message);
        let tree = tree.ok_or_else(|| damaged("no tree"))?;
        Ok(Self { tree, parents, author: None, message, trailers })
    }

    /// The value of a trailer.
    pub(crate) fn trailer(&self, key: &str) -> Option<&str> {
        self.trailers.iter().rev().find(|row| row.0 == key).map(|row| row.1.as_str())
    }
}

/// Trailers are the last paragraph, when every line of it reads `Key: value`.
fn split_trailers(message: &str) -> (String, Vec<(String, String)>) {
    let whole = message.trim_end();
    let (body, last) = whole.rsplit_once("\n\n").unwrap_or(("", whole));
    let trailers: Option<Vec<_>> = last
        .lines()
        .map(|line| {
            let (key, value) = line.split_once(": ")?;
            let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            plain.then(|| (key.to_owned(), value.to_owned()))
        })
        .collect();
    match trailers {
        Some(trailers) if !body.is_empty() => (body.to_owned(), trailers),
        _ => (whole.to_owned(), Vec::new()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[track_caller]
    fn check(author: &str, expected: &str) {
        assert_eq!(Signature::new(Some(author), 7).text(), format!("{expected} 7 +0000"));
    }

    #[test]
    fn authors_of_images_become_authors_of_commits() {
        check("Jane Doe <jane@example.org>", "Jane Doe <jane@example.org>");
        check("jane@example.org", "jane@example.org <jane@example.org>");
        check("", "crun-cargo <crun-cargo>");
        check("Jane\n> <evil", "Jane <evil>");
        check("a <b> <c\0>", "a <b>");
        assert_eq!(Signature::new(None, -62_135_596_800).seconds(), 0);
    }

    #[test]
    fn a_commit_reads_back() {
        let commit = Commit {
            tree: ObjectId::EMPTY_TREE,
            parents: vec![ObjectId::EMPTY_TREE],
            author: Some(Signature::new(None, 1)),
            message: "/bin/sh -c #(nop) ADD file:1 in /\n\nWith: more".into(),
            trailers: vec![("Diff-Id".into(), "sha256:1".into())],
        };
        let read = Commit::decode(ObjectId::EMPTY_TREE, &commit.encode()).unwrap();
        assert_eq!(read, Commit { author: None, ..commit });
        assert_eq!(read.trailer("Diff-Id"), Some("sha256:1"));
    }

    #[test]
    fn a_message_that_looks_like_a_trailer_is_a_message() {
        assert_eq!(split_trailers("fix: it\n"), ("fix: it".into(), vec![]));
    }
}
