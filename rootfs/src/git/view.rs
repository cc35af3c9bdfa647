//! A chain of layers, seen as one tree: what a branch shows.

use std::{collections::BTreeMap, mem};

use super::{
    error::{Error, Result},
    escape::escape,
    inode::{Content, Inode, OPAQUE},
    manifest::{Line, What},
    oid::{Kind, ObjectId},
    tree::{self, Mode},
};

/// A directory tree with its files apart, since a file may have several names.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) inodes: Vec<Inode>,
    pub(crate) root: Node,
}

/// A name, and the names below it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    /// Which of the inodes it names.
    pub(crate) inode: usize,
    pub(crate) children: BTreeMap<Vec<u8>, Node>,
    /// Of directories: the git tree, while nothing below has changed. [`ObjectId::EMPTY_TREE`] means
    /// that git sees nothing in it.
    pub(crate) tree: Option<ObjectId>,
}

impl View {
    /// An empty root directory.
    pub(crate) fn empty() -> Self {
        Self { inodes: vec![Inode::directory()], root: Node::default() }
    }

    /// Puts a layer on top. Returns for each of its lines the inode it became; none for whiteouts.
    pub(crate) fn apply(&mut self, layer: &[Line]) -> Result<Vec<Option<usize>>> {
        // Further names refer to what this layer brought, not to what was there before.
        let mut brought = BTreeMap::new();
        let mut inodes = vec![None; layer.len()];
        for (line, became) in layer.iter().zip(&mut inodes) {
            let inode = match &line.what {
                What::Own(inode) if inode.is_whiteout() => {
                    self.remove(&line.path);
                    continue;
                }
                What::Own(inode) => {
                    let at = self.bring(&line.path, inode)?;
                    brought.insert(line.path.as_slice(), at);
                    *became = Some(at);
                    continue;
                }
                What::Link(target) => *brought.get(target.as_slice()).ok_or_else(|| {
                    Error::damaged(
                        "a manifest",
                        "a hard link to a path that does not come before it",
                    )
                })?,
            };
            self.place(&line.path, |old| Node { inode, tree: None, ..clear(old) })?;
            *became = Some(inode);
        }
        Ok(inodes)
    }

    /// A file of the layer's own takes the place of what was at its path.
    fn bring(&mut self, path: &[u8], inode: &Inode) -> Result<usize> {
        let at = self.inodes.len();
        let directory = inode.is_directory();
        let was_directory = self.find(path).is_some_and(|old| self.inode(old).is_directory());
        let keep = directory && was_directory && !inode.is_opaque();
        let mut inode = inode.clone();
        inode.xattrs.retain(|(name, _)| name != OPAQUE);
        self.inodes.push(inode);
        self.place(path, |old| {
            let children = if keep { mem::take(&mut old.children) } else { BTreeMap::new() };
            Node { inode: at, children, tree: None }
        })?;
        Ok(at)
    }

    /// The inode of a node.
    pub(crate) fn inode(&self, node: &Node) -> &Inode {
        // Nodes are only made here and in `state`, both of which check.
        self.inodes.get(node.inode).unwrap_or_else(|| unreachable!("a node without inode"))
    }

    /// What is at a path.
    pub(crate) fn find(&self, path: &[u8]) -> Option<&Node> {
        components(path).try_fold(&self.root, |node, name| node.children.get(name))
    }

    /// Changes what is at a path, making directories on the way where there are none.
    fn place(&mut self, path: &[u8], change: impl FnOnce(&mut Node) -> Node) -> Result<()> {
        let inodes = &mut self.inodes;
        let mut node = &mut self.root;
        let mut depth = 0;
        for name in components(path) {
            node.tree = None;
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(Error::damaged("a manifest", "directories are nested too deeply"));
            }
            if !inodes.get(node.inode).is_some_and(Inode::is_directory) {
                inodes.push(Inode::directory());
                node.inode = inodes.len() - 1;
            }
            node = node.children.entry(name.to_vec()).or_insert_with(|| {
                inodes.push(Inode::directory());
                Node { inode: inodes.len() - 1, ..Node::default() }
            });
        }
        *node = change(node);
        Ok(())
    }

    /// Removes what is at a path; nothing there is fine, since layers may hide what never was.
    pub(crate) fn remove(&mut self, path: &[u8]) {
        let mut parts: Vec<_> = components(path).collect();
        let Some(last) = parts.pop() else { return };
        if self.find(path).is_none() {
            return;
        }
        let mut node = &mut self.root;
        for name in parts {
            node.tree = None;
            match node.children.get_mut(name) {
                Some(child) => node = child,
                None => return,
            }
        }
        node.tree = None;
        node.children.remove(last);
    }

    /// Writes the trees of all directories that have changed, with `write` naming each.
    pub(crate) fn write_trees(
        &mut self,
        write: &mut dyn FnMut(Kind, &[u8]) -> Result<ObjectId>,
    ) -> Result<ObjectId> {
        match write_tree(&self.inodes, &mut self.root, write)? {
            // Not written for the directories below, which git does not see at all.
            ObjectId::EMPTY_TREE => write(Kind::Tree, &[]),
            id => Ok(id),
        }
    }

    /// Calls `visit` for every node, parents first, with its path (the root's is empty).
    pub(crate) fn walk<'a>(
        &'a self,
        visit: &mut dyn FnMut(&[u8], &'a Node) -> Result<()>,
    ) -> Result<()> {
        walk(&mut Vec::new(), &self.root, visit)
    }
}

