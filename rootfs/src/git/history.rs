//! From a commit back to its base: which layers it has, and the view they make together.

use super::{
    commit::Commit,
    error::{Error, Result},
    manifest,
    notes::{LAYERS, Notes},
    objects::Objects,
    oid::{Kind, ObjectId},
    refs::Refs,
    view::View,
};

/// A commit on the way from a tip to the base.
#[derive(Clone, Debug)]
pub(crate) struct Ancestor {
    pub(crate) id: ObjectId,
    pub(crate) commit: Commit,
    /// The manifest of the layer it brought.
    pub(crate) note: Option<ObjectId>,
}

/// More than any image has entries in its history.
const MAX_COMMITS: usize = 100_000;

/// The commits of a tip's first parents, base first.
pub(crate) fn line(objects: &Objects, refs: &Refs, tip: ObjectId) -> Result<Vec<Ancestor>> {
    let notes = match refs.get(LAYERS)? {
        Some(tip) => Notes::read(objects, tip)?,
        None => Notes::default(),
    };
    let mut ancestors = Vec::new();
    let mut next = Some(tip);
    while let Some(id) = next {
        if ancestors.len() == MAX_COMMITS {
            return Err(Error::damaged(format!("commit {tip}"), "a history without end"));
        }
        let commit = Commit::decode(id, &objects.read_as(id, Kind::Commit)?)?;
        next = commit.parents.first().copied();
        ancestors.push(Ancestor { id, commit, note: notes.get(id) });
    }
    ancestors.reverse();
    Ok(ancestors)
}

/// What the layers of these commits show together.
pub(crate) fn view(objects: &Objects, ancestors: &[Ancestor]) -> Result<View> {
    let mut view = View::empty();
    for note in ancestors.iter().filter_map(|ancestor| ancestor.note) {
        view.apply(&manifest::decode(&objects.read_as(note, Kind::Blob)?)?)?;
    }
    Ok(view)
}
