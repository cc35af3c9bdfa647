//! One parallel pass over unpacked layers: every file is read once, hashed and packed for git, and
//! written to the new root filesystem if it is still there on top.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{Read, Write},
    num::NonZero,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};
use sha2::{Digest, Sha256};
use sys::Root;

use super::{
    error::{Error, Result},
    files::{self, Current},
    inode::{Content, Inode, pointer_text},
    manifest::{Line, What},
    oid::Kind,
    pack::{Encoder, PackWriter, WHOLE},
    scan::{self, LOOK, READ},
    stamp::Stamp,
    view::View,
};

/// A directory of the store, and what was found in it.
pub(crate) struct Part {
    pub(crate) directory: PathBuf,
    pub(crate) lines: Vec<Line>,
}

/// Where files go besides the new root filesystem.
pub(crate) struct Target<'a> {
    /// The new root filesystem, empty so far.
    pub(crate) directory: &'a Path,
    /// The pack that gets every file; `None` for a root filesystem without git.
    pub(crate) pack: Option<&'a PackWriter>,
    /// Files larger than this stay out of the pack.
    pub(crate) large: u64,
}

/// What the pass made: the view on top, and a stamp for each of its inodes.
pub(crate) struct Populated {
    pub(crate) view: View,
    pub(crate) stamps: Vec<Option<Stamp>>,
}

/// Fills `target` with the files of all parts, base first, and completes the parts' lines with what was
/// learnt on the way: contents and attributes of regular files.
pub(crate) fn populate(parts: &mut [Part], target: &Target<'_>) -> Result<Populated> {
    let mut view = View::empty();
    let mut became = Vec::new();
    for part in &*parts {
        became.push(view.apply(&part.lines)?);
    }
    let root = Root::open(target.directory).map_err(Error::io("open", target.directory))?;
    let work = Work { target, root, places: Places::new(&view)? };
    work.make_directories(&view)?;
    let jobs = jobs(parts, &became, target.pack.is_some(), &work.places);
    let done = run(&work, parts, &jobs)?;

    let mut stamps = vec![None; view.inodes.len()];
    for file in done {
        let line = parts.get_mut(file.part).and_then(|part| part.lines.get_mut(file.line));
        let number = became.get(file.part).and_then(|part| part.get(file.line)).copied().flatten();
        if let (Some(Line { what: What::Own(inode), .. }), Some(number)) = (line, number) {
            if let Some(known) = view.inodes.get_mut(number) {
                known.clone_from(&file.inode);
            }
            *inode = file.inode;
            if let Some(stamp) = stamps.get_mut(number) {
                *stamp = file.stamp;
            }
        }
    }
    work.make_the_rest(&view)?;
    work.take_stamps(&view, &mut stamps)?;
    Ok(Populated { view, stamps })
}

/// Hashes and packs the files of all parts, and completes the parts' lines, without making any file.
pub(crate) fn pack(parts: &mut [Part], target: &Target<'_>) -> Result<()> {
    let root = Root::open(target.directory).map_err(Error::io("open", target.directory))?;
    let work = Work { target, root, places: Places(Vec::new()) };
    let became: Vec<_> = parts.iter().map(|part| vec![None; part.lines.len()]).collect();
    let jobs = jobs(parts, &became, true, &work.places);
    for file in run(&work, parts, &jobs)? {
        let line = parts.get_mut(file.part).and_then(|part| part.lines.get_mut(file.line));
        if let Some(Line { what: What::Own(inode), .. }) = line {
            *inode = file.inode;
        }
    }
    Ok(())
}

/// The names each inode of a view has, in order. Empty for what is hidden by upper layers.
struct Places(Vec<Vec<Vec<u8>>>);

impl Places {
    fn new(view: &View) -> Result<Self> {
        let mut places = vec![Vec::new(); view.inodes.len()];
        view.walk(&mut |path, node| {
            // A directory of git's own cannot be in the way of the file that leads to our repository.
            if path == b"/.git" || path.starts_with(b"/.git/") {
                if path == b"/.git" {
                    log::warn!(
                        "the image has a file /.git: it is in the branches, not in the directory"
                    );
                }
                return Ok(());
            }
            if let Some(names) = places.get_mut(node.inode) {
                names.push(path.to_vec());
            }
            Ok(())
        })?;
        Ok(Self(places))
    }

    fn of(&self, inode: usize) -> &[Vec<u8>] {
        self.0.get(inode).map_or(&[], Vec::as_slice)
    }
}

