//! `serve`: this store as a registry for others.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Args;
use registry::Server;

use super::access::AccessArgs;
use crate::{
    cli::{Globals, Verb},
    output,
    serve::Served,
};

/// Serve the images of this store as a read-only registry
///
/// Names are served without their registry: docker.io/library/debian:jessie can be pulled from here as
/// HOST:PORT/debian:jessie or HOST:PORT/library/debian:jessie.
#[derive(Args, Debug)]
pub(super) struct Serve {
    /// Where to listen; port 0 chooses a free one
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS:PORT")]
    addr: SocketAddr,

    /// Pull what is not here from this registry, such as docker.io
    #[arg(long, value_name = "REGISTRY")]
    upstream: Option<String>,

    #[command(flatten)]
    access: AccessArgs,
}

impl Verb for Serve {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let served = Served::new(store, self.access.access(), self.upstream);
        let server = Server::start(self.addr, Arc::new(served))
            .with_context(|| format!("cannot listen on {}", self.addr))?;
        output::line(format_args!(
            "serving {} on {}",
            globals.home.root.display(),
            server.address()
        ))?;
        server.wait();
        Ok(ExitCode::SUCCESS)
    }
}
