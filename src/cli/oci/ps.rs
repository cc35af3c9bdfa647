//! `ps`: the container's processes, as the host's ps(1) shows them.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::{Context, bail};
use clap::Args;
use runtime::ContainerId;

use super::{list::Format, load};
use crate::{
    cli::{Globals, Verb},
    output,
};

#[derive(Args, Debug)]
pub(super) struct Ps {
    /// How to print them; json is their numbers only
    #[arg(long, short, default_value = "table")]
    format: Format,

    /// Container
    #[arg(value_name = "ID")]
    id: ContainerId,

    /// Options for ps(1), whose output must have a column PID
    #[arg(
        value_name = "OPTION",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        default_value = "-ef"
    )]
    options: Vec<OsString>,
}

impl Verb for Ps {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let pids = load(globals, &self.id)?.processes()?;
        match self.format {
            Format::Json => output::line(serde_json::to_string(&pids)?)?,
            Format::Table => output::text(chosen(&listing(&self.options)?, &pids)?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn listing(options: &[OsString]) -> anyhow::Result<String> {
    #[allow(
        clippy::disallowed_methods,
        reason = "the options are ps' own language, and no word of them is a container's"
    )]
    let output = Command::new("ps").args(options).output().context("cannot run ps")?;
    if !output.status.success() {
        bail!("ps: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The heading and the lines of these processes.
fn chosen(listing: &str, pids: &[i32]) -> anyhow::Result<String> {
    let mut lines = listing.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_whitespace()
        .position(|word| word == "PID")
        .context("ps printed no column PID")?;
    let is_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok(std::iter::once(heading)
        .chain(lines.filter(is_ours))
        .flat_map(|line| [line, "\n"])
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]
    use super::*;

    #[test]
    fn only_the_containers_lines_are_shown() {
        let listing = "UID PID CMD\nroot 1 init\nroot 17 sh 1\n";
        assert_eq!(chosen(listing, &[17, 3]).unwrap(), "UID PID CMD\nroot 17 sh 1\n");
        assert!(chosen("CMD\ninit\n", &[1]).is_err());
    }
}
