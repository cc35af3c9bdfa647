//! What an image's layers consist of: their biggest files, and bytes that later layers hide.

use std::{collections::HashSet, ffi::OsStr, io, os::unix::ffi::OsStrExt, path::PathBuf};

use oci_spec::image::Digest;
use rustix::fs::FileType;

use crate::{
    error::{During, Result},
    image::StoredImage,
    layer::record::Record,
    store::Store,
    union::{Found, Union},
};

/// One layer of an image, measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerContents {
    /// What it decompresses to.
    pub diff_id: Digest,
    /// Bytes of its blob.
    pub compressed_size: u64,
    /// Bytes of its tar.
    pub tar_size: u64,
    /// Entries of its tar.
    pub entries: u64,
    /// Bytes of data in its files.
    pub size: u64,
    /// Of these, bytes that no container can see: overwritten or deleted by a later layer.
    pub wasted: u64,
    /// Its biggest files, the biggest first.
    pub biggest: Vec<FileSize>,
    /// The biggest that are wasted.
    pub biggest_wasted: Vec<FileSize>,
}

/// A file and the bytes of its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSize {
    /// Absolute path inside the container.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

impl Store {
    /// Measures an image's layers, the lowest first, naming up to `most` files of each.
    pub fn contents(&self, image: &StoredImage, most: usize) -> Result<Vec<LayerContents>> {
        let mut visible = HashSet::new();
        let see = |_: &[u8], found: &Found| -> io::Result<()> {
            visible.insert((found.stat.st_dev, found.stat.st_ino));
            Ok(())
        };
        image.union().walk(see).during("list", &image.id)?;
        image.layers.iter().map(|layer| self.measure(layer, &visible, most)).collect()
    }

    fn measure(
        &self,
        layer: &crate::StoredLayer,
        visible: &HashSet<(u64, u64)>,
        most: usize,
    ) -> Result<LayerContents> {
        let path = self.layer_path(&layer.diff_id)?;
        let record = Record::read(&path)?;
        let (mut all, mut wasted) = (Biggest::new(most), Biggest::new(most));
        let mut seen = HashSet::new();
        let own = Union::new(vec![path.join("files")], record.namespace);
        own.walk(|path, found| -> io::Result<()> {
            let inode = (found.stat.st_dev, found.stat.st_ino);
            // A file with several names is there once.
            if found.kind() == FileType::RegularFile && seen.insert(inode) {
                let size = u64::try_from(found.stat.st_size).unwrap_or(0);
                all.add(path, size);
                if !visible.contains(&inode) {
                    wasted.add(path, size);
                }
            }
            Ok(())
        })
        .during("list", path.display())?;
        Ok(LayerContents {
            diff_id: layer.diff_id.clone(),
            compressed_size: layer.blob.size(),
            tar_size: record.tar_size,
            entries: record.entries,
            size: all.sum,
            wasted: wasted.sum,
            biggest: all.finish(),
            biggest_wasted: wasted.finish(),
        })
    }
}

/// The biggest of many files, and the sum of all.
struct Biggest {
    most: usize,
    sum: u64,
    files: Vec<FileSize>,
}

impl Biggest {
    fn new(most: usize) -> Self {
        Self { most, sum: 0, files: Vec::new() }
    }

    fn add(&mut self, path: &[u8], size: u64) {
        self.sum = self.sum.saturating_add(size);
        let path = PathBuf::from("/").join(OsStr::from_bytes(path));
        self.files.push(FileSize { path, size });
        if self.files.len() > self.most.saturating_mul(2).max(64) {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        self.files.sort_by(|one, other| other.size.cmp(&one.size).then(one.path.cmp(&other.path)));
        self.files.truncate(self.most);
    }

    fn finish(mut self) -> Vec<FileSize> {
        self.shorten();
        self.files
    }
}
