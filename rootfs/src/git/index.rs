//! Git's index (gitformat-index(5), version 2), with stat data, so that `git status` need not read files.

use super::{
    error::Result,
    escape::escape,
    inode::Time,
    oid::{Hasher, ObjectId},
    stamp::Stamp,
    tree::Mode,
    view::{Node, View, git_mode},
};

/// Set on a path that git must not look for: it is stored under an escaped name (`assume-unchanged`).
const ASSUME_VALID: u16 = 0x8000;

/// The longest name whose length the flags can hold.
const LONG_NAME: u16 = 0x0fff;

struct Entry<'a> {
    path: Vec<u8>,
    mode: Mode,
    id: ObjectId,
    /// `None` makes git compare the content.
    stamp: Option<&'a Stamp>,
    /// The work tree has the file under another name.
    escaped: bool,
}

/// The index for a view that is checked out with these stamps.
pub(crate) fn encode(view: &View, stamps: &[Option<Stamp>]) -> Result<Vec<u8>> {
    let mut entries = Vec::new();
    collect(view, stamps, &view.root, &mut Place::default(), &mut entries);
    // Almost in order: only names that continue a directory's name stand elsewhere.
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let mut index = Vec::with_capacity(entries.len() * 112);
    index.extend_from_slice(b"DIRC\0\0\0\x02");
    index.extend_from_slice(&low32(entries.len()).to_be_bytes());
    entries.iter().for_each(|entry| encode_entry(&mut index, entry));
    let mut hasher = Hasher::plain();
    hasher.update(&index);
    index.extend_from_slice(hasher.finish().as_bytes());
    Ok(index)
}

/// Where the walk is.
#[derive(Default)]
struct Place {
    path: Vec<u8>,
    /// Whether a component was escaped on the way.
    escaped: bool,
}

fn collect<'a>(
    view: &'a View,
    stamps: &'a [Option<Stamp>],
    node: &'a Node,
    place: &mut Place,
    entries: &mut Vec<Entry<'a>>,
) {
    let (length, escaped) = (place.path.len(), place.escaped);
    for (name, child) in &node.children {
        let stored = escape(name);
        place.escaped = escaped || *stored != **name;
        if length > 0 {
            place.path.push(b'/');
        }
        place.path.extend_from_slice(&stored);
        let inode = view.inode(child);
        if let (Some(mode), Some(id)) = (git_mode(inode), inode.blob()) {
            let stamp = stamps.get(child.inode).and_then(Option::as_ref);
            let stamp = stamp.filter(|_| !place.escaped);
            let path = place.path.clone();
            entries.push(Entry { path, mode, id, stamp, escaped: place.escaped });
        } else if inode.is_directory() {
            collect(view, stamps, child, place, entries);
        }
        place.path.truncate(length);
    }
    place.escaped = escaped;
}

fn encode_entry(index: &mut Vec<u8>, entry: &Entry<'_>) {
    let start = index.len();
    let mut put = |number: u32| index.extend_from_slice(&number.to_be_bytes());
    match entry.stamp {
        Some(stamp) => {
            for time in [stamp.changed, stamp.modified] {
                let Time { seconds, nanos } = time;
                put(low32(seconds));
                put(nanos);
            }
            put(low32(stamp.device));
            put(low32(stamp.number));
            put(entry.mode.number());
            put(stamp.uid);
            put(stamp.gid);
            put(low32(stamp.size));
        }
        None => {
            (0..6).for_each(|_| put(0));
            put(entry.mode.number());
            (0..3).for_each(|_| put(0));
        }
    }
    index.extend_from_slice(entry.id.as_bytes());
    let length = u16::try_from(entry.path.len()).map_or(LONG_NAME, |length| length.min(LONG_NAME));
    let flags = length | if entry.escaped { ASSUME_VALID } else { 0 };
    index.extend_from_slice(&flags.to_be_bytes());
    index.extend_from_slice(&entry.path);
    // One to eight zeros, so that the next entry begins at a multiple of eight.
    let padding = 8 - (index.len() - start) % 8;
    index.resize(index.len() + padding, 0);
}

/// Git keeps 32 bits of everything, which is enough to notice a change.
fn low32(number: impl TryInto<i128>) -> u32 {
    let number = number.try_into().unwrap_or_default() & 0xffff_ffff;
    u32::try_from(number).unwrap_or_default()
}
