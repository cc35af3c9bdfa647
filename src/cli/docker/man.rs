//! `man`: manual pages, generated from the commands themselves.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use clap_mangen::Man as Page;

use crate::{
    cli::{self, Globals, Verb},
    output,
};

/// Print the manual page, or write all of them into a directory
#[derive(Args, Debug)]
pub(super) struct Man {
    /// Write one page per command into this directory
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// The command whose page to print, instead of the overview's
    #[arg(conflicts_with = "output")]
    command: Vec<String>,
}

impl Verb for Man {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let mut tree = cli::tree(globals.personality).disable_help_subcommand(true);
        tree.build();
        if let Some(directory) = self.output {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
            write_all(&tree, tree.get_name(), &directory)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut command = &tree;
        let mut name = tree.get_name().to_owned();
        for word in &self.command {
            command = command
                .find_subcommand(word)
                .with_context(|| format!("there is no command `{name} {word}`"))?;
            name = format!("{name}-{word}");
        }
        output::text(page(command, &name)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn write_all(command: &clap::Command, name: &str, directory: &Path) -> anyhow::Result<()> {
    let path = directory.join(format!("{name}.1"));
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .and_then(|mut file| file.write_all(page(command, name)?.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    for child in command.get_subcommands() {
        write_all(child, &format!("{name}-{}", child.get_name()), directory)?;
    }
    Ok(())
}

fn page(command: &clap::Command, name: &str) -> std::io::Result<String> {
    let mut text = Vec::new();
    Page::new(command.clone()).title(name.to_uppercase()).render(&mut text)?;
    String::from_utf8(text).map_err(std::io::Error::other)
}
