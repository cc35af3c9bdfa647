//! Which images root filesystems need, and where the root filesystems are.
//!
//! People move and copy directories without telling us. A repository whose root filesystem is not where it
//! was may be needed elsewhere, so only a person can say that it is not.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    create::write_file,
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
    pub(crate) fn is_live(&self) -> bool {
        let gitfile = fs::read_to_string(self.directory.join(GITFILE));
        gitfile.is_ok_and(|text| text == self.repository.gitfile())
    }

    fn write(&self) -> Result<()> {
        let text = format!("{}\n{}\n", self.directory.display(), self.records.join("\n"));
        refs::replace(&self.repository.directory.join(FILE), text.as_bytes())
    }
}

/// How a root filesystem got to its repository.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) repository: Repository,
    /// The repository it shared until now, when it is a copy of a root filesystem that is still there.
    pub(crate) original: Option<Repository>,
}

/// The repository of a root filesystem, for a command that may change it. One that was moved is
/// remembered where it is now; one that was copied gets a repository of its own.
pub(crate) fn enter(directory: &Path, repositories: &Path) -> Result<Entered> {
    let repository = Repository::of(directory, repositories)?;
    let alone = Entered { repository, original: None };
    let Some(known) = read(&alone.repository) else { return Ok(alone) };
    if is_same(&known.directory, directory) {
        return Ok(alone);
    }
    let here = std::path::absolute(directory).map_err(Error::io("find", directory))?;
    if !known.is_live() {
        Use { directory: here, ..known }.write()?;
        return Ok(alone);
    }
    let fork = alone.repository.fork()?;
    Use { directory: here, repository: fork.clone(), ..known }.write()?;
    write_file(directory, GITFILE, fork.gitfile().as_bytes())?;
    Ok(Entered { repository: fork, original: Some(alone.repository) })
}

/// Whether two names are of one directory.
fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    id(one).is_some_and(|one| Some(one) == id(other))
}

/// Remembers that a root filesystem has branches of an image.
pub(crate) fn add(repository: &Repository, directory: &Path, image: &StoredImage) -> Result<()> {
    let directory = std::path::absolute(directory).map_err(Error::io("find", directory))?;
    let mut records = read(repository).map(|known| known.records).unwrap_or_default();
    let record = image.record_name();
    if !records.contains(&record) {
        records.push(record);
    }
    Use { directory, records, repository: repository.clone() }.write()
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
pub(crate) fn user(store: &Store, record: &str) -> crate::Result<Option<Use>> {
    let mut users: Vec<_> = all(store)?
        .into_iter()
        .filter(|user| user.records.iter().any(|known| known == record))
        .collect();
    // One that is there says more to people.
    users.sort_by_key(|user| !user.is_live());
    Ok(users.into_iter().next())
}

/// Where root filesystems are not any more that still have a repository.
pub(crate) fn lost(store: &Store) -> crate::Result<Vec<PathBuf>> {
    let lost = all(store)?.into_iter().filter(|user| !user.is_live());
    Ok(lost.map(|user| user.directory).collect())
}

/// Removes the repositories of root filesystems that are not where they were.
pub(crate) fn remove_lost(store: &Store) -> crate::Result<()> {
    for user in all(store)?.iter().filter(|user| !user.is_live()) {
        remove::to_trash(store, &user.repository.directory)?;
    }
    Ok(())
}
