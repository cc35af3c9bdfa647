//! `crun-cargo`: a container runtime with the hub built in.
//!
//! This package is what people see: command lines, messages, exit codes, and the glue between the
//! libraries. `cli` says which command lines there are.

mod changes;
mod cli;
mod condition;
mod copying;
mod home;
mod images;
mod launch;
mod logger;
mod ordinary;
mod outgoing;
mod output;
mod password;
mod processes;
mod progress;
mod record;
mod report;
mod request;
mod serve;
mod streams;
mod table;
mod templates;
mod timestamp;
mod transfer;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A process made only to start a container is no command line of anybody's.
    if let Some(status) = runtime::bootstrap::run_if_requested() {
        return ExitCode::from(status.code());
    }
    cli::main(std::env::args_os().collect())
}
