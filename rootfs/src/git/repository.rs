//! The repository beside a root filesystem: where it is, how it is made, and what it tells git.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Result},
    escape::escape,
    refs,
    view::View,
};

/// The file in the root filesystem that leads git to the repository.
pub(crate) const GITFILE: &str = ".git";

/// Files of ours in the root directory of a root filesystem: shown to people, hidden from containers,
/// and never part of a layer.
pub const OURS: [&str; 3] = [GITFILE, "json", "layersize"];

/// Files that are mounted over in every container, which leaves an empty one where there was none.
pub(crate) const MOUNTED: [&[u8]; 3] = [b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf"];

/// Those of our files that a directory has: all, or none when it is no root filesystem with branches.
pub fn ours_in(directory: &Path) -> &'static [&'static str] {
    match read_gitfile(&directory.join(GITFILE)) {
        Ok(text) if text.starts_with("gitdir: ") => &OURS,
        _ => &[],
    }
}

/// A repository in the store.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    pub(crate) directory: PathBuf,
}

impl Repository {
    /// Makes an empty repository below `repositories`, under a name of its own.
    ///
    /// `program` is what its hook calls, so that `git checkout` restores what git cannot store.
    pub(crate) fn create(repositories: &Path, program: &Path) -> Result<Self> {
        make_directories(repositories)?;
        let directory = unused_name(repositories)?;
        for below in ["objects/pack", "objects/info", "refs/heads", "refs/tags", "info", "hooks"] {
            make_directories(&directory.join(below))?;
        }
        let repository = Self { directory };
        repository.write(
            "config",
            config(&repository.directory.join("hooks")).as_bytes(),
            0o600,
        )?;
        repository.write("info/attributes", ATTRIBUTES.as_bytes(), 0o600)?;
        repository.write("hooks/post-checkout", hook(program, repositories).as_bytes(), 0o700)?;
        // A repository is one for git as soon as it has a HEAD.
        repository.write("HEAD", b"ref: refs/heads/none\n", 0o600)?;
        Ok(repository)
    }

    /// The repository that a root filesystem's gitfile leads to.
    ///
    /// A container may have written that file, so only repositories in our own store are accepted.
    pub(crate) fn of(directory: &Path, repositories: &Path) -> Result<Self> {
        let target =
            target(directory).ok_or_else(|| Error::NotARepository(directory.to_owned()))?;
        let is_ours = target.parent() == Some(repositories);
        match target.join("HEAD").is_file() {
            true if is_ours => Ok(Self { directory: target }),
            true => Err(Error::OtherStore { directory: directory.to_owned(), repository: target }),
            false => Err(Error::RepositoryGone(directory.to_owned())),
        }
    }

    /// Whether a root filesystem had a repository that is not there any more.
    pub(crate) fn is_gone(directory: &Path) -> bool {
        target(directory).is_some_and(|target| !target.join("HEAD").exists())
    }

    /// A second repository with everything this one has, for a copy of its root filesystem. Objects are
    /// never changed, so both share their files.
    pub(crate) fn fork(&self) -> Result<Self> {
        let repositories = self.directory.parent().unwrap_or(&self.directory);
        let fork = Self { directory: unused_name(repositories)? };
        let copied = copy_repository(&self.directory, &fork.directory, false);
        copied.map_err(Error::io("copy", &self.directory))?;
        // Its hooks are its own.
        let path = fork.directory.join("config");
        let config = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let (old, new) = (self.directory.display(), fork.directory.display());
        let config = config.replace(&old.to_string(), &new.to_string());
        refs::replace(&path, config.as_bytes())?;
        Ok(fork)
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.directory.join("objects")
    }

    pub(crate) fn refs(&self) -> refs::Refs {
        refs::Refs::new(&self.directory)
    }

