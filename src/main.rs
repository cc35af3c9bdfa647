//! `crun-cargo`: a container runtime with the hub built in.
//!
//! This package is what people see: command lines, messages, exit codes, and the glue between the
//! libraries. `cli` says which command lines there are.

mod cli;
mod home;
mod logger;
mod output;
mod progress;
mod record;
mod report;
mod table;
mod templates;
mod timestamp;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os().collect())
}
