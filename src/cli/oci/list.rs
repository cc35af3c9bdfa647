//! `list`: all containers of the state directory.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{containers, state::Report};
use crate::{
    cli::{Globals, Verb},
    output,
    table::Table,
};

#[derive(Args, Debug)]
pub(super) struct List {
    /// How to print them
    #[arg(long, short, default_value = "table")]
    format: Format,

    /// Only their names
    #[arg(long, short)]
    quiet: bool,
}

/// runc's two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

impl Verb for List {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let mut reports = Vec::new();
        for container in containers(globals)?.list()? {
            match Report::of(&container, globals) {
                Ok(report) => reports.push(report),
                // It went while we looked, or is damaged: the others are still to be shown.
                Err(error) => log::warn!("container {}: {error}", container.id()),
            }
        }
        match (self.quiet, self.format) {
            (true, _) => reports.iter().try_for_each(|report| output::line(&report.id))?,
            // Go's way to write a list nobody filled.
            (_, Format::Json) if reports.is_empty() => output::line("null")?,
            (_, Format::Json) => output::line(serde_json::to_string(&reports)?)?,
            (_, Format::Table) => output::text(table(&reports))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(reports: &[Report]) -> Table {
    let mut table = Table::default();
    table.row(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    for report in reports {
        table.row([
            &report.id,
            &report.pid.to_string(),
            &report.status.to_string(),
            &report.bundle.display().to_string(),
            &report.created,
            &report.owner,
        ]);
    }
    table
}
