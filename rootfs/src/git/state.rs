//! What is checked out, remembered between commands: the view of the branch, and each file's stamp.
//!
//! It can be lost at any time: the manifests tell the same, more slowly.

use std::{collections::BTreeMap, path::Path};

use super::{
    error::{Error, Result},
    inode::{Content, Inode, Time},
    oid::ObjectId,
    stamp::Stamp,
    view::{Node, View},
};

const MAGIC: &[u8] = b"crun-cargo checkout 1\n";

/// A branch as it was checked out.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// The commit whose view this is.
    pub(crate) commit: ObjectId,
    pub(crate) view: View,
    /// For each inode of the view; `None` where the content must be compared.
    pub(crate) stamps: Vec<Option<Stamp>>,
}

impl State {
    /// Reads what was remembered, if it was.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("read", path))?,
        };
        let state = decode(&bytes);
        if state.is_none() {
            log::warn!("{} is damaged; looking at every file instead", path.display());
        }
        Ok(state)
    }

    /// Remembers. `taken` is when the first stamp was taken.
    pub(crate) fn save(&self, path: &Path, taken: Time) -> Result<()> {
        let bytes = self.encode(taken);
        super::refs::replace(path, &bytes)
    }

    fn encode(&self, taken: Time) -> Vec<u8> {
        let mut out = Out(Vec::with_capacity(self.view.inodes.len() * 160));
        out.0.extend_from_slice(MAGIC);
        out.0.extend_from_slice(self.commit.as_bytes());
        // Inodes that lost their last name are left behind.
        let mut numbers = vec![None; self.view.inodes.len()];
        let mut kept = Vec::new();
        number_inodes(&self.view.root, &mut numbers, &mut kept);
        out.size(kept.len());
        for inode in kept {
            if let Some(known) = self.view.inodes.get(inode) {
                out.inode(known);
            }
            out.stamp(self.stamps.get(inode).and_then(Option::as_ref), taken);
        }
        out.node(&self.view.root, &numbers);
        out.0
    }
}

fn number_inodes(node: &Node, numbers: &mut [Option<usize>], kept: &mut Vec<usize>) {
    if let Some(number @ None) = numbers.get_mut(node.inode) {
        *number = Some(kept.len());
        kept.push(node.inode);
    }
    node.children.values().for_each(|child| number_inodes(child, numbers, kept));
}

struct Out(Vec<u8>);

impl Out {
    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn size(&mut self, size: usize) {
        self.u32(u32::try_from(size).unwrap_or(u32::MAX));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.size(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn time(&mut self, time: Time) {
        self.0.extend_from_slice(&time.seconds.to_le_bytes());
        self.u32(time.nanos);
    }

    fn inode(&mut self, inode: &Inode) {
        self.u32(inode.mode);
        self.u32(inode.uid);
        self.u32(inode.gid);
        self.u64(inode.rdev);
        self.u64(inode.size);
        self.time(inode.mtime);
        self.size(inode.xattrs.len());
        for (name, value) in &inode.xattrs {
            self.bytes(name);
            self.bytes(value);
        }
        match &inode.content {
            Content::None => self.0.push(0),
            Content::Blob(id) => {
                self.0.push(1);
                self.0.extend_from_slice(id.as_bytes());
            }
            Content::Large { sha256, pointer } => {
                self.0.push(2);
                self.0.extend_from_slice(sha256);
                self.0.extend_from_slice(pointer.as_bytes());
            }
            Content::Link(target) => {
                self.0.push(3);
                self.bytes(target);
            }
        }
    }

    fn stamp(&mut self, stamp: Option<&Stamp>, taken: Time) {
        let Some(stamp) = stamp.filter(|stamp| !stamp.is_racy(taken)) else {
            self.0.push(0);
            return;
        };
        self.0.push(1);
        self.u64(stamp.device);
        self.u64(stamp.number);
        self.u32(stamp.mode);
        self.u32(stamp.uid);
        self.u32(stamp.gid);
        self.u64(stamp.size);
        self.time(stamp.modified);
        self.time(stamp.changed);
    }

    fn node(&mut self, node: &Node, numbers: &[Option<usize>]) {
        self.size(numbers.get(node.inode).copied().flatten().unwrap_or(usize::MAX));
        match node.tree {
            Some(tree) => {
                self.0.push(1);
                self.0.extend_from_slice(tree.as_bytes());
            }
            None => self.0.push(0),
        }
        self.size(node.children.len());
        for (name, child) in &node.children {
            self.bytes(name);
            self.node(child, numbers);
        }
    }
}

fn decode(bytes: &[u8]) -> Option<State> {
    let mut input = In(bytes.strip_prefix(MAGIC)?);
    let commit = input.id()?;
    let count = input.size()?;
    let (mut inodes, mut stamps) = (Vec::new(), Vec::new());
    for _ in 0..count {
        inodes.push(input.inode()?);
        stamps.push(match input.byte()? {
            0 => None,
            _ => Some(input.stamp()?),
        });
    }
    let root = input.node(inodes.len(), 0)?;
    Some(State { commit, view: View { inodes, root }, stamps })
}

struct In<'a>(&'a [u8]);

impl In<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = self.size()?;
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken.to_vec())
    }

    fn id(&mut self) -> Option<ObjectId> {
        self.take::<20>().map(ObjectId::from)
    }

    fn time(&mut self) -> Option<Time> {
        Some(Time { seconds: self.take().map(i64::from_le_bytes)?, nanos: self.u32()? })
    }

    fn inode(&mut self) -> Option<Inode> {
        let (mode, uid, gid) = (self.u32()?, self.u32()?, self.u32()?);
        let (rdev, size, mtime) = (self.u64()?, self.u64()?, self.time()?);
        let count = self.size()?;
        let mut xattrs = Vec::new();
        for _ in 0..count {
            xattrs.push((self.bytes()?, self.bytes()?));
        }
        let content = match self.byte()? {
            0 => Content::None,
            1 => Content::Blob(self.id()?),
            2 => Content::Large { sha256: self.take()?, pointer: self.id()? },
            3 => Content::Link(self.bytes()?),
            _ => return None,
        };
        Some(Inode { mode, uid, gid, rdev, size, mtime, xattrs, content })
    }

    fn stamp(&mut self) -> Option<Stamp> {
        Some(Stamp {
            device: self.u64()?,
            number: self.u64()?,
            mode: self.u32()?,
            uid: self.u32()?,
            gid: self.u32()?,
            size: self.u64()?,
            modified: self.time()?,
            changed: self.time()?,
        })
    }

    fn node(&mut self, inodes: usize, depth: usize) -> Option<Node> {
        let inode =
            self.size().filter(|inode| *inode < inodes && depth <= super::view::MAX_DEPTH)?;
        let tree = match self.byte()? {
            0 => None,
            _ => Some(self.id()?),
        };
        let count = self.size()?;
        let mut children = BTreeMap::new();
        for _ in 0..count {
            children.insert(self.bytes()?, self.node(inodes, depth + 1)?);
        }
        Some(Node { inode, children, tree })
    }
}
