//! A tree on the host that nothing done in a container may touch.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::TestEnv;

/// Files, a directory and a link whose content, inodes and times are known.
pub struct Canary {
    directory: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    /// Makes the tree in the test's own place.
    pub fn plant(env: &TestEnv) -> Self {
        let directory = env.path("canary");
        env.file("canary/file", "untouched");
        env.file("canary/directory/file", "untouched");
        std::os::unix::fs::symlink("file", directory.join("link")).expect("a link of ours");
        let before = look(&directory);
        Self { directory, before }
    }

    /// The tree.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Panics if anything about it has changed.
    #[track_caller]
    pub fn sings(&self) {
        assert_eq!(look(&self.directory), self.before, "something outside was touched");
    }
}

/// Everything about a tree that an escape could change.
fn look(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let m = fs::symlink_metadata(&path).expect("it is still there");
        if m.is_dir() {
            let entries = fs::read_dir(&path).expect("it is still a directory");
            todo.extend(entries.flatten().map(|entry| entry.path()));
        }
        let content = if m.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let facts =
            (m.mode(), m.uid(), m.gid(), m.ino(), m.nlink(), m.mtime_nsec(), m.ctime_nsec());
        seen.insert(path, format!("{facts:?} {}", String::from_utf8_lossy(&content)));
    }
    seen
}
