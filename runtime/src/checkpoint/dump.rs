//! Dumping a running container.

use std::{fs, process::Stdio};

use super::{
    CheckpointOptions, MARK, Record, common_flags, criu, external, failure,
    refuse_what_is_not_restored,
};
use crate::{Container, Error, Result, Status, error::OrFail};

const LOG: &str = "dump.log";

pub(super) fn dump(container: &Container, options: &CheckpointOptions) -> Result<()> {
    let status = container.status()?;
    if status != Status::Running {
        let (id, verb) = (container.id().clone(), "checkpoint".to_owned());
        return Err(Error::WrongStatus { id, verb, status });
    }
    let spec = container.spec()?;
    refuse_what_is_not_restored(&spec)?;
    let pid = container.state()?.pid.ok_or_else(|| Error::NotFound(container.id().clone()))?;
    let path = format!("/proc/{pid}/mountinfo");
    let table = fs::read_to_string(&path).or_fail(|| format!("read {path}"))?;
    let record =
        Record { mounts: external::mounts(&table, &spec)?, stdio: external::stdio(pid, &table)? };
    fs::create_dir_all(&options.images).or_fail(|| format!("make {}", options.images.display()))?;

    #[allow(clippy::disallowed_methods, reason = "criu, found in the system's own directories")]
    let mut command = std::process::Command::new(criu(options)?);
    command.arg("dump").args(common_flags(options, LOG)).arg("--tree").arg(pid.to_string());
    if options.leave_running {
        command.arg("--leave-running");
    }
    if let Some(server) = options.page_server {
        let (address, port) = (server.ip().to_string(), server.port().to_string());
        command.args(["--page-server", "--address", &address, "--port", &port]);
    }
    if !options.leave_running {
        // Before its end, which somebody may be waiting for.
        container.dir.write_new(MARK, &options.images)?;
    }
    for (number, (point, _)) in record.mounts.iter().enumerate() {
        command.arg("--external").arg(format!("mnt[{}]:m{number}", point.display()));
    }
    // Pipes need no mention: criu sees that their other end is elsewhere.
    for name in record.stdio.iter().flatten().filter(|name| name.starts_with("file[")) {
        command.arg("--external").arg(name);
    }
    let dumped = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .or_fail(|| "run criu");
    if !dumped.as_ref().is_ok_and(|status| status.success()) {
        if !options.leave_running {
            container.dir.remove_file(MARK)?;
        }
        dumped?;
        return Err(failure("dump", options, LOG));
    }
    record.write(&options.images)
}
