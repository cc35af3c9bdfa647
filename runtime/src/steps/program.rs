//! Finding the program, and the last steps before becoming it.
//!
//! # Why no copy of ourselves (D-20, CVE-2019-5736)
//!
//! Until exec, `/proc/PID/exe` of this process is our own binary on the host. Somebody inside who opens it
//! could write to it later. That needs three things, and we take each away:
//!
//! * *a process inside that sees us.* The first process of a new pid namespace is alone in it.
//! * *access.* We are not dumpable, so opening our procfs entries needs CAP_SYS_PTRACE over the host. Where
//!   somebody could have that and see us (`onlookers`), we have re-executed ourselves from a read-only
//!   clone of our mount first (`self_exe`), through which nothing can be opened for writing.
//! * *being executed again.* An entrypoint `/proc/self/exe`, or `#!/proc/self/exe`, would run our binary
//!   as the container's own program, dumpable and for as long as it likes. So the target, its chain of
//!   interpreters and its ELF loader are resolved here without magic links, and our own inode is refused.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::errno::Errno;
use rustix::fs::{FileType, Mode, OFlags, fstat};
use sys::Root;

use crate::{Error, Result, child::Child, error::OrFail, spent};

/// What will be executed.
#[derive(Debug)]
pub(crate) struct Program {
    /// As given to execve(2).
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

/// A file beyond mistaking: device and inode number.
pub(crate) type Inode = (u64, u64);

pub(crate) fn inode(file: impl AsFd) -> io::Result<Inode> {
    let found = fstat(file)?;
    Ok((found.st_dev, found.st_ino))
}

/// Our own binary, which nothing inside may execute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnBinary {
    inode: Inode,
    /// Who may write to it.
    owner: u32,
}

impl OwnBinary {
    pub(crate) fn find() -> Result<Self> {
        let found = rustix::fs::stat("/proc/self/exe").or_fail(|| "find our own binary")?;
        Ok(Self { inode: (found.st_dev, found.st_ino), owner: found.st_uid })
    }
}

/// Enters the working directory and makes sure that it lies inside (D-22, CVE-2024-21626).
pub(crate) fn enter_directory(child: &mut Child<'_>) -> Result<()> {
    let wanted = working_directory(child);
    let what = || format!("enter the working directory {}", wanted.display());
    match rustix::process::chdir(wanted) {
        // The user may be able to.
        Err(rustix::io::Errno::ACCESS) => return Ok(()),
        Err(rustix::io::Errno::NOENT) => {
            let root = open_root()?;
            drop(root.make_directories(wanted, Mode::from_raw_mode(0o755)).or_fail(what)?);
            rustix::process::chdir(wanted).or_fail(what)?;
        }
        other => other.or_fail(what)?,
    }
    child.in_working_directory = true;
    verify_directory()
}

/// The same for a directory that only the user may enter.
pub(crate) fn enter_directory_as_user(child: &mut Child<'_>) -> Result<()> {
    if child.in_working_directory {
        return Ok(());
    }
    let wanted = working_directory(child);
    rustix::process::chdir(wanted)
        .or_fail(|| format!("enter the working directory {}", wanted.display()))?;
    verify_directory()
}

fn working_directory<'a>(child: &Child<'a>) -> &'a Path {
    match child.process.cwd.as_path() {
        none if none.as_os_str().is_empty() => Path::new("/"),
        wanted => wanted,
    }
}

/// getcwd(2) marks a directory outside our root as unreachable, and glibc's would hide that.
fn verify_directory() -> Result<()> {
    let inside = rustix::process::getcwd(Vec::new())
        .is_ok_and(|path| path.to_bytes().first() == Some(&b'/'));
    if inside { Ok(()) } else { Err(Error::Unsafe("the working directory is outside".into())) }
}

/// Our own `/` as a directory handle.
fn open_root() -> Result<Root> {
    Root::open(Path::new("/")).or_fail(|| "open /")
}

