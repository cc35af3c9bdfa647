//! `cp`: files between a container and the host.

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::Args;

use crate::{
    cli::{Globals, Verb},
    copying::{self, End, Options},
    output,
    progress::bytes,
    report::advise,
};

/// Copy files between a container and the host
///
/// CONTAINER:PATH is a path in a container, running or not; of one that has ended, only its own files are
/// seen, not its volumes. A path without a container is on the host. `-` reads a tar archive from
/// standard input, or writes one to standard output.
///
/// A directory is copied into a directory that is there, or becomes the one that is not; a source that
/// ends in `/.` gives only what is in it. A destination that ends in a slash must be a directory. Links
/// at the destination are followed, inside the container; a link that is the source is copied as a link.
///
/// What arrives belongs to root in a container, and to the caller on the host, where setuid bits, devices
/// and attributes with privileges do not arrive. -a keeps all of it.
#[derive(Args, Debug)]
pub(super) struct Cp {
    /// Keep owners, and everything else the files have
    #[arg(short, long)]
    archive: bool,

    /// Copy what a link at the source leads to
    #[arg(short = 'L', long)]
    follow_link: bool,

    /// Say nothing when it went well
    #[arg(short, long)]
    quiet: bool,

    /// What to copy: CONTAINER:PATH, a path of the host, or -
    source: OsString,

    /// Where to: CONTAINER:PATH, a path of the host, or -
    destination: OsString,
}

impl Verb for Cp {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let (from, to) = (End::from(self.source), End::from(self.destination));
        if to == End::Archive && io::stdout().is_terminal() {
            return Err(advise("an archive cannot go to a terminal", "redirect the output"));
        }
        let options = Options { archive: self.archive, follow: self.follow_link };
        let written = copying::copy(&globals.home, &from, &to, options)?;
        if let Some(written) = written
            && !self.quiet
        {
            output::note(format_args!("Successfully copied {} to {to}", bytes(written)));
        }
        Ok(ExitCode::SUCCESS)
    }
}