/// The regular files of one directory of a part.
struct Job<'a> {
    part: usize,
    directory: &'a [u8],
    files: Vec<Source<'a>>,
}

struct Source<'a> {
    line: usize,
    name: &'a [u8],
    inode: &'a Inode,
    /// Where it goes, if it is visible.
    place: Option<&'a [u8]>,
}

/// What became of a file.
struct Done {
    part: usize,
    line: usize,
    inode: Inode,
    stamp: Option<Stamp>,
}

fn jobs<'a>(
    parts: &'a [Part],
    became: &[Vec<Option<usize>>],
    all: bool,
    places: &'a Places,
) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for (number, (part, became)) in parts.iter().zip(became).enumerate() {
        let mut by_directory: HashMap<&[u8], Vec<Source<'_>>> = HashMap::new();
        for (line, (text, became)) in part.lines.iter().zip(became).enumerate() {
            let What::Own(inode) = &text.what else { continue };
            let place = became.and_then(|inode| places.of(inode).first()).map(Vec::as_slice);
            if !inode.is_regular() || !(all || place.is_some()) {
                continue;
            }
            let (directory, name) = split(&text.path);
            by_directory.entry(directory).or_default().push(Source { line, name, inode, place });
        }
        jobs.extend(by_directory.into_iter().map(|(directory, files)| Job {
            part: number,
            directory,
            files,
        }));
    }
    // Largest first, so that no thread is left alone with much to do at the end.
    let bytes = |job: &Job<'_>| job.files.iter().map(|file| file.inode.size).max().unwrap_or(0);
    jobs.sort_by_key(|job| std::cmp::Reverse(bytes(job)));
    jobs
}