/// Closes every descriptor but the standard ones, those the caller preserves, and the ways to our parent
/// and the gate, which exec closes (D-21).
///
/// Marking them close-on-exec would not do: until exec `/proc/self/fd/N` is a path like any other, and a
/// container that swaps its program for a link to one would have the host's file executed.
pub(crate) fn close_descriptors(child: &mut Child<'_>) -> Result<()> {
    let first = i32::try_from(child.prepared.preserve_fds).ok().and_then(|n| n.checked_add(3));
    let first = first.ok_or_else(|| Error::Unsupported("too many preserved descriptors".into()))?;
    let mut keep: Vec<i32> = (3..first).collect();
    keep.push(child.channel.as_fd().as_raw_fd());
    keep.extend(child.prepared.gate.as_ref().map(AsRawFd::as_raw_fd));
    sys::disown_above(&keep).or_fail(|| "close_range")?;
    // These numbers mean nothing any more.
    std::mem::forget((
        child.root.replace(open_root()?),
        std::mem::take(&mut child.fresh),
        std::mem::take(&mut child.kernel_filesystems),
    ));
    Ok(())
}

/// Finds the program as its user will, and says exactly what is missing if anything is.
pub(crate) fn find(child: &mut Child<'_>) -> Result<()> {
    let process = child.process;
    let mut env: Vec<CString> =
        environment(&process.env).into_iter().map(text).collect::<Result<_>>()?;
    if needs_home(&process.env) {
        let home = child.identity()?.home.as_deref().unwrap_or("/");
        env.push(text(&format!("HOME={home}"))?);
    }
    let args: Vec<CString> = process.args.iter().map(|arg| text(arg)).collect::<Result<_>>()?;
    let name =
        process.args.first().ok_or_else(|| Error::Unsupported("the program has no name".into()))?;
    // The directory that is `/` by now.
    let search = Search { root: child.root()?, own: child.prepared.own_binary };
    let path = search.program(name, path_variable(&process.env))?;
    child.program = Some(Program { path: bytes(path.as_os_str())?, args, env });
    Ok(())
}

/// Every variable once, as last set: programs disagree about which of two is meant.
fn environment(env: &[String]) -> Vec<&str> {
    let name = |entry: &'_ str| entry.split_once('=').map_or(entry.len(), |(name, _)| name.len());
    let mut seen = BTreeSet::new();
    let mut kept: Vec<&str> = (env.iter().rev().map(String::as_str))
        .filter(|entry| seen.insert(entry.get(..name(entry))))
        .filter(|entry| *entry != NO_HOME)
        .collect();
    kept.reverse();
    kept
}

/// What Go programs write for a home they do not know.
const NO_HOME: &str = "HOME=";

/// Whether the program's home is for the container's own files to say.
pub(crate) fn needs_home(env: &[String]) -> bool {
    env.iter().rev().find(|entry| entry.starts_with(NO_HOME)).is_none_or(|entry| entry == NO_HOME)
}

fn path_variable(env: &[String]) -> &str {
    env.iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

fn text(value: &str) -> Result<CString> {
    bytes(OsStr::new(value))
}

fn bytes(value: &OsStr) -> Result<CString> {
    CString::new(value.as_bytes())
        .map_err(|_| Error::Unsupported(format!("{} holds a NUL byte", value.display())))
}

struct Search<'r> {
    root: &'r Root,
    own: OwnBinary,
}

