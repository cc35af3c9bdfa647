//! Files into containers and out of them, by docker's rules: what a path means depends on what is there
//! and on whether it ends in a slash.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
    thread,
};

use anyhow::{Context, anyhow, bail};
use rootfs::{Keep, Place, Tree};
use runtime::{Containers, Status};

use crate::{
    home::Home,
    launch, ordinary,
    record::{self, Container},
    report::advise,
};

/// As many links as the kernel would follow.
const MAX_LINKS: usize = 40;

/// One end of a copy, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `-`: a tar on standard input or output.
    Archive,
    /// A path of the host.
    Host(PathBuf),
    /// `CONTAINER:PATH`
    Container { name: String, path: PathBuf },
}

impl From<OsString> for End {
    /// What starts with a slash or a dot is a path of the host, whatever colons it has.
    fn from(typed: OsString) -> Self {
        let bytes = typed.as_bytes();
        if bytes == b"-" {
            return Self::Archive;
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        match colon.map(|colon| bytes.split_at(colon)) {
            Some((name, path)) if !name.starts_with(b"/") && !name.starts_with(b".") => {
                let path = OsStr::from_bytes(path.get(1..).unwrap_or_default());
                let name = String::from_utf8_lossy(name).into_owned();
                // Containers have no working directory to start from.
                Self::Container { name, path: Path::new("/").join(path) }
            }
            _ => Self::Host(PathBuf::from(typed)),
        }
    }
}

/// How to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// `--archive`
    pub(crate) archive: bool,
    /// `--follow-link`
    pub(crate) follow: bool,
}

/// Copies, and returns the bytes of data that were written, unless to an archive.
pub(crate) fn copy(
    home: &Home,
    from: &End,
    to: &End,
    options: Options,
) -> anyhow::Result<Option<u64>> {
    match (from, to) {
        (End::Container { .. }, End::Container { .. }) => Err(advise(
            "both ends are in containers",
            "copy through a pipe: crun-cargo cp A:PATH - | crun-cargo cp - B:PATH",
        )),
        (End::Container { .. }, End::Archive) => {
            let source = Source::find(Files::open(home, from)?, options.follow)?;
            source.write(source.own_name(), &mut io::stdout().lock())?;
            Ok(None)
        }
        (End::Archive, End::Container { .. }) => {
            let files = Files::open(home, to)?;
            files.check_writable()?;
            match files.tree.look(&files.path, true)? {
                Some(Place::Directory) => {}
                Some(_) => bail!("{to} is no directory"),
                None => return Err(missing(to)),
            }
            let keep = Keep { owners: true, privileges: true };
            let written = files.tree.unpack(&files.path, io::stdin(), keep, scratch()?);
            Ok(Some(written.with_context(|| format!("cannot copy to {to}"))?))
        }
        (End::Container { .. }, End::Host(_)) | (End::Host(_), End::Container { .. }) => {
            between(home, from, to, options).map(Some)
        }
        _ => Err(advise(
            "neither end is in a container",
            "say CONTAINER:PATH for one of them; a path of the host with a colon starts with ./ or /",
        )),
    }
}

