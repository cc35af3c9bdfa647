//! A file tree as data: read from a directory, or worked out from layers, and compared.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    sha256,
    tar::{Entry, Kind},
};

/// One file of a tree. Texts are escaped as `<[u8]>::escape_ascii` does, so that no byte is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `file`, `directory`, `symlink`, `char`, `block`, `fifo` or `socket`.
    pub kind: String,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds and nanoseconds; `None` where a tree cannot know.
    pub mtime: Option<(i64, u32)>,
    /// Digest of a file's content.
    pub content: String,
    /// Size of a file's content.
    pub size: u64,
    /// A link's target.
    pub target: String,
    /// A device's numbers.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<String, String>,
    /// The first of the names that share this inode, if there are several.
    pub same_as: Option<String>,
    /// A large file occupies little on disk.
    pub sparse: bool,
}

/// A tree by escaped relative path.
pub type Tree = BTreeMap<String, Node>;

/// Reads what is below a directory.
pub fn read(root: &Path) -> io::Result<Tree> {
    let mut tree = Tree::new();
    let mut first_names = BTreeMap::new();
    read_below(root, b"", &mut tree, &mut first_names)?;
    // A name is "first" in sorted order, whatever order the directory had.
    for names in first_names.values().filter(|names: &&Vec<String>| names.len() > 1) {
        let first = names.iter().min().cloned();
        for name in names {
            if let Some(node) = tree.get_mut(name) {
                node.same_as.clone_from(&first);
            }
        }
    }
    Ok(tree)
}

type Inodes = BTreeMap<(u64, u64), Vec<String>>;

fn read_below(
    directory: &Path,
    prefix: &[u8],
    tree: &mut Tree,
    inodes: &mut Inodes,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = [prefix, entry.file_name().as_bytes()].concat();
        let metadata = fs::symlink_metadata(entry.path())?;
        let escaped = escape(&name);
        if metadata.nlink() > 1 && !metadata.is_dir() {
            inodes.entry((metadata.dev(), metadata.ino())).or_default().push(escaped.clone());
        }
        tree.insert(escaped, read_node(&entry.path(), &metadata)?);
        if metadata.is_dir() {
            read_below(&entry.path(), &[&name[..], b"/"].concat(), tree, inodes)?;
        }
    }
    Ok(())
}

fn read_node(path: &Path, metadata: &fs::Metadata) -> io::Result<Node> {
    let kind = metadata.file_type();
    let mut node = Node {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid().into(),
        gid: metadata.gid().into(),
        mtime: Some((metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0))),
        xattrs: xattrs(path)?,
        ..Node::default()
    };
    node.kind = if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        node.target = escape(fs::read_link(path)?.as_os_str().as_bytes());
        "symlink"
    } else if kind.is_file() {
        node.content = sha256(&fs::read(path)?);
        node.size = metadata.size();
        node.sparse = node.size > 1 << 20 && metadata.blocks() * 512 < node.size / 2;
        "file"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else {
        node.device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        if kind.is_char_device() { "char" } else { "block" }
    }
    .to_owned();
    Ok(node)
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..])?;
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..])?;
        found.insert(escape(name), escape(&value[..length]));
    }
    Ok(found)
}

/// Every byte, readable.
pub fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The tree that layers, lowest first, must become in a container.
pub fn merged(layers: &[&[Entry]]) -> Tree {
    let mut tree = BTreeMap::<Vec<u8>, Node>::new();
    for layer in layers {
        for entry in *layer {
            hide(entry, &mut tree);
        }
        let mut links = BTreeMap::<Vec<u8>, Vec<Vec<u8>>>::new();
        for entry in *layer {
            add(entry, &mut tree, &mut links);
        }
        for (target, mut names) in links {
            names.push(target);
            let first = names.iter().min().map(|name| escape(name));
            for name in names {
                tree.entry(name).and_modify(|node| node.same_as.clone_from(&first));
            }
        }
    }
    tree.into_iter().map(|(name, node)| (escape(&name), node)).collect()
}

fn clean(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.collect::<Vec<_>>().join(&b'/')
}

fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&name[..slash], &name[slash + 1..]),
        None => (b"", name),
    }
}

/// Whiteouts hide the layers below, wherever they stand in their own layer.
fn hide(entry: &Entry, tree: &mut BTreeMap<Vec<u8>, Node>) {
    let name = clean(&entry.name);
    let (directory, last) = split(&name);
    if last == b".wh..wh..opq" {
        remove_below(directory, tree);
    } else if let Some(hidden) = last.strip_prefix(b".wh.") {
        let hidden = clean(&[directory, b"/", hidden].concat());
        remove_below(&hidden, tree);
        tree.remove(&hidden);
    }
}