/// Works the jobs off on a few threads.
fn run(work: &Work<'_>, parts: &[Part], jobs: &[Job<'_>]) -> Result<Vec<Done>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let worker = || -> Result<()> {
        let mut thread = Thread { encoder: Encoder::new(), buffer: Vec::new() };
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(part) = parts.get(job.part) else { continue };
            let result = thread.job(work, part, job);
            if result.is_err() {
                next.store(jobs.len(), Ordering::Relaxed);
            }
            done.lock().unwrap_or_else(PoisonError::into_inner).extend(result?);
        }
        Ok(())
    };
    // More than a few only wait for each other, at the pack and in the kernel.
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(4).min(jobs.len());
    thread::scope(|scope| -> Result<()> {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mut result = worker();
        for helper in helpers {
            // A panic in a thread aborts the program; there is nothing to pass on.
            result = result.and(helper.join().unwrap_or(Ok(())));
        }
        result
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

struct Thread {
    encoder: Encoder,
    buffer: Vec<u8>,
}

impl Thread {
    fn job(&mut self, work: &Work<'_>, part: &Part, job: &Job<'_>) -> Result<Vec<Done>> {
        let source = Root::open(&part.directory)
            .and_then(|root| root.open_plain(relative(job.directory), LOOK | OFlags::DIRECTORY))
            .map_err(Error::io("open", &part.directory.join(relative(job.directory))))?;
        let mut opened: Option<(&[u8], OwnedFd)> = None;
        let mut done = Vec::with_capacity(job.files.len());
        for file in &job.files {
            let target = match file.place.map(split) {
                Some((directory, name)) => {
                    let same = opened.as_ref().is_some_and(|(path, _)| *path == directory);
                    if !same {
                        opened = Some((directory, work.open(directory)?));
                    }
                    opened.as_ref().map(|(_, directory)| (directory, OsStr::from_bytes(name)))
                }
                None => None,
            };
            let path =
                || part.directory.join(relative(job.directory)).join(OsStr::from_bytes(file.name));
            let from =
                rustix::fs::openat(&source, OsStr::from_bytes(file.name), READ, Mode::empty())
                    .map_err(|error| Error::io("open", &path())(error.into()))?;
            let (inode, stamp) = self.file(work, file, &File::from(from), target, &path)?;
            done.push(Done { part: job.part, line: file.line, inode, stamp });
        }
        Ok(done)
    }

    fn file(
        &mut self,
        work: &Work<'_>,
        source: &Source<'_>,
        from: &File,
        target: Option<(&OwnedFd, &OsStr)>,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<(Inode, Option<Stamp>)> {
        let fail = |action| move |error| Error::io(action, &path())(error);
        let mut inode = source.inode.clone();
        inode.xattrs = scan::xattrs(from).map_err(fail("read the attributes of"))?;
        let to = target
            .map(|(directory, name)| files::create(directory, name))
            .transpose()
            .map_err(fail("copy"))?
            .map(File::from);
        self.content(work, &mut inode, from, to.as_ref(), &fail)?;
        let Some(to) = to else { return Ok((inode, None)) };
        files::describe(&to, &inode, &Current::new()).map_err(fail("set the metadata of"))?;
        let stat = rustix::fs::fstat(&to).map_err(|error| fail("examine")(error.into()))?;
        Ok((inode, Some(Stamp::new(&stat))))
    }

    /// Copies the content, and names it for git.
    fn content<F: FnOnce(std::io::Error) -> Error>(
        &mut self,
        work: &Work<'_>,
        inode: &mut Inode,
        mut from: &File,
        to: Option<&File>,
        fail: &impl Fn(&'static str) -> F,
    ) -> Result<()> {
        let sparse = is_sparse(from, inode.size).map_err(fail("examine"))?;
        let mut written = 0;
        let mut copy = |bytes: &[u8]| -> Result<()> {
            if let Some(to) = to {
                write_at(to, bytes, written, sparse).map_err(fail("copy"))?;
            }
            written += u64::try_from(bytes.len()).unwrap_or_default();
            Ok(())
        };
        let pack = work.target.pack.filter(|_| inode.size <= work.target.large);
        inode.content = match (pack, work.target.pack) {
            (Some(pack), _) if inode.size <= WHOLE => {
                self.buffer.clear();
                from.take(WHOLE + 1).read_to_end(&mut self.buffer).map_err(fail("read"))?;
                inode.size = u64::try_from(self.buffer.len()).unwrap_or_default();
                copy(&self.buffer)?;
                Content::Blob(pack.add(&mut self.encoder, Kind::Blob, &self.buffer)?)
            }
            (Some(pack), _) => Content::Blob(pack.add_large(
                &mut self.encoder,
                inode.size,
                &mut from,
                &mut copy,
            )?),
            (None, pack) => {
                let mut hasher = Sha256::new();
                self.buffer.resize(256 << 10, 0);
                loop {
                    let count = from.read(&mut self.buffer).map_err(fail("read"))?;
                    let bytes = self.buffer.get(..count).unwrap_or_default();
                    if bytes.is_empty() {
                        break;
                    }
                    if pack.is_some() {
                        hasher.update(bytes);
                    }
                    copy(bytes)?;
                }
                match pack {
                    Some(pack) => {
                        let sha256 = hasher.finalize().into();
                        let text = pointer_text(&sha256, inode.size);
                        let pointer = pack.add(&mut self.encoder, Kind::Blob, text.as_bytes())?;
                        Content::Large { sha256, pointer }
                    }
                    None => Content::None,
                }
            }
        };
        if let Some(to) = to.filter(|_| sparse) {
            to.set_len(inode.size).map_err(fail("copy"))?;
        }
        Ok(())
    }
}

fn is_sparse(file: &File, size: u64) -> std::io::Result<bool> {
    let stat = rustix::fs::fstat(file)?;
    // st_blocks counts 512 bytes each (stat(2)). Compressing filesystems look sparse, which costs a
    // search for zeros and nothing else.
    Ok(u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512) < size && size > 4096)
}

/// Writes, and leaves holes where a sparse file has only zeros.
fn write_at(mut to: &File, bytes: &[u8], at: u64, sparse: bool) -> std::io::Result<()> {
    if !sparse {
        return to.write_all(bytes);
    }
    const BLOCK: usize = 4096;
    for (number, block) in bytes.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            let offset = u64::try_from(number * BLOCK).unwrap_or_default();
            to.write_all_at(block, at + offset)?;
        }
    }
    Ok(())
}

/// The new root filesystem.
struct Work<'a> {
    target: &'a Target<'a>,
    root: Root,
    places: Places,
}