fn between(home: &Home, from: &End, to: &End, options: Options) -> anyhow::Result<u64> {
    let source = Source::find(Files::open(home, from)?, options.follow)?;
    let target = Target::find(Files::open(home, to)?, &source)?;
    let keep = Keep {
        owners: options.archive,
        // What an image or a container made must not be more on the host than the caller meant.
        privileges: options.archive || matches!(to, End::Container { .. }),
    };
    let scratch = scratch()?;
    let (reader, mut writer) = io::pipe().context("cannot make a pipe")?;
    let (packed, unpacked) = thread::scope(|scope| {
        let (source, called) = (&source, target.called.clone());
        let packing = thread::Builder::new()
            .name("pack".to_owned())
            // The writing end goes with the thread: the reader must see the end.
            .spawn_scoped(scope, move || source.write(&called, &mut writer))
            .context("cannot start a thread")?;
        let unpacked = target.tree.unpack(&target.directory, reader, keep, scratch);
        let packed = packing.join().map_err(|_| anyhow!("the copying thread is gone"))?;
        anyhow::Ok((packed, unpacked))
    })?;
    let unpacked = unpacked.with_context(|| format!("cannot copy to {to}"));
    match packed {
        // Then whoever did not read any more has the reason.
        Err(error) if is_broken_pipe(&error) => unpacked,
        Err(error) => Err(error),
        Ok(()) => unpacked,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn scratch() -> anyhow::Result<File> {
    tempfile::tempfile().context("cannot make a temporary file")
}

/// A path, and the tree of files it is in.
struct Files {
    tree: Tree,
    path: PathBuf,
    end: End,
    is_read_only: bool,
    /// A container that has ended must not start while its root is mounted here.
    _lock: Option<Container>,
}

impl Files {
    fn open(home: &Home, end: &End) -> anyhow::Result<Self> {
        let end = end.clone();
        match &end {
            End::Host(path) => {
                let root = File::open("/").context("cannot open /")?;
                let (tree, path) = (Tree::new(root.into())?, absolute(path)?);
                Ok(Self { tree, path, end, is_read_only: false, _lock: None })
            }
            End::Container { name, path } => {
                let path = path.clone();
                Self::of_container(record::find(home, name)?, home, path, end)
            }
            End::Archive => bail!("an archive has no files yet"),
        }
    }

    /// What a container sees as its files; of one that has ended, without what was mounted in it.
    fn of_container(
        container: Container,
        home: &Home,
        path: PathBuf,
        end: End,
    ) -> anyhow::Result<Self> {
        match Containers::open(&home.runroot)?.load(&container.id()?) {
            Ok(running) if running.status()? != Status::Stopped => {
                let tree = Tree::new(running.root()?)?;
                running.become_owner()?;
                // Where it may be written, the mounts themselves say.
                return Ok(Self { tree, path, end, is_read_only: false, _lock: None });
            }
            Ok(_) | Err(runtime::Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        ordinary::become_owner()?;
        container.lock()?;
        let spec = launch::saved_spec(&container)?;
        let root = runtime::detached_root(&spec)
            .with_context(|| format!("cannot mount the files of container {}", container.name()))?;
        let (tree, is_read_only) = (Tree::new(root)?, spec.root.read_only);
        Ok(Self { tree, path, end, is_read_only, _lock: Some(container) })
    }

    fn check_writable(&self) -> anyhow::Result<()> {
        if self.is_read_only {
            bail!("{}: the container's root is read-only", self.end);
        }
        Ok(())
    }
}

/// The absolute form, trailing slash and dot kept: they have a meaning.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("cannot find the working directory")?;
    Ok(here.join(path))
}

/// What is copied.
struct Source {
    files: Files,
    is_directory: bool,
    /// Only what is in the directory.
    only_contents: bool,
    follow: bool,
}

impl Source {
    fn find(files: Files, follow: bool) -> anyhow::Result<Self> {
        let bytes = files.path.as_os_str().as_bytes();
        let follow = follow || bytes.ends_with(b"/") || bytes.ends_with(b"/.");
        let place = files.tree.look(&files.path, follow)?.ok_or_else(|| missing(&files.end))?;
        let is_directory = place == Place::Directory;
        let only_contents = bytes.ends_with(b"/.") || last(&files.path).is_none();
        Ok(Self { files, is_directory, only_contents, follow })
    }

    /// What it is called where nobody gives it another name; nothing for a root.
    fn own_name(&self) -> &OsStr {
        if self.only_contents { OsStr::new("") } else { last(&self.files.path).unwrap_or_default() }
    }

    fn write(&self, called: &OsStr, output: &mut dyn Write) -> anyhow::Result<()> {
        self.files
            .tree
            .pack(&self.files.path, self.follow, called, output)
            .with_context(|| format!("cannot copy {}", self.files.end))
    }
}

/// Where it goes.
struct Target {
    tree: Tree,
    directory: PathBuf,
    /// What the copy is called in that directory; nothing when only contents are copied.
    called: OsString,
    _files: Files,
}

impl Target {
    fn find(mut files: Files, source: &Source) -> anyhow::Result<Self> {
        files.check_writable()?;
        let must_be_directory = files.path.as_os_str().as_bytes().ends_with(b"/");
        let place = follow(&mut files)?;
        let (directory, called) = match place {
            Some(Place::Directory) => (files.path.clone(), source.own_name().to_owned()),
            Some(_) if source.is_directory => {
                bail!("{} is a file, and {} a directory", files.end, source.files.end)
            }
            None if must_be_directory && !source.is_directory => return Err(missing(&files.end)),
            _ => {
                let called = last(&files.path).ok_or_else(|| missing(&files.end))?.to_owned();
                (files.path.parent().unwrap_or(Path::new("/")).to_owned(), called)
            }
        };
        match files.tree.look(&directory, true)? {
            Some(Place::Directory) => {}
            _ => return Err(missing(&files.end)),
        }
        // On the host, what comes out of a container stays below the directory that was named.
        let (tree, directory) = match files.end {
            End::Host(_) => (files.tree.below(&directory)?, PathBuf::new()),
            _ => (files.tree.below(Path::new("/"))?, directory),
        };
        Ok(Self { tree, directory, called, _files: files })
    }
}

/// Follows links at the path itself, as a copy goes where they lead, be it that nothing is there yet.
fn follow(files: &mut Files) -> anyhow::Result<Option<Place>> {
    for _ in 0..MAX_LINKS {
        match files.tree.look(&files.path, false)? {
            Some(Place::Link(text)) => {
                let above = files.path.parent().unwrap_or(Path::new("/"));
                files.path = above.join(text);
            }
            other => return Ok(other),
        }
    }
    bail!("{}: too many links", files.end)
}

/// The last component, when it is a name.
fn last(path: &Path) -> Option<&OsStr> {
    match path.components().next_back() {
        Some(Component::Normal(last)) => Some(last),
        _ => None,
    }
}

fn missing(end: &End) -> anyhow::Error {
    match end {
        End::Container { name, path } => {
            anyhow!("there is no {} in container {name}", path.display())
        }
        End::Host(path) => anyhow!("there is no {}", path.display()),
        End::Archive => anyhow!("there is no archive"),
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Archive => formatter.write_str("-"),
            Self::Host(path) => path.display().fmt(formatter),
            Self::Container { name, path } => write!(formatter, "{name}:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_makes_a_container_unless_the_path_says_it_is_one() {
        let end = |typed: &str| End::from(OsString::from(typed));
        let inside = |name: &str, path: &str| End::Container {
            name: name.to_owned(),
            path: PathBuf::from(path),
        };
        assert_eq!(end("-"), End::Archive);
        assert_eq!(end("web:/etc/x"), inside("web", "/etc/x"));
        assert_eq!(end("web:etc/x/"), inside("web", "/etc/x/"));
        assert_eq!(end("web:"), inside("web", "/"));
        for path in ["file", "./a:b", "/a:b", "../a:b"] {
            assert_eq!(end(path), End::Host(PathBuf::from(path)));
        }
    }
}
