//! `completion`: what a shell needs to complete our command lines.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use crate::{
    cli::{self, Globals, Verb},
    output,
};

/// Print a completion script for a shell
///
/// For bash, for example: crun-cargo completion bash > /etc/bash_completion.d/crun-cargo
#[derive(Args, Debug)]
pub(super) struct Completion {
    /// Which shell
    shell: Shell,
}

impl Verb for Completion {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let mut tree = cli::tree(globals.personality);
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut tree, "crun-cargo", &mut script);
        // clap_complete 4.6 spells a name with a hyphen in two ways in bash's script, and then completes the
        // flags of no command.
        output::text(String::from_utf8(script)?.replace("crun__subcmd__cargo", "crun__cargo"))?;
        Ok(ExitCode::SUCCESS)
    }
}
