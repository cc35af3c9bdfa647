//! `config`: the file of this directory, or the template with its flags.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use configs::nsinit;

use super::{create_flags::CreateArgs, place};
use crate::{
    cli::{Globals, Verb},
    output,
};

#[derive(Args, Debug)]
pub(super) struct Config {
    /// Write it to this file
    #[arg(long, short, value_name = "FILE", default_value = "stdout")]
    file: PathBuf,

    #[command(flatten)]
    create: CreateArgs,
}

impl Verb for Config {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        let text = match place::file_here()? {
            // The older version printed what it would run; the later one knew no file here.
            Some(file) if !self.create.is_given() => {
                let text = fs::read_to_string(&file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                nsinit::print(&text).with_context(|| file.display().to_string())?
            }
            _ => {
                let directory = place::directory()?;
                let flags = self.create.flags();
                nsinit::template(&directory.to_string_lossy(), &flags)?.print()?
            }
        };
        if self.file == Path::new("stdout") {
            output::text(text)?;
        } else {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&self.file)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .with_context(|| format!("cannot write {}", self.file.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
