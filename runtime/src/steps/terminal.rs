//! The container's session and its terminal (D-27, D-34).

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use configs::Size;
use rustix::{
    fs::{Mode, OFlags, fstatfs},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{OptionalActions, OutputModes, Winsize, isatty, tcgetattr, tcsetattr, tcsetwinsize},
};
use sys::Root;

use crate::{
    Error, Result,
    channel::FromChild,
    child::Child,
    error::OrFail,
    steps::mounts::{attach, clone_of},
};

/// A session of its own, so that nothing can be pushed into the caller's terminal (CVE-2017-5226).
pub(crate) fn lead_session(_: &mut Child<'_>) -> Result<()> {
    rustix::process::setsid().map(drop).or_fail(|| "setsid")
}

/// Makes the terminal from the container's own devpts, and sends its master to the parent.
pub(crate) fn open(child: &mut Child<'_>) -> Result<()> {
    if !child.process.terminal {
        return Ok(());
    }
    let master = open_master(child.root()?)?;
    unlockpt(&master).or_fail(|| "unlock the terminal")?;
    // From the master, never by name: a name in a container's /dev can be anything.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).or_fail(|| "open the terminal's other end")?;
    if let Some(Size { rows, columns }) = child.process.console_size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).or_fail(|| "set the terminal's size")?;
    }
    if child.prepared.relayed && !isatty(rustix::stdio::stdout()) {
        keep_line_ends(&slave)?;
    }
    child.channel.send_with(&FromChild::Terminal, &[master.as_fd()])?;
    child.terminal = Some(slave);
    Ok(())
}

/// A file or a pipe gets lines as they were written, without the carriage returns a screen needs.
fn keep_line_ends(terminal: &OwnedFd) -> Result<()> {
    let mut modes = tcgetattr(terminal).or_fail(|| "tcgetattr")?;
    modes.output_modes.remove(OutputModes::ONLCR);
    tcsetattr(terminal, OptionalActions::Now, &modes).or_fail(|| "tcsetattr")
}

/// The container's multiplexer if it has a devpts, else the host's.
///
/// Nothing is opened before it is known to be a devpts: opening alone can have effects (D-27).
fn open_master(root: &Root) -> Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let directory = match root.open_at(Path::new("/dev/pts"), OFlags::PATH, Mode::empty()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return openpt(flags).or_fail(|| "open a terminal");
        }
        other => other.or_fail(|| "open /dev/pts")?,
    };
    if fstatfs(&directory).or_fail(|| "fstatfs")?.f_type != DEVPTS_SUPER_MAGIC {
        return openpt(flags).or_fail(|| "open a terminal");
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&directory, "ptmx", flags, Mode::empty()).or_fail(|| "open /dev/pts/ptmx")
}

const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// Shows the terminal as `/dev/console`.
pub(crate) fn mount_console(child: &mut Child<'_>) -> Result<()> {
    let Some(terminal) = &child.terminal else { return Ok(()) };
    let root = child.root()?;
    let Ok(dev) = root.open_plain(Path::new("/dev"), OFlags::PATH | OFlags::DIRECTORY) else {
        return Ok(());
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&dev, "console", flags, Mode::from_raw_mode(0o620)) {
        Ok(_) | Err(rustix::io::Errno::EXIST) => {}
        // A read-only /dev of the image's: the terminal works without the name.
        Err(rustix::io::Errno::ROFS) => return Ok(()),
        Err(error) => return Err(Error::call("create /dev/console", error)),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(&dev, "console", flags, Mode::empty())
        .or_fail(|| "open /dev/console")?;
    attach(&clone_of(terminal)?, &target)
}

/// Makes the terminal, or the descriptors given, the standard ones.
pub(crate) fn take_stdio(child: &mut Child<'_>) -> Result<()> {
    if let Some(terminal) = &child.terminal {
        rustix::process::ioctl_tiocsctty(terminal).or_fail(|| "take the controlling terminal")?;
        // Only a terminal made by us is ever given away (D-23).
        let uid = rustix::fs::Uid::from_raw(child.identity()?.uid);
        rustix::fs::fchown(terminal, Some(uid), None).or_fail(|| "give away the terminal")?;
        for number in 0..=2 {
            sys::replace_standard(terminal.as_raw_fd(), number).or_fail(|| "dup2")?;
        }
        child.terminal = None;
        return Ok(());
    }
    let Some(fds) = &child.prepared.stdio else { return Ok(()) };
    for (fd, number) in fds.iter().zip(0..) {
        sys::replace_standard(fd.as_raw_fd(), number).or_fail(|| "dup2")?;
    }
    Ok(())
}
