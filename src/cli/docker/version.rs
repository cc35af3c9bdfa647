//! `version`: what this program is.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::{
    cli::{Globals, Verb},
    output, templates,
};

/// Show the version
#[derive(Args, Debug)]
pub(super) struct Version {
    /// Print this instead: `json` or a template such as `{{.Version}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Verb for Version {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        let Some(format) = self.format else {
            output::line(format_args!("crun-cargo version {}", env!("CARGO_PKG_VERSION")))?;
            return Ok(ExitCode::SUCCESS);
        };
        let version = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "Os": std::env::consts::OS,
            "Arch": std::env::consts::ARCH,
            "OciVersion": "1.3.0",
        });
        templates::print_one(&version, &format)?;
        Ok(ExitCode::SUCCESS)
    }
}
