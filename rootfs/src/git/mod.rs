//! A root filesystem whose layers are branches of a git repository, without losing a byte.
//!
//! `git log`, `git diff` and `git status` of stock git work in it. What git cannot store (owners, modes,
//! xattrs, devices, hard links, empty directories) stands in a manifest beside each commit, as a git note.
//! The truth is in the store: original blobs and unpacked layers. Git objects are a view of them, and no
//! git program is needed to write or read them.

mod commit;
mod error;
mod escape;
mod inode;
mod manifest;
mod objects;
mod oid;
mod pack;
#[cfg(test)]
mod scratch;
mod tree;
mod view;

pub use commit::Signature;
pub use error::{Error, Result};
pub use oid::{BadObjectId, ObjectId};