fn remove_below(directory: &[u8], tree: &mut BTreeMap<Vec<u8>, Node>) {
    let prefix = [directory, b"/"].concat();
    tree.retain(|name, _| !name.starts_with(&prefix));
}

fn add(
    entry: &Entry,
    tree: &mut BTreeMap<Vec<u8>, Node>,
    links: &mut BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
) {
    let sparse = sparse(entry);
    let name = clean(sparse.as_ref().map_or(&entry.name, |(name, _)| name));
    let (directory, last) = split(&name);
    if last.starts_with(b".wh.") || name.is_empty() {
        return;
    }
    imply(directory, tree);
    if entry.kind != Kind::Directory || tree.get(&name).is_some_and(|old| old.kind != "directory") {
        remove_below(&name, tree);
    }
    if let Kind::Hardlink(target) = &entry.kind {
        let target = clean(target);
        let mut node = tree.get(&target).cloned().expect("a link to something");
        // Whether a name of a lower layer still shares the inode is not promised.
        node.same_as = None;
        tree.insert(name.clone(), node);
        links.entry(target).or_default().push(name);
        return;
    }
    let mut node = Node {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: Some(entry.mtime),
        xattrs: entry.xattrs.iter().map(|(k, v)| (k.clone(), escape(v))).collect(),
        ..Node::default()
    };
    node.kind = match &entry.kind {
        Kind::Directory => "directory",
        Kind::Symlink(target) => {
            node.target = escape(target);
            "symlink"
        }
        Kind::Char(major, minor) => {
            node.device = (*major, *minor);
            "char"
        }
        Kind::Block(major, minor) => {
            node.device = (*major, *minor);
            "block"
        }
        Kind::Fifo => "fifo",
        _ => {
            let data = sparse.map_or(entry.data.clone(), |(_, data)| data);
            node.size = data.len() as u64;
            node.sparse = node.size > 1 << 20;
            node.content = sha256(&data);
            "file"
        }
    }
    .to_owned();
    tree.insert(name, node);
}

/// A directory no entry names is the lower layers' or a plain one.
fn imply(directory: &[u8], tree: &mut BTreeMap<Vec<u8>, Node>) {
    if directory.is_empty() || tree.get(directory).is_some_and(|node| node.kind == "directory") {
        return;
    }
    imply(split(directory).0, tree);
    let plain = Node { kind: "directory".into(), mode: 0o755, ..Node::default() };
    tree.insert(directory.to_vec(), plain);
}

/// Name and content of a PAX 1.0 sparse file.
fn sparse(entry: &Entry) -> Option<(Vec<u8>, Vec<u8>)> {
    let record = |key| entry.pax.iter().find(|record| record.0 == key).map(|r| r.1.clone());
    let name = record("GNU.sparse.name")?;
    let size = String::from_utf8(record("GNU.sparse.realsize")?).ok()?.parse().ok()?;
    let mut content = vec![0; size];
    let mut numbers = entry
        .data
        .split(|byte| *byte == b'\n')
        .map(|line| std::str::from_utf8(line).ok().and_then(|text| text.parse::<usize>().ok()));
    let count = numbers.next()??;
    let map: Vec<_> = numbers.take(2 * count).collect::<Option<_>>()?;
    let digits: usize = map.iter().map(|number| number.to_string().len() + 1).sum();
    let mut at = (count.to_string().len() + 1 + digits).next_multiple_of(512);
    for piece in map.chunks(2) {
        content[piece[0]..piece[0] + piece[1]].copy_from_slice(&entry.data[at..at + piece[1]]);
        at += piece[1];
    }
    Some((name, content))
}

/// What differs between what should be and what is, one line each.
pub fn differences(expected: &Tree, actual: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, wanted) in expected {
        match actual.get(name) {
            None => lines.push(format!("missing: {name}")),
            Some(found) => {
                let mut wanted = wanted.clone();
                if wanted.mtime.is_none() {
                    wanted.mtime = found.mtime;
                }
                if wanted.kind == "symlink" {
                    // Linux has no permissions on symlinks.
                    wanted.mode = found.mode;
                }
                if wanted != *found {
                    lines.push(format!("{name}:\n  expected {wanted:?}\n  found    {found:?}"));
                }
            }
        }
    }
    let extra = actual.keys().filter(|name| !expected.contains_key(*name));
    lines.extend(extra.map(|name| format!("unexpected: {name}")));
    lines
}

/// Keeps what is below a directory of a tree.
pub fn below(tree: &Tree, directory: &str) -> Tree {
    let prefix = format!("{directory}/");
    let inside = tree.iter().filter_map(|(name, node)| {
        let mut node = node.clone();
        let name = name.strip_prefix(&prefix)?.to_owned();
        node.same_as = node.same_as.map(|first| first.trim_start_matches(&prefix).to_owned());
        Some((name, node))
    });
    inside.collect()
}

/// A name of any bytes.
pub fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}
