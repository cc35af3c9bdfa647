//! A root filesystem whose layers are branches of a git repository, without losing a byte.
//!
//! `git log`, `git diff` and `git status` of stock git work in it. What git cannot store (owners, modes,
//! xattrs, devices, hard links, empty directories) stands in a manifest beside each commit, as a git note.
//! The truth is in the store: original blobs and unpacked layers. Git objects are a view of them, and no
//! git program is needed to write or read them.

mod adopt;
mod changes;
mod checkout;
mod claim;
mod commit;
mod create;
mod date;
mod error;
mod escape;
mod files;
mod history;
mod image;
mod index;
mod inode;
mod manifest;
mod notes;
mod objects;
mod oid;
mod pack;
mod populate;
mod reattach;
mod refs;
mod repository;
mod rootfs;
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]
mod round_trip;
mod save;
mod scan;
#[cfg(test)]
mod scratch;
mod stamp;
mod state;
mod tarsum;
mod tree;
pub(crate) mod uses;
mod v1;
mod view;

pub use adopt::Adopted;
pub use commit::Signature;
pub use error::{Error, Result};
pub use image::{layer_ids, parse_branch};
pub use oid::{BadObjectId, ObjectId};
pub use repository::{OURS, ours_in};
pub use rootfs::Rootfs;
pub use save::{Committed, Message};
