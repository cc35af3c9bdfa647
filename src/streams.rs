//! Which of our standard streams a program in the foreground gets.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsFd, OwnedFd},
};

use anyhow::Context;
use clap::ValueEnum;
use runtime::{Stdio, foreground::Keyboard};
use serde::{Deserialize, Serialize};

/// `-a STREAM`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[value(rename_all = "lower")]
pub(crate) enum Stream {
    /// Standard input
    Stdin,
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

/// `-i`, `-t` and `-a`, with docker's meaning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    /// `-i`
    pub(crate) interactive: bool,
    /// `-t`
    pub(crate) terminal: bool,
    /// `-a`; without any, all of them.
    pub(crate) attach: Vec<Stream>,
}

impl Streams {
    /// What becomes of the user's keyboard when the program has a terminal.
    pub(crate) fn keyboard(&self) -> Keyboard {
        if self.has_input() { Keyboard::Attached } else { Keyboard::Ignored }
    }

    /// The program's standard descriptors.
    pub(crate) fn stdio(&self) -> anyhow::Result<Stdio> {
        let has_all = self.has_input() && self.attach.is_empty();
        if self.terminal || has_all {
            return Ok(Stdio::Inherit);
        }
        let open = || -> io::Result<Stdio> {
            Ok(Stdio::Fds([
                if self.has_input() { copy(io::stdin())? } else { File::open("/dev/null")?.into() },
                if self.has(Stream::Stdout) { copy(io::stdout())? } else { sink()? },
                if self.has(Stream::Stderr) { copy(io::stderr())? } else { sink()? },
            ]))
        };
        open().context("cannot pass the standard streams on")
    }

    fn has(&self, stream: Stream) -> bool {
        self.attach.is_empty() || self.attach.contains(&stream)
    }

    /// Without `-i` the program's input is empty.
    fn has_input(&self) -> bool {
        self.interactive && self.has(Stream::Stdin)
    }
}

fn copy(stream: impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

fn sink() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().write(true).open("/dev/null")?.into())
}
