//! A registry of 2013 that is nothing but files: a mount point, or a directory on another machine.

use std::{
    io::{self, Read},
    process::{Child, Command, Stdio},
};

use super::{Each, Origin};
use crate::{Error, Reference, Result, client::backoff::Backoff, local::tree, source::Place};

pub(super) struct Files<'a> {
    place: &'a Place,
    repository: String,
    what: String,
}

impl<'a> Files<'a> {
    pub(super) fn new(place: &'a Place, name: &Reference) -> Self {
        Self { place, repository: name.repository().to_owned(), what: name.familiar() }
    }
}

impl Origin for Files<'_> {
    fn repository(&self) -> &str {
        &self.repository
    }

    fn what(&self) -> &str {
        &self.what
    }

    fn read(&self, path: &str, each: Each<'_>) -> Result<Option<String>> {
        let path = path.trim_start_matches('/');
        match self.place {
            Place::Directory(directory) => {
                let path = directory.join(path);
                let (mut file, _) = tree::open(&path)?;
                let failed = |source| Error::File { doing: "read", path, source };
                pass_on(&mut file, failed, each)?;
            }
            Place::Ssh { host, directory } => {
                let path = format!("{}/{path}", directory.trim_end_matches('/'));
                let failed = |source| Error::File {
                    doing: "read by ssh",
                    path: format!("{host}:{path}").into(),
                    source,
                };
                let mut remote = Remote::read(host, &path).map_err(failed)?;
                if let Some(output) = &mut remote.0.stdout {
                    pass_on(output, failed, each)?;
                }
                remote.finish().map_err(failed)?;
            }
        }
        Ok(None)
    }

    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

fn pass_on(
    from: &mut dyn Read,
    failed: impl FnOnce(io::Error) -> Error,
    each: Each<'_>,
) -> Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => each(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// `cat` on another machine; ended when it is dropped.
struct Remote(Child);

impl Remote {
    fn read(host: &str, path: &str) -> io::Result<Self> {
        // The other side's shell reads it.
        let quoted = path.replace('\'', "'\\''");
        #[allow(clippy::disallowed_methods, reason = "ssh, which the user named as the way")]
        let mut command = Command::new("ssh");
        command.args(["-T", "--", host]).arg(format!("cat -- '{quoted}'"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map(Self)
    }

    /// The end of what came is only the end of the file if `cat` says so.
    fn finish(mut self) -> io::Result<()> {
        let status = self.0.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("ssh: {status}")))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