/// Limit of nesting, also of our recursion (threat model, section 6).
pub(crate) const MAX_DEPTH: usize = 2000;

fn walk<'a>(
    path: &mut Vec<u8>,
    node: &'a Node,
    visit: &mut dyn FnMut(&[u8], &'a Node) -> Result<()>,
) -> Result<()> {
    visit(path, node)?;
    let length = path.len();
    for (name, child) in &node.children {
        path.push(b'/');
        path.extend_from_slice(name);
        walk(path, child, visit)?;
        path.truncate(length);
    }
    Ok(())
}

fn write_tree(
    inodes: &[Inode],
    node: &mut Node,
    write: &mut dyn FnMut(Kind, &[u8]) -> Result<ObjectId>,
) -> Result<ObjectId> {
    if let Some(id) = node.tree {
        return Ok(id);
    }
    let mut entries = Vec::with_capacity(node.children.len());
    for (name, child) in &mut node.children {
        let inode = inodes.get(child.inode);
        let (mode, id) = if inode.is_some_and(Inode::is_directory) {
            match write_tree(inodes, child, write)? {
                // Git has no empty directories; they are in the manifest.
                ObjectId::EMPTY_TREE => continue,
                id => (Mode::Directory, id),
            }
        } else {
            match inode.and_then(|inode| Some((git_mode(inode)?, inode.blob()?))) {
                Some(found) => found,
                None => continue,
            }
        };
        entries.push(tree::Entry { mode, name: escape(name).into_owned(), id });
    }
    let id = match entries.is_empty() {
        true => ObjectId::EMPTY_TREE,
        false => write(Kind::Tree, &tree::encode(entries))?,
    };
    node.tree = Some(id);
    Ok(id)
}

/// What git makes of a file; `None` when it cannot store it.
pub(crate) fn git_mode(inode: &Inode) -> Option<Mode> {
    match inode.content {
        Content::Link(_) => Some(Mode::Symlink),
        Content::Blob(_) | Content::Large { .. } if inode.mode & 0o100 != 0 => {
            Some(Mode::Executable)
        }
        Content::Blob(_) | Content::Large { .. } => Some(Mode::File),
        Content::None => None,
    }
}

fn clear(node: &mut Node) -> Node {
    node.children.clear();
    mem::take(node)
}

/// The names along a path.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn directory(path: &str) -> Line {
        Line::own(path, Inode::directory())
    }

    fn file(path: &str, content: &str) -> Line {
        let content = Content::Blob(ObjectId::of(Kind::Blob, content.as_bytes()));
        Line::own(path, Inode { mode: 0o100_644, content, ..Inode::default() })
    }

    fn gone(path: &str) -> Line {
        Line::own(path, Inode::whiteout())
    }

    fn link(path: &str, target: &str) -> Line {
        Line { path: path.into(), what: What::Link(target.into()) }
    }

    fn paths(layers: &[&[Line]]) -> String {
        let mut view = View::empty();
        layers.iter().for_each(|layer| drop(view.apply(layer).unwrap()));
        let mut paths = Vec::new();
        view.walk(&mut |path, _| {
            paths.push(String::from_utf8(path.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        paths.join(" ")
    }

    #[test]
    fn layers_add_replace_and_remove() {
        let base = [directory("/etc"), file("/etc/a", "1"), file("/etc/b", "1"), file("/x", "1")];
        assert_eq!(paths(&[&base, &[gone("/etc/a")]]), " /etc /etc/b /x");
        assert_eq!(paths(&[&base, &[file("/etc", "1")]]), " /etc /x");
        assert_eq!(
            paths(&[&base, &[directory("/x"), file("/x/y", "")]]),
            " /etc /etc/a /etc/b /x /x/y"
        );
        assert_eq!(paths(&[&base, &[directory("/etc")]]), " /etc /etc/a /etc/b /x");
        assert_eq!(paths(&[&base, &[gone("/not/there")]]), " /etc /etc/a /etc/b /x");
        let mut opaque = Inode::directory();
        opaque.xattrs.push((OPAQUE.to_vec(), b"y".to_vec()));
        assert_eq!(
            paths(&[&base, &[Line::own("/etc", opaque), file("/etc/c", "")]]),
            " /etc /etc/c /x"
        );
    }

    #[test]
    fn removing_one_name_leaves_the_others() {
        let base = [file("/a", "1"), link("/b", "/a")];
        assert_eq!(paths(&[&base, &[gone("/a")]]), " /b");
        assert!(View::empty().apply(&[link("/b", "/a")]).is_err());
    }

    #[test]
    fn only_changed_directories_are_written_again() {
        let mut view = View::empty();
        view.apply(&[directory("/a"), file("/a/f", "1"), directory("/b"), file("/b/f", "1")])
            .unwrap();
        view.apply(&[directory("/empty"), directory("/empty/too")]).unwrap();
        let mut written = 0;
        let mut write = |kind, content: &[u8]| {
            written += 1;
            Ok(ObjectId::of(kind, content))
        };
        let before = view.write_trees(&mut write).unwrap();
        view.apply(&[file("/a/f", "2")]).unwrap();
        let after = view.write_trees(&mut write).unwrap();
        assert_ne!(before, after);
        assert_eq!(written, 3 + 2, "root, a, b; then root and a");
        view.apply(&[file("/a/f", "1")]).unwrap();
        let again = view.write_trees(&mut |kind, content| Ok(ObjectId::of(kind, content))).unwrap();
        assert_eq!(again, before);
    }
}
