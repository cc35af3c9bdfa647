//! A disk whose power can fail: ext4 on a loop device, on a file served over FUSE that writes down every
//! write and every flush in the order they came.
//!
//! What a disk promises is only this: writes that a flush waited for survive. So after a cut, everything
//! before the last flush is there, and of the writes since then any selection, page by page. dm-log-writes
//! does the same where the kernel has it.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, WriteFlags,
};

/// What survives or is lost as a whole.
const PAGE: usize = 4096;

/// The only file of the FUSE filesystem.
const FILE: INodeNo = INodeNo(2);

/// What the disk does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failing {
    /// Nothing.
    #[default]
    Not,
    /// After so many more writes, every write fails with EIO.
    Writes(usize),
    /// After so many more writes, one fails with EIO, and then all is well again.
    OneWrite(usize),
    /// Every read fails with EIO.
    Reads,
}

enum Event {
    Write { offset: usize, bytes: Vec<u8> },
    Flush,
}

/// What the disk holds, and how it came about.
struct State {
    /// As it was before the first event.
    original: Vec<u8>,
    content: Vec<u8>,
    events: Vec<Event>,
    failing: Failing,
}

impl State {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        match &mut self.failing {
            Failing::Writes(0) => return Err(Errno::EIO),
            Failing::OneWrite(0) => {
                self.failing = Failing::Not;
                return Err(Errno::EIO);
            }
            Failing::Writes(left) | Failing::OneWrite(left) => *left -= 1,
            Failing::Not | Failing::Reads => {}
        }
        let place = self.content.get_mut(offset..offset + bytes.len()).ok_or(Errno::ENOSPC)?;
        place.copy_from_slice(bytes);
        self.events.push(Event::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }
}

/// The FUSE filesystem: a directory with one file.
struct Backing(Arc<Mutex<State>>);

impl Backing {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let is_file = inode == FILE;
        FileAttr {
            ino: inode,
            size: if is_file { lock(&self.0).content.len() as u64 } else { 0 },
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Backing {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "disk" {
            reply.entry(&Duration::MAX, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::MAX, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // No cache in between: what the filesystem above reads is what the disk has.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = lock(&self.0);
        if state.failing == Failing::Reads {
            return reply.error(Errno::EIO);
        }
        let end = state.content.len();
        let start = (offset as usize).min(end);
        reply.data(&state.content[start..(start + size as usize).min(end)]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match lock(&self.0).write(offset as usize, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        lock(&self.0).events.push(Event::Flush);
        reply.ok();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mounted ext4 on such a disk.
pub struct Disk {
    state: Arc<Mutex<State>>,
    /// Unmounted before what is below it goes.
    mounted: Option<Mounted>,
    session: Option<BackgroundSession>,
    below: PathBuf,
}

impl Disk {
    /// A new, empty filesystem, mounted below `directory`.
    pub fn new(directory: &Path, size: usize) -> io::Result<Self> {
        let (image, below) = (directory.join("image"), directory.join("below"));
        fs::create_dir_all(&below)?;
        fs::File::create(&image)?.set_len(size as u64)?;
        // Errors are told and survived, as on a server; the journal is small, so that it comes round.
        let options = ["-q", "-F", "-b", "4096", "-e", "remount-ro", "-J", "size=4"];
        system(Command::new("mkfs.ext4").args(options).arg(&image))?;
        let content = fs::read(&image)?;
        fs::remove_file(image)?;
        let original = content.clone();
        let state = State { original, content, events: Vec::new(), failing: Failing::Not };
        let state = Arc::new(Mutex::new(state));
        let session = fuser::spawn_mount(Backing(state.clone()), &below, &Config::default())?;
        let mut disk = Self { state, mounted: None, session: Some(session), below };
        disk.mounted = Some(Mounted::new(&disk.below.join("disk"), directory.join("mounted"))?);
        Ok(disk)
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        &self.mounted.as_ref().expect("mounted until dropped").path
    }

    /// How much has happened so far: a moment that a cut can be placed at.
    pub fn now(&self) -> usize {
        lock(&self.state).events.len()
    }

    /// Lets the disk fail from now on.
    pub fn fail(&self, failing: Failing) {
        lock(&self.state).failing = failing;
    }

    /// What the disk holds when its power fails at that moment. `survives` decides about each page
    /// written since the last flush.
    pub fn cut(&self, moment: usize, mut survives: impl FnMut() -> bool) -> Vec<u8> {
        let state = lock(&self.state);
        let events = &state.events[..moment];
        let flushed = events.iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
        let mut content = state.original.clone();
        for (number, event) in events.iter().enumerate() {
            let Event::Write { offset, bytes } = event else { continue };
            for (page, bytes) in bytes.chunks(PAGE).enumerate() {
                if number < flushed || survives() {
                    let start = offset + page * PAGE;
                    content[start..start + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        content
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A filesystem that cannot write its journal cannot be unmounted in peace.
        self.fail(Failing::Not);
        self.mounted = None;
        self.session = None;
    }
}

/// An image file, mounted until dropped.
pub struct Mounted {
    path: PathBuf,
}

impl Mounted {
    /// Mounts the filesystem in a file; its journal is replayed.
    pub fn new(image: &Path, path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        system(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(&path))?;
        Ok(Self { path })
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A file that was just closed may keep it busy for a moment.
        for _ in 0..50 {
            if system(Command::new("umount").arg(&self.path)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = system(Command::new("umount").arg("-l").arg(&self.path));
    }
}

fn system(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))))
}
