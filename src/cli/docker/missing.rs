//! docker's commands that need containers in the background, or networks: refused, with what to do instead.

use std::process::ExitCode;

use clap::Args;

use crate::{
    cli::{Globals, Verb},
    report::advise,
};

macro_rules! missing {
    ($($(#[$documentation:meta])* $name:ident: $problem:literal, $hint:literal;)*) => { $(
        $(#[$documentation])*
        #[derive(Args, Debug)]
        pub(super) struct $name {
            /// What docker takes here
            #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
            _words: Vec<String>,
        }

        impl Verb for $name {
            fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
                Err(advise($problem, $hint))
            }
        }
    )* };
}

missing! {
    /// Build an image from a Dockerfile
    Build:
        "build: Dockerfiles are not understood yet",
        "run the steps in a container and `crun-cargo commit` it, or build with another tool and `crun-cargo \
         load` the result";
    /// Insert a file into an image
    Insert:
        "insert: a file cannot be put into an image directly yet",
        "`crun-cargo unpack IMAGE DIR`, copy the file into DIR, then `crun-cargo repack`";
    /// Attach to a container in the background
    Attach:
        "attach: there are no containers in the background yet, and those in the foreground are \
         attached to their terminal",
        "`crun-cargo exec -it CONTAINER sh` runs a shell in a running container";
    /// Show what a container in the background has printed
    Logs:
        "logs: output is not kept yet; a container in the foreground prints it to its terminal",
        "redirect the output of `crun-cargo run`, for example with `| tee FILE`";
    /// Show published ports
    Port:
        "port: ports cannot be published yet, since containers have no network of their own",
        "with --network host, the program's ports are the host's";
    /// Stop a container in the background and start it again
    Restart:
        "restart: there are no containers in the background yet",
        "`crun-cargo stop CONTAINER`, then `crun-cargo start -a CONTAINER`";
}