impl Search<'_> {
    /// What execvp(3) would find, checked.
    fn program(&self, name: &str, path_variable: &str) -> Result<PathBuf> {
        if name.is_empty() {
            return Err(missing(name, "an empty name is no program"));
        }
        if name.contains('/') {
            let path = PathBuf::from(name);
            self.check(name, &path)?;
            return Ok(path);
        }
        let mut refused = None;
        for directory in path_variable.split(':') {
            let directory = if directory.is_empty() { "." } else { directory };
            let path = Path::new(directory).join(name);
            match self.check(name, &path) {
                Ok(()) => return Ok(path),
                Err(error @ Error::CannotExecute { .. }) => refused = refused.or(Some(error)),
                // There, but what it needs is not: looking further would hide the reason.
                Err(error @ Error::ProgramNotFound { .. }) if self.exists(&path) => {
                    return Err(error);
                }
                Err(Error::ProgramNotFound { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Err(refused.unwrap_or_else(|| missing(name, "executable file not found in $PATH")))
    }

    fn exists(&self, path: &Path) -> bool {
        self.open(path).is_ok()
    }

    /// Relative names start at the working directory, which is inside and may be out of our sight by name.
    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.is_absolute() {
            return self.root.open_at(path, OFlags::PATH, Mode::empty());
        }
        let how = rustix::fs::ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), how) {
            // Without the call, by the directory's name from the root, where no link is magic either.
            Err(rustix::io::Errno::NOSYS) => {
                let here = rustix::process::getcwd(Vec::new())?.into_bytes();
                let path = Path::new(OsStr::from_bytes(&here)).join(path);
                self.root.open_at(&path, OFlags::PATH, Mode::empty())
            }
            other => Ok(other?),
        }
    }

    /// Whether execve(2) would accept the file, its interpreters and its loader.
    fn check(&self, name: &str, path: &Path) -> Result<()> {
        let mut path = path.to_owned();
        // The kernel follows as many interpreters, fs/exec.c.
        for depth in 0..6 {
            let found = self.open_executable(name, &path, depth > 0)?;
            match self.interpreter(name, found, &path)? {
                Some(Needs::Interpreter(next)) => path = next,
                Some(Needs::Loader(loader)) => {
                    return self.open_executable_as(name, &loader, "ELF loader").map(drop);
                }
                None => return Ok(()),
            }
        }
        Err(cannot(name, "too many interpreters"))
    }

    /// What the kernel will open besides the file itself.
    ///
    /// The kernel reads also what its caller may not. That is left to it, unless the interpreter it finds
    /// could be our own binary and its user could write to that.
    fn interpreter(&self, name: &str, checked: Inode, path: &Path) -> Result<Option<Needs>> {
        // What was checked was not opened for reading, which can have effects; the same again, and compared.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let readable = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(readable) => readable,
            Err(rustix::io::Errno::ACCESS)
                if rustix::process::geteuid().as_raw() != self.own.owner =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(cannot(name, &format!("cannot see what it would start: {error}")));
            }
        };
        if inode(&readable).or_fail(|| format!("stat {}", path.display()))? != checked {
            return Err(Error::Unsafe(format!("{} was replaced meanwhile", path.display())));
        }
        let needs = needs(&readable);
        spent::leave(readable);
        Ok(needs)
    }

    fn open_executable(&self, name: &str, path: &Path, is_interpreter: bool) -> Result<Inode> {
        let role = if is_interpreter { "interpreter" } else { "" };
        self.open_executable_as(name, path, role)
    }

    fn open_executable_as(&self, name: &str, path: &Path, role: &str) -> Result<Inode> {
        let what =
            if role.is_empty() { String::new() } else { format!("its {role} {} ", path.display()) };
        let file = match self.open(path) {
            Ok(file) => file,
            Err(error) => return Err(open_failure(name, &what, &error)),
        };
        let found = fstat(&file).or_fail(|| format!("stat {}", path.display()))?;
        let inode = (found.st_dev, found.st_ino);
        if inode == self.own.inode {
            return Err(Error::Unsafe(format!("{name}: {what}is the container runtime itself")));
        }
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(cannot(name, &format!("{what}is a directory"))),
            _ => return Err(cannot(name, &format!("{what}is no regular file"))),
        }
        // As the user in effect with the capabilities left, which is who will execute it.
        sys::may_execute(file.as_fd()).map_err(|errno| match errno {
            Errno::EACCES => cannot(name, &format!("{what}is not executable: permission denied")),
            other => Error::call(format!("access {}", path.display()), other),
        })?;
        spent::leave(file);
        Ok(inode)
    }
}

/// The words are part of the interface: engines choose between exit statuses 126 and 127 by finding "no
/// such file or directory", "executable file not found" or "permission denied" in what a runtime says.
fn open_failure(name: &str, what: &str, error: &io::Error) -> Error {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) if what.is_empty() => missing(name, "no such file or directory"),
        Some(Errno::ENOENT) => missing(
            name,
            &format!("the file is there, but {what}is missing: no such file or directory"),
        ),
        Some(Errno::ENOTDIR) => {
            missing(name, &format!("{what}a part of the path is not a directory"))
        }
        Some(Errno::ELOOP) => cannot(
            name,
            &format!("{what}leads through a loop of links, or through a link of procfs"),
        ),
        Some(Errno::EACCES) => cannot(name, &format!("{what}permission denied")),
        Some(errno) => cannot(name, &format!("{what}{errno}")),
        None => cannot(name, &error.to_string()),
    }
}

