//! What images become: a store of verified layers, and a writable root for each container.
//!
//! This crate knows no HTTP and gives names no meaning: a name is a string somebody chose for an image.
//! See [`Store`] for the layout on disk.

mod chain;
mod check;
mod collect;
mod commit;
mod compress;
mod contents;
mod copy;
mod difference;
mod document;
mod error;
mod extract;
pub mod git;
mod image;
mod inspect;
mod layer;
mod lock;
mod name;
mod overlay;
mod owners;
mod pack;
mod recipe;
mod remove;
mod snapshot;
mod store;
mod tar;
mod tree;
mod union;

pub use check::{Damage, Health, Object, Usage};
pub use collect::Removed;
pub use commit::{Format, NewImage};
pub use compress::{Compressed, compress};
pub use contents::{FileSize, LayerContents};
pub use difference::{Change, ChangeKind, Side};
pub use error::{Error, Result};
pub use image::{ImageSummary, StoredImage, StoredLayer};
pub use layer::{Compression, LayerState, NewLayer, decompressed, is_compressed};
pub use pack::Times;
pub use snapshot::{Snapshot, SnapshotKind, SnapshotOptions};
pub use store::{Settings, Store};
pub use tree::{Keep, Place, Tree};
