//! The flags of every command that may speak to a registry.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use clap::{ArgAction, Args};

use crate::{images::Access, progress};

// How to reach registries. (A doc comment would become the command's description, here and below.)
#[derive(Args, Clone, Debug)]
pub(super) struct AccessArgs {
    /// Accept any certificate, and plain HTTP, with --tls-verify=false
    #[arg(long, value_name = "BOOL", default_value_t = true, hide_default_value = true, hide_possible_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    tls_verify: bool,

    /// Log in with these credentials, this time only
    #[arg(long, value_name = "USER[:PASSWORD]")]
    creds: Option<String>,

    /// Look for logins in this file only [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,

    /// How to speak to the registry: v2, v1 (of 2013), or auto, which finds out
    #[arg(long, value_name = "PROTOCOL", default_value = "auto", hide_default_value = true)]
    protocol: registry::Protocol,
}

impl AccessArgs {
    /// As the glue takes it.
    pub(super) fn access(self) -> Access {
        Access {
            tls_verify: self.tls_verify,
            creds: self.creds,
            authfile: self.authfile,
            protocol: self.protocol,
        }
    }
}

// What to show while something takes time.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct ProgressArgs {
    /// How to show progress: auto, tty, plain, json, none
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(super) progress: progress::Mode,
}

impl ProgressArgs {
    /// Whether nothing was asked for and nobody is watching.
    pub(super) fn is_auto_without_terminal(self) -> bool {
        self.progress == progress::Mode::Auto && !io::stderr().is_terminal()
    }
}