fn missing(name: &str, reason: &str) -> Error {
    Error::ProgramNotFound { program: name.into(), reason: reason.into() }
}

fn cannot(name: &str, reason: &str) -> Error {
    Error::CannotExecute { program: name.into(), reason: reason.into() }
}

enum Needs {
    Interpreter(PathBuf),
    Loader(PathBuf),
}

fn needs(file: &OwnedFd) -> Option<Needs> {
    let mut start = [0; 256];
    let length = rustix::io::pread(file, &mut start, 0).ok()?;
    let start = start.get(..length)?;
    match start.strip_prefix(b"#!") {
        Some(line) => script_interpreter(line).map(Needs::Interpreter),
        None => elf_loader(file, start).map(Needs::Loader),
    }
}

fn script_interpreter(line: &[u8]) -> Option<PathBuf> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\0');
    let name = line.split(is_space).find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

/// PT_INTERP of an ELF file with 64-bit headers of our byte order, elf(5). Others cannot be loaded with a
/// loader that is a 64-bit program, as our own binary is. The kernel does not look at the byte that says
/// which class a file is (fs/binfmt_elf.c), so neither do we.
fn elf_loader(file: &OwnedFd, header: &[u8]) -> Option<PathBuf> {
    const PT_INTERP: u32 = 3;
    /// The kernel's own limit.
    const MAX_TABLE: usize = 65536;
    if header.get(..4)? != b"\x7fELF" {
        return None;
    }
    let offset = u64::from_ne_bytes(header.get(32..40)?.try_into().ok()?);
    let size = u16::from_ne_bytes(header.get(54..56)?.try_into().ok()?);
    let count = u16::from_ne_bytes(header.get(56..58)?.try_into().ok()?);
    let length = usize::from(size) * usize::from(count);
    if size != 56 || length > MAX_TABLE {
        return None;
    }
    let mut table = vec![0; length];
    let length = rustix::io::pread(file, &mut table, offset).ok()?;
    let entry = table.get(..length)?.chunks_exact(usize::from(size)).find(|entry| {
        entry.first_chunk().is_some_and(|kind| u32::from_ne_bytes(*kind) == PT_INTERP)
    })?;
    let at = u64::from_ne_bytes(entry.get(8..16)?.try_into().ok()?);
    let mut name = [0; 4096];
    let length = u64::from_ne_bytes(entry.get(32..40)?.try_into().ok()?);
    let name = name.get_mut(..usize::try_from(length).ok()?)?;
    let length = rustix::io::pread(file, &mut *name, at).ok()?;
    let name = name.get(..length)?.split(|byte| *byte == 0).next()?;
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

/// Becomes the program. Returns only on failure.
pub(crate) fn execute(child: &Child<'_>) -> Result<Infallible> {
    let program = child
        .program
        .as_ref()
        .ok_or_else(|| Error::Unsafe("the program was not looked up".into()))?;
    sys::exec_path(&program.path, &program.args, &program.env).map_err(|errno| {
        let name = child.process.args.first().map_or("", String::as_str);
        match errno {
            Errno::ENOEXEC => cannot(name, "not in a format this machine executes"),
            Errno::ENOENT => {
                missing(name, "the file is there, but its interpreter or loader is not")
            }
            errno => cannot(name, &errno.to_string()),
        }
    })
}

/// What can be known to fail before anything is made.
pub(crate) fn check(process: &configs::Process) -> Result<()> {
    if process.args.is_empty() {
        return Err(Error::Unsupported("the program has no name".into()));
    }
    if !process.cwd.as_os_str().is_empty() && !process.cwd.is_absolute() {
        return Err(Error::Unsupported(format!(
            "the working directory {} is not absolute",
            process.cwd.display()
        )));
    }
    Ok(())
}