impl Work<'_> {
    fn fail(&self, action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Error + use<> {
        let path = self.target.directory.join(relative(path));
        move |error| Error::Io { action, path, source: error.into() }
    }

    /// Opens a directory of the new root filesystem.
    fn open(&self, path: &[u8]) -> Result<OwnedFd> {
        let full = self.target.directory.join(relative(path));
        self.root
            .open_plain(relative(path), READ | OFlags::DIRECTORY)
            .map_err(Error::io("open", &full))
    }

    /// All names of all inodes that `choose` picks; the first name of each is told apart.
    fn each(
        &self,
        view: &View,
        choose: impl Fn(&Inode) -> bool,
        mut act: impl FnMut(usize, &Inode, &[u8], Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        for (number, inode) in view.inodes.iter().enumerate() {
            if !choose(inode) {
                continue;
            }
            let names = self.places.of(number);
            for (at, name) in names.iter().enumerate() {
                let first = names.first().filter(|_| at > 0).map(Vec::as_slice);
                act(number, inode, name, first)?;
            }
        }
        Ok(())
    }

    fn make_directories(&self, view: &View) -> Result<()> {
        let mut paths = Vec::new();
        self.each(view, Inode::is_directory, |_, inode, path, _| {
            paths.push((path.to_vec(), inode.clone()));
            Ok(())
        })?;
        paths.sort_by(|a, b| a.0.cmp(&b.0));
        for (path, inode) in paths.iter().filter(|(path, _)| !path.is_empty()) {
            let (directory, name) = split(path);
            files::make(self.open(directory)?, OsStr::from_bytes(name), inode)
                .map_err(Error::io("create", &self.target.directory.join(relative(path))))?;
        }
        Ok(())
    }

    /// What is not a regular file, further names, and last the directories' own metadata. The root
    /// itself is left to the caller, who has more to put into it.
    fn make_the_rest(&self, view: &View) -> Result<()> {
        let other = |inode: &Inode| !inode.is_directory();
        self.each(view, other, |_, inode, path, first| {
            let (directory, name) = split(path);
            match first {
                Some(first) => {
                    let (from, from_name) = split(first);
                    let (from, to) = (self.open(from)?, self.open(directory)?);
                    let (from_name, name) = (OsStr::from_bytes(from_name), OsStr::from_bytes(name));
                    rustix::fs::linkat(&from, from_name, &to, name, AtFlags::empty())
                        .map_err(self.fail("link", path))
                }
                None if inode.is_regular() => Ok(()),
                None => {
                    let made = files::make(self.open(directory)?, OsStr::from_bytes(name), inode)
                        .map_err(Error::io(
                        "create",
                        &self.target.directory.join(relative(path)),
                    ))?;
                    if !made {
                        let path = String::from_utf8_lossy(path).escape_debug().to_string();
                        log::warn!("cannot make the device node {path} without privileges");
                    }
                    Ok(())
                }
            }
        })?;
        let mut directories = Vec::new();
        self.each(view, Inode::is_directory, |_, inode, path, _| {
            directories.push((path.to_vec(), inode.clone()));
            Ok(())
        })?;
        // Deepest first: a directory without the x bit must not shut us out of those below.
        directories.sort_by(|a, b| b.0.cmp(&a.0));
        for (path, inode) in directories.into_iter().filter(|(path, _)| !path.is_empty()) {
            let full = self.target.directory.join(relative(&path));
            files::describe(self.open(&path)?, &inode, &Current::new())
                .map_err(Error::io("set the metadata of", &full))?;
        }
        Ok(())
    }

    /// Regular files with one name have their stamps already.
    fn take_stamps(&self, view: &View, stamps: &mut [Option<Stamp>]) -> Result<()> {
        self.each(
            view,
            |_| true,
            |number, _, path, first| {
                let several = self.places.of(number).len() > 1;
                let Some(stamp) = stamps.get_mut(number) else { return Ok(()) };
                if first.is_some() || (stamp.is_some() && !several) {
                    return Ok(());
                }
                let stat = match path {
                    b"" => rustix::fs::fstat(&self.root),
                    _ => {
                        let (directory, name) = split(path);
                        let directory = self.open(directory)?;
                        rustix::fs::statat(
                            directory,
                            OsStr::from_bytes(name),
                            AtFlags::SYMLINK_NOFOLLOW,
                        )
                    }
                };
                match stat {
                    Ok(stat) => *stamp = Some(Stamp::new(&stat)),
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(self.fail("examine", path)(error)),
                }
                Ok(())
            },
        )
    }
}

/// The directory of a path, and the last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

/// A path of an image as one to resolve beneath a directory.
pub(crate) fn relative(path: &[u8]) -> &Path {
    match path.strip_prefix(b"/").unwrap_or(path) {
        b"" => Path::new("."),
        rest => Path::new(OsStr::from_bytes(rest)),
    }
}
