//! What can go wrong with a git-layered root filesystem.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::oid::ObjectId;

/// A failure around a git-layered root filesystem.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a file failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The directory was not pulled with `-g`, or its repository is gone.
    #[error("{} not a git repository", .0.display())]
    NotARepository(PathBuf),
    /// The gitfile leads to a repository that is not there any more.
    #[error("the repository of {} is gone", .0.display())]
    RepositoryGone(PathBuf),
    /// The gitfile leads out of our store.
    #[error("the repository of {} is in another store: {}", directory.display(), repository.display())]
    OtherStore {
        /// The root filesystem.
        directory: PathBuf,
        /// Where its repository is.
        repository: PathBuf,
    },
    /// A repository was to be made again of an image that is not the directory's.
    #[error("{} shows layer {id}, which the image does not have", directory.display())]
    OtherImage {
        /// The root filesystem.
        directory: PathBuf,
        /// What its `json` says.
        id: String,
    },
    /// An object is missing from the repository.
    #[error("git object {0} is missing")]
    Missing(ObjectId),
    /// Something in the repository does not have the form it must have.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// Which file, object or line.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// No such branch.
    #[error("there is no branch {0}")]
    NoBranch(String),
    /// The branch exists already.
    #[error("branch {0} exists already")]
    BranchExists(String),
    /// Nothing differs from the branch that is checked out.
    #[error("no changes to extract")]
    NoChanges,
    /// A checkout would overwrite what was not committed.
    #[error("{count} paths have changes that are not committed, {example:?} among them")]
    Uncommitted {
        /// How many.
        count: usize,
        /// One of them.
        example: String,
    },
    /// Another process is writing the repository.
    #[error("{} exists: another git process may be running in this repository", .0.display())]
    Locked(PathBuf),
    /// The directory holds something else.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The store refused.
    #[error(transparent)]
    Store(Box<crate::Error>),
    /// The commit does not say which image it belongs to.
    #[error("commit {0} belongs to no image known here")]
    NoImage(ObjectId),
}

/// The result of an operation on a git-layered root filesystem.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err`: names the operation and the file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Something that was read is not what it must be.
    pub(crate) fn damaged(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), why: why.into() }
    }

    /// What the reader can try, when the cause is known to us.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotARepository(_) => Some(
                "only a root filesystem pulled with `-g` has layers to commit; \
                     one that krgo made is taken over with `crun-cargo adopt`",
            ),
            Self::RepositoryGone(_) => {
                Some("`crun-cargo pull IMAGE -g -r DIR` makes it again, and leaves the files alone")
            }
            Self::OtherStore { .. } => Some("name that store with `--root`"),
            Self::OtherImage { .. } => Some("pull the image that the directory was made of"),
            Self::Uncommitted { .. } => {
                Some("keep them with `crun-cargo commit`, or drop them with `--force`")
            }
            Self::Locked(_) => Some("if no git is running there, remove the file"),
            Self::NotEmpty(_) => Some("name a new directory with `-r`, or remove this one first"),
            Self::Store(error) => error.hint(),
            Self::NoBranch(_) => Some("`git branch` in the directory lists them"),
            Self::NoImage(_) => Some("commit first: `crun-cargo commit` makes an image of it"),
            _ => None,
        }
    }
}
