//! Which images root filesystems need, and which repositories nobody's root filesystem leads to any more.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Result},
    refs,
    repository::{GITFILE, Repository},
    rootfs::REPOSITORIES,
};
use crate::{Store, StoredImage, remove};

/// In a repository: where its root filesystem is, then the records of the images it has branches of.
const FILE: &str = "crun-cargo-images";

/// A root filesystem, as its repository knows it.
pub(crate) struct Use {
    pub(crate) directory: PathBuf,
    pub(crate) records: Vec<String>,
    repository: Repository,
}

impl Use {
    /// Whether the directory still leads to the repository.
    fn is_live(&self) -> bool {
        let gitfile = fs::read_to_string(self.directory.join(GITFILE));
        gitfile.is_ok_and(|text| text == self.repository.gitfile())
    }
}

/// Remembers that a root filesystem has branches of an image.
pub(crate) fn add(repository: &Repository, directory: &Path, image: &StoredImage) -> Result<()> {
    // Looked for by name later, so links on the way do not matter; a directory that was moved is found
    // again when it is next committed to.
    let directory = std::path::absolute(directory).map_err(Error::io("find", directory))?;
    let mut records = read(repository).map(|known| known.records).unwrap_or_default();
    let record = image.record_name();
    if !records.contains(&record) {
        records.push(record);
    }
    let text = format!("{}\n{}\n", directory.display(), records.join("\n"));
    refs::replace(&repository.directory.join(FILE), text.as_bytes())
}

fn read(repository: &Repository) -> Option<Use> {
    let text = fs::read_to_string(repository.directory.join(FILE)).ok()?;
    let mut lines = text.lines();
    let directory = PathBuf::from(lines.next()?);
    let records = lines.map(str::to_owned).collect();
    Some(Use { directory, records, repository: repository.clone() })
}

fn all(store: &Store) -> crate::Result<Vec<Use>> {
    let repositories = store.names_in(REPOSITORIES)?.into_iter();
    Ok(repositories
        .filter_map(|name| read(&Repository { directory: store.path(REPOSITORIES, &name) }))
        .collect())
}

/// The root filesystem that has branches of an image, if one has.
pub(crate) fn user(store: &Store, record: &str) -> crate::Result<Option<PathBuf>> {
    let found = all(store)?
        .into_iter()
        .find(|user| user.records.iter().any(|known| known == record) && user.is_live());
    Ok(found.map(|user| user.directory))
}

/// Removes repositories whose root filesystem was removed.
pub(crate) fn collect(store: &Store) -> crate::Result<()> {
    for user in all(store)? {
        let is_gone = matches!(
            fs::symlink_metadata(&user.directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound
        );
        if is_gone {
            remove::to_trash(store, &user.repository.directory)?;
        }
    }
    Ok(())
}