    /// Where the view of what is checked out is remembered.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join("crun-cargo-checkout")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.directory.join("index")
    }

    /// What the gitfile says.
    pub(crate) fn gitfile(&self) -> String {
        format!("gitdir: {}\n", self.directory.display())
    }

    /// Names the files git must not call untracked: ours, and those it has under escaped names.
    pub(crate) fn write_exclude(&self, view: &View) -> Result<()> {
        let mut text = String::from("/json\n/layersize\n").into_bytes();
        for path in MOUNTED.iter().filter(|path| view.find(path).is_none()) {
            text.extend_from_slice(path);
            text.push(b'\n');
        }
        view.walk(&mut |path, _| {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            if *escape(name) != *name {
                text.extend_from_slice(&pattern(path));
                text.push(b'\n');
            }
            Ok(())
        })?;
        refs::replace(&self.directory.join("info/exclude"), &text)
    }

    /// Waits until no other command of ours uses the repository. Dropping the file lets the next one in.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.directory.join("crun-cargo-lock");
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        file.lock().map_err(Error::io("lock", &path))?;
        Ok(file)
    }

    fn write(&self, name: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.directory.join(name);
        let mut options = File::options();
        options.write(true).create_new(true).mode(mode);
        let written = options.open(&path).and_then(|mut file| file.write_all(content));
        written.map_err(Error::io("write", &path))
    }
}

/// Where a root filesystem's gitfile leads, if it has one.
fn target(directory: &Path) -> Option<PathBuf> {
    let text = read_gitfile(&directory.join(GITFILE)).ok()?;
    text.strip_prefix("gitdir: ").map(|path| PathBuf::from(path.trim_end()))
}

/// Copies what git and we keep in a repository; locks of commands under way stay behind.
fn copy_repository(from: &Path, to: &Path, are_objects: bool) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, to) = (entry.file_name(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&to)?;
            copy_repository(&entry.path(), &to, are_objects || name == "objects")?;
        } else if are_objects {
            fs::hard_link(entry.path(), &to)?;
        } else if to.extension().is_none_or(|ending| ending != "lock") {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

fn read_gitfile(path: &Path) -> io::Result<String> {
    let flags = super::scan::READ;
    let file = rustix::fs::openat(rustix::fs::CWD, path, flags, rustix::fs::Mode::empty())?;
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(File::from(file), 4096), &mut text)?;
    Ok(text)
}

/// Makes a directory and those above it, for nobody but us (D-14).
pub(crate) fn make_directories(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io("create", path))
}

fn unused_name(repositories: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let mut number = u64::from(std::process::id());
    loop {
        let path = repositories.join(format!("{number:x}.git"));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1 << 24,
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
    }
}

/// Git must show what is there: no conversion of line ends, no ignore files of the user's own, no
/// protection for filesystems this is not.
fn config(hooks: &Path) -> String {
    let hooks = hooks.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "[core]\n\
         \trepositoryFormatVersion = 0\n\
         \tbare = false\n\
         \tfileMode = true\n\
         \tsymlinks = true\n\
         \tignoreCase = false\n\
         \tlogAllRefUpdates = true\n\
         \tautocrlf = false\n\
         \tsafecrlf = false\n\
         \tprotectHFS = false\n\
         \tprotectNTFS = false\n\
         \tattributesFile = /dev/null\n\
         \texcludesFile = /dev/null\n\
         \thooksPath = \"{hooks}\"\n"
    )
}

/// These outrank every `.gitattributes` of the image, whose filters would show files as changed.
const ATTRIBUTES: &str = "* -text -ident -filter !eol !working-tree-encoding\n";

/// Git knows nothing of the store it is called in, so the hook does.
fn hook(program: &Path, repositories: &Path) -> String {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
    let root = repositories.parent().unwrap_or(repositories);
    format!(
        "#!/bin/sh\n\
         # Restores the owners, modes, attributes, devices and empty directories git cannot store.\n\
         program={}\n\
         [ -x \"$program\" ] || program=crun-cargo\n\
         exec \"$program\" --root {} checkout -r . --restore \"$1\"\n",
        quoted(program),
        quoted(root),
    )
}

/// A pattern of gitignore(5) that means exactly this path.
fn pattern(path: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(path.len() + 1);
    for byte in path {
        match byte {
            b'\\' | b'*' | b'?' | b'[' | b' ' => pattern.extend_from_slice(&[b'\\', *byte]),
            // Cannot be written; any character is the nearest there is.
            b'\n' | b'\r' => pattern.push(b'?'),
            _ => pattern.push(*byte),
        }
    }
    pattern
}
