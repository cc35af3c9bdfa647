//! Branches and other references, and files that are replaced whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Result},
    oid::ObjectId,
};

/// What `HEAD` points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// A branch, by its name without `refs/heads/`; it need not exist yet.
    Branch(String),
    /// A commit.
    Detached(ObjectId),
}

/// The references of a repository.
#[derive(Clone, Debug)]
pub(crate) struct Refs {
    directory: PathBuf,
}

impl Refs {
    pub(crate) fn new(repository: &Path) -> Self {
        Self { directory: repository.to_owned() }
    }

    /// What a full name (`refs/heads/x`) points at.
    pub(crate) fn get(&self, name: &str) -> Result<Option<ObjectId>> {
        let path = self.directory.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => parse(&path, text.trim_end()).map(Some),
            // A directory stands where the first part of a packed reference's name once was a reference.
            Err(error) if is_absent(&error) => {
                Ok(self.packed()?.into_iter().find(|row| row.0 == name).map(|row| row.1))
            }
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Every branch and its tip, in no order.
    pub(crate) fn branches(&self) -> Result<Vec<(String, ObjectId)>> {
        const PREFIX: &str = "refs/heads/";
        let mut found: Vec<_> = self
            .packed()?
            .into_iter()
            .filter_map(|(name, id)| Some((name.strip_prefix(PREFIX)?.to_owned(), id)))
            .collect();
        let directory = self.directory.join(PREFIX);
        for entry in fs::read_dir(&directory).map_err(Error::io("list", &directory))? {
            let entry = entry.map_err(Error::io("list", &directory))?;
            // Branches of ours have no slash; directories are the user's own business.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !entry.path().is_file() || name.ends_with(".lock") {
                continue;
            }
            let Some(id) = self.get(&format!("{PREFIX}{name}"))? else { continue };
            found.retain(|row| row.0 != name);
            found.push((name, id));
        }
        Ok(found)
    }

    /// Points a reference at a commit.
    pub(crate) fn set(&self, name: &str, id: ObjectId) -> Result<()> {
        let path = self.directory.join(name);
        if let Some(parent) = path.parent() {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
            made.map_err(Error::io("create", parent))?;
        }
        replace(&path, format!("{id}\n").as_bytes())
    }

    pub(crate) fn head(&self) -> Result<Head> {
        let path = self.directory.join("HEAD");
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        match text.trim_end().strip_prefix("ref: refs/heads/") {
            Some(branch) => Ok(Head::Branch(branch.to_owned())),
            None => parse(&path, text.trim_end()).map(Head::Detached),
        }
    }

    /// The commit that is checked out; `None` on a branch without commits.
    pub(crate) fn head_commit(&self) -> Result<Option<ObjectId>> {
        match self.head()? {
            Head::Branch(name) => self.get(&format!("refs/heads/{name}")),
            Head::Detached(id) => Ok(Some(id)),
        }
    }

    pub(crate) fn set_head(&self, branch: &str) -> Result<()> {
        replace(&self.directory.join("HEAD"), format!("ref: refs/heads/{branch}\n").as_bytes())
    }

    fn packed(&self) -> Result<Vec<(String, ObjectId)>> {
        let path = self.directory.join("packed-refs");
        let text = match fs::read_to_string(&path) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            other => other.map_err(Error::io("read", &path))?,
        };
        // `#` begins the header, `^` the commit that the annotated tag before it stands for.
        text.lines()
            .filter(|line| !line.starts_with(['#', '^']))
            .map(|line| {
                let (id, name) = line
                    .split_once(' ')
                    .ok_or_else(|| Error::damaged(path.display().to_string(), "malformed line"))?;
                Ok((name.to_owned(), parse(&path, id)?))
            })
            .collect()
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory
    )
}

fn parse(path: &Path, text: &str) -> Result<ObjectId> {
    text.parse().map_err(|_| Error::damaged(path.display().to_string(), "not an object name"))
}

/// Replaces a file under git's own protocol: whoever makes `<file>.lock` may write, and renames it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    let mut file = match File::create_new(&lock) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::Locked(lock));
        }
        other => other.map_err(Error::io("create", &lock))?,
    };
    let written = file.write_all(content).and_then(|()| fs::rename(&lock, path));
    if written.is_err() {
        // What is reported is why the file could not be written; a lock left behind names itself later.
        let _ = fs::remove_file(&lock);
    }
    written.map_err(Error::io("write", path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::git::scratch::Scratch;

    #[test]
    fn loose_and_packed_references_are_read_and_ours_are_gits() {
        let scratch = Scratch::new("refs");
        scratch.git(&["init", "-q", "-b", "one", "."]);
        let refs = Refs::new(&scratch.path.join(".git"));
        assert_eq!(refs.head().unwrap(), Head::Branch("one".into()));
        assert_eq!(refs.head_commit().unwrap(), None);
        scratch.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
        let id: ObjectId = scratch.git(&["rev-parse", "HEAD"]).trim().parse().unwrap();
        scratch.git(&["pack-refs", "--all"]);
        refs.set("refs/heads/two", id).unwrap();
        refs.set_head("two").unwrap();
        assert_eq!(scratch.git(&["branch"]), "  one\n* two\n");
        let mut branches = refs.branches().unwrap();
        branches.sort();
        assert_eq!(branches, [("one".to_owned(), id), ("two".to_owned(), id)]);
        scratch.git(&["checkout", "-q", "--detach"]);
        assert_eq!(refs.head().unwrap(), Head::Detached(id));
        fs::write(scratch.path.join(".git/HEAD.lock"), "").unwrap();
        assert!(matches!(refs.set_head("one"), Err(Error::Locked(_))));
    }
}
