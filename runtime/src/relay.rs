//! Between the user's terminal and the container's.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    termios::{
        OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr,
        tcsetwinsize,
    },
};

use crate::{
    Result,
    error::OrFail,
    foreground::{Keyboard, stop_ourselves},
    guard::Guard,
};

/// Carries bytes both ways, and gives the user's terminal back as it was.
pub(crate) struct Relay {
    master: OwnedFd,
    /// The container's side can still say something.
    output: bool,
    /// The user's side can still say something.
    input: bool,
    /// Typed, but not yet taken by the container.
    pending: Vec<u8>,
    raw: Option<Raw>,
}

/// More than this is not read ahead of a container that does not read.
const MAX_PENDING: usize = 4096;

impl Relay {
    /// Makes the user's terminal transparent, if standard input is one and the container is to hear it.
    pub(crate) fn begin(master: OwnedFd, keyboard: Keyboard) -> Result<Self> {
        let flags = fcntl_getfl(&master).or_fail(|| "fcntl")?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).or_fail(|| "fcntl")?;
        let input = keyboard == Keyboard::Attached;
        let raw = (input && isatty(std::io::stdin())).then(Raw::enter).transpose()?;
        let relay = Self { master, output: true, input, pending: Vec::new(), raw };
        relay.resize();
        Ok(relay)
    }

    /// What to wait for.
    pub(crate) fn interests(&self) -> impl Iterator<Item = PollFd<'_>> {
        let master = self.output.then(|| {
            let mut wanted = PollFlags::IN;
            wanted.set(PollFlags::OUT, !self.pending.is_empty());
            PollFd::new(&self.master, wanted)
        });
        let listens = self.input && self.pending.len() < MAX_PENDING;
        let input = listens.then(|| PollFd::from_borrowed_fd(stdin(), PollFlags::IN));
        master.into_iter().chain(input)
    }

    /// Carries what is there. Asking what is not costs less than remembering which was which.
    pub(crate) fn pass_on(&mut self) -> Result<()> {
        if self.output {
            self.carry_output()?;
        }
        if self.input && self.pending.len() < MAX_PENDING && has_input() {
            self.carry_input()?;
        }
        self.push()
    }

    fn carry_output(&mut self) -> Result<()> {
        let mut buffer = [0; 8192];
        match rustix::io::read(&self.master, &mut buffer) {
            // Nobody has the other end any more; Linux says so with EIO.
            Ok(0) | Err(rustix::io::Errno::IO) => self.output = false,
            Ok(length) => write_all(stdout(), buffer.get(..length).unwrap_or_default())?,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(crate::Error::call("read the container's terminal", error)),
        }
        Ok(())
    }

    fn carry_input(&mut self) -> Result<()> {
        let mut buffer = [0; MAX_PENDING];
        match rustix::io::read(stdin(), &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::IO | rustix::io::Errno::BADF) => {
                self.input = false;
                // What a user at a terminal would type to end the input.
                self.pending.push(self.end_of_file());
            }
            Ok(length) => self.pending.extend(buffer.get(..length).unwrap_or_default()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(crate::Error::call("read standard input", error)),
        }
        Ok(())
    }

    fn end_of_file(&self) -> u8 {
        tcgetattr(&self.master).map_or(4, |now| now.special_codes[SpecialCodeIndex::VEOF])
    }

    fn push(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match rustix::io::write(&self.master, &self.pending) {
            Ok(length) => drop(self.pending.drain(..length)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::IO) => self.pending.clear(),
            Err(error) => return Err(crate::Error::call("write the container's terminal", error)),
        }
        Ok(())
    }

    /// Prints what is left after the program's end.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let mut buffer = [0; 8192];
        loop {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(length) if length > 0 => {
                    write_all(stdout(), buffer.get(..length).unwrap_or_default())?;
                }
                Err(rustix::io::Errno::INTR) => {}
                _ => return Ok(()),
            }
        }
    }

    /// Gives the container's terminal the size of the user's.
    pub(crate) fn resize(&self) {
        copy_size(&self.master);
    }

    /// Gives the terminal back for as long as we are stopped.
    pub(crate) fn stop_with_us(&mut self) -> Result<()> {
        if let Some(raw) = &self.raw {
            raw.leave();
        }
        stop_ourselves()?;
        self.take_terminal_again()
    }

    /// After a stop, somebody else may have used the terminal.
    pub(crate) fn take_terminal_again(&mut self) -> Result<()> {
        if let Some(raw) = &self.raw {
            raw.set()?;
        }
        self.resize();
        Ok(())
    }
}

/// Gives a terminal the size of ours, if we have one.
pub(crate) fn copy_size(master: &OwnedFd) {
    let ours = [stdin(), stdout(), stderr()].into_iter().find_map(|fd| tcgetwinsize(fd).ok());
    if let Some(size) = ours
        && let Err(error) = tcsetwinsize(master, size)
    {
        log::debug!("cannot set the terminal's size: {error}");
    }
}

/// The user's terminal made transparent: every key goes to the container. Undone when dropped, and by
/// the guard if we are killed.
struct Raw {
    before: Termios,
    guard: Option<Guard>,
}

impl Raw {
    fn enter() -> Result<Self> {
        let before = tcgetattr(stdin()).or_fail(|| "tcgetattr")?;
        let guard = Guard::post(&before)?;
        let raw = Self { before, guard };
        raw.set()?;
        Ok(raw)
    }

    fn set(&self) -> Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &raw).or_fail(|| "tcsetattr")
    }

    fn leave(&self) {
        if let Err(error) = tcsetattr(stdin(), OptionalActions::Drain, &self.before) {
            log::warn!("cannot restore the terminal: {error}");
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.leave();
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }
}

fn has_input() -> bool {
    let mut fds = [PollFd::from_borrowed_fd(stdin(), PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // Somebody has made our standard output non-blocking: wait for it.
            Err(rustix::io::Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
                rustix::event::poll(&mut fds, None).or_fail(|| "poll")?;
            }
            // Nobody reads what the container says; it may still have something to do.
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::IO) => return Ok(()),
            Err(error) => return Err(crate::Error::call("write standard output", error)),
        }
    }
    Ok(())
}

fn stdin() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

fn stdout() -> BorrowedFd<'static> {
    rustix::stdio::stdout()
}

fn stderr() -> BorrowedFd<'static> {
    rustix::stdio::stderr()
}
