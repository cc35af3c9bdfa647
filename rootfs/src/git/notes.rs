//! Git notes: a blob beside each commit, here the manifest of its layer.

use std::collections::BTreeMap;

use super::{
    commit::{Commit, Signature},
    error::Result,
    objects::Objects,
    oid::{Kind, ObjectId},
    tree::{self, Mode},
};

/// Where the manifests are: `git log --notes=crun-cargo/layers` shows them.
pub(crate) const LAYERS: &str = "refs/notes/crun-cargo/layers";

/// Which commit has which note.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(BTreeMap<ObjectId, ObjectId>);

impl Notes {
    /// Reads the notes that a reference of theirs points at.
    pub(crate) fn read(objects: &Objects, tip: ObjectId) -> Result<Self> {
        let commit = Commit::decode(tip, &objects.read_as(tip, Kind::Commit)?)?;
        let mut notes = Self::default();
        notes.read_tree(objects, commit.tree, "")?;
        Ok(notes)
    }

    /// Git spreads many notes over directories named by the first digits.
    fn read_tree(&mut self, objects: &Objects, id: ObjectId, prefix: &str) -> Result<()> {
        for entry in tree::decode(id, &objects.read_as(id, Kind::Tree)?)? {
            let Ok(name) = String::from_utf8(entry.name) else { continue };
            let name = format!("{prefix}{name}");
            match (entry.mode, name.parse()) {
                (Mode::File, Ok(commit)) => drop(self.0.insert(commit, entry.id)),
                (Mode::Directory, _) if name.len() < 2 * ObjectId::LENGTH => {
                    self.read_tree(objects, entry.id, &name)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn get(&self, commit: ObjectId) -> Option<ObjectId> {
        self.0.get(&commit).copied()
    }

    pub(crate) fn set(&mut self, commit: ObjectId, note: ObjectId) {
        self.0.insert(commit, note);
    }

    /// Writes the notes, and returns the commit their reference is to point at.
    pub(crate) fn write(
        &self,
        parent: Option<ObjectId>,
        author: &Signature,
        write: &mut dyn FnMut(Kind, &[u8]) -> Result<ObjectId>,
    ) -> Result<ObjectId> {
        let entry = |(commit, note): (&ObjectId, &ObjectId)| tree::Entry {
            mode: Mode::File,
            name: commit.to_string().into_bytes(),
            id: *note,
        };
        let tree = write(Kind::Tree, &tree::encode(self.0.iter().map(entry).collect()))?;
        let commit = Commit {
            tree,
            parents: parent.into_iter().collect(),
            author: Some(author.clone()),
            message: "Notes added by crun-cargo".into(),
            trailers: Vec::new(),
        };
        write(Kind::Commit, &commit.encode())
    }
}
