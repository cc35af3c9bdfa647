//! A root filesystem and the store it came from: what the command line deals with.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use sys::Root;

use super::{
    adopt::{self, Adopted},
    changes::hash_large,
    checkout,
    create::{self, Options},
    error::{Error, Result},
    image::Image,
    oid::ObjectId,
    reattach,
    refs::Head,
    repository::Repository,
    save::{self, Committed, Message},
    tarsum, uses,
};
use crate::{Store, StoredImage};

/// Where a store has its repositories.
pub(super) const REPOSITORIES: &str = "git";

/// A root filesystem in a directory.
#[derive(Clone, Copy, Debug)]
pub struct Rootfs<'a> {
    store: &'a Store,
    directory: &'a Path,
}

impl<'a> Rootfs<'a> {
    /// The root filesystem at `directory`, which need not exist yet.
    pub fn new(store: &'a Store, directory: &'a Path) -> Self {
        Self { store, directory }
    }

    fn repositories(&self) -> PathBuf {
        self.store.root().join(REPOSITORIES)
    }

    /// Fills the directory with an image, without git.
    pub fn unpack(&self, image: &StoredImage) -> Result<()> {
        create::unpack(&Image::stored(self.store, image)?, self.directory)
    }

    /// Fills the directory with an image, and makes a branch of each layer. Returns the branches. A root
    /// filesystem of the image that has lost its repository gets a new one, and its files stay.
    ///
    /// `program` is called after `git checkout`. Files larger than `large` are in git as a pointer.
    pub fn pull(
        &self,
        image: &StoredImage,
        program: &Path,
        large: Option<u64>,
    ) -> Result<Vec<String>> {
        let repositories = self.repositories();
        let options = Options { repositories, program: program.to_owned(), large };
        let made = Image::stored(self.store, image)?;
        let branches = if Repository::is_gone(self.directory) {
            reattach::reattach(&made, self.directory, &options)?
        } else {
            create::create(&made, self.directory, &options)?
        };
        uses::add(&Repository::of(self.directory, &options.repositories)?, self.directory, image)?;
        Ok(branches)
    }

    /// The branch that is checked out; `None` on a commit without a branch.
    pub fn branch(&self) -> Result<Option<String>> {
        let repository = Repository::of(self.directory, &self.repositories())?;
        Ok(match repository.refs().head()? {
            Head::Branch(name) => Some(name),
            Head::Detached(_) => None,
        })
    }

    /// Makes a layer, an image and a branch of what changed.
    pub fn commit(&self, message: &Message<'_>) -> Result<Committed> {
        save::commit(self.store, self.directory, &self.repositories(), message)
    }

    /// Makes an image of a repository that krgo 1.4 or 1.5 left here. `truth` is an image with the same
    /// files, which still knows what git did not store.
    pub fn adopt(&self, truth: Option<&StoredImage>) -> Result<Adopted> {
        adopt::adopt(self.store, self.directory, truth)
    }

    /// The checksum that krgo printed of a layer.
    pub fn tarsum(&self, committed: &Committed) -> Result<String> {
        tarsum::of_layer(self.store, &committed.diff_id)
    }

    /// The image that ends with the commit that is shown.
    pub fn image(&self) -> Result<StoredImage> {
        let repository = uses::enter(self.directory, &self.repositories())?.repository;
        save::image_of_head(self.store, &repository)
    }

    /// Shows another branch. Changes that were not committed are an error, unless `force` drops them.
    pub fn checkout(&self, branch: &str, force: bool) -> Result<()> {
        let repositories = self.repositories();
        checkout::checkout(self.directory, &repositories, branch, force, &|sum, path| {
            self.find_large(sum, path)
        })
    }

    /// Restores what git cannot store, after its own checkout from the commit `previous`.
    pub fn restore(&self, previous: Option<ObjectId>) -> Result<()> {
        let repositories = self.repositories();
        checkout::restore(self.directory, &repositories, previous, &|sum, path| {
            self.find_large(sum, path)
        })
    }

    /// A file that is in git only as a pointer: some layer of the store has it.
    fn find_large(&self, sum: &[u8; 32], path: &Path) -> Option<File> {
        let layers = self.store.names_in("layers").ok()?;
        layers.iter().find_map(|layer| {
            let files = self.store.path("layers", layer).join("files");
            let file = Root::open(&files).ok()?.open_plain(path, OFlags::RDONLY).ok()?;
            let mut file = File::from(file);
            let size = file.metadata().ok()?.len();
            let found = hash_large(&mut file, size).ok()?;
            std::io::Seek::rewind(&mut file).ok()?;
            (found == *sum).then_some(file)
        })
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self::Store(Box::new(error))
    }
}
