//! `login`, `logout`, `search`: who we are at a registry, and what it has.

use std::{
    io::{self, IsTerminal, Read},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use registry::{Secret, credentials::Login as Credential};
use serde_json::json;

use super::access::AccessArgs;
use crate::{
    cli::{Globals, Verb},
    output,
    report::advise,
    templates::Listing,
};

const HUB: &str = "docker.io";

/// Log in to a registry
///
/// The registry is asked whether the password is right. Where it was kept is said.
#[derive(Args, Debug)]
pub(super) struct Login {
    /// User name
    #[arg(short, long)]
    username: Option<String>,

    /// Password; everybody on this machine can see it while the command runs
    #[arg(short, long)]
    password: Option<String>,

    /// Read the password from standard input
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,

    #[command(flatten)]
    access: AccessArgs,

    /// Registry, such as `localhost:5000`
    #[arg(default_value = HUB)]
    registry: String,
}

impl Verb for Login {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        let user = match &self.username {
            Some(user) => user.clone(),
            None => answer("Username: ")?,
        };
        let password = match &self.password {
            Some(password) => {
                output::note("note: --password-stdin keeps the password out of the process list");
                password.clone()
            }
            None if self.password_stdin => {
                let mut text = String::new();
                io::stdin().read_to_string(&mut text).context("cannot read the password")?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            None => crate::password::ask("Password: ")?,
        };
        if user.is_empty() || password.is_empty() {
            bail!("a user name and a password are needed");
        }
        let login = Credential::Password { user, password: Secret::new(password) };
        let (options, client) = self.access.access().options_and_client()?;
        client.check_login(&self.registry, &login)?;
        let kept = options.credentials.store(&self.registry, &login)?;
        output::line(format_args!("Login succeeded; it is kept in {kept}"))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn answer(question: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        return Err(advise("there is nobody to ask for the user name", "use --username"));
    }
    output::ask(question);
    let mut text = String::new();
    io::stdin().read_line(&mut text)?;
    Ok(text.trim().to_owned())
}

/// Forget a login
#[derive(Args, Debug)]
pub(super) struct Logout {
    #[command(flatten)]
    access: AccessArgs,

    /// Registry, such as `localhost:5000`
    #[arg(default_value = HUB)]
    registry: String,
}

impl Verb for Logout {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        let (options, _) = self.access.access().options_and_client()?;
        let removed = options.credentials.remove(&self.registry)?;
        if removed.is_empty() {
            bail!("no login for {} is kept", self.registry);
        }
        for kept in removed {
            output::line(format_args!("Removed the login for {} from {kept}", self.registry))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Search a registry for images
#[derive(Args, Debug)]
pub(super) struct Search {
    /// Show so many at most
    #[arg(long, default_value_t = 25)]
    limit: usize,

    /// Print descriptions in full
    #[arg(long)]
    no_trunc: bool,

    /// `json`, `table …` or a template such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    #[command(flatten)]
    access: AccessArgs,

    /// Words to look for; `localhost:5000/words` looks in that registry
    words: String,
}

impl Verb for Search {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        let (registry, words) = match self.words.split_once('/') {
            Some((host, words)) if host.contains(['.', ':']) || host == "localhost" => {
                (host, words)
            }
            _ => (HUB, self.words.as_str()),
        };
        let client = self.access.access().client()?;
        let found = client.search(registry, words, self.limit)?;
        let rows: Vec<_> = found
            .iter()
            .map(|found| {
                let mut description: String = found.description.clone();
                if !self.no_trunc && description.chars().count() > 45 {
                    description = description.chars().take(44).chain(['…']).collect();
                }
                json!({
                    "Name": if registry == HUB { found.name.clone() } else { format!("{registry}/{}", found.name) },
                    "Description": description,
                    "StarCount": found.stars,
                    "IsOfficial": if found.is_official { "[OK]" } else { "" },
                })
            })
            .collect();
        Listing {
            default: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
            headings: &[("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")],
            quiet: None,
            format: self.format.as_deref(),
        }
        .print(&rows)?;
        Ok(ExitCode::SUCCESS)
    }
}
