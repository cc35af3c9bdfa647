//! `features`: what this runtime can do, as the specification's features.md wants it said.

use std::process::ExitCode;

use clap::Args;
use configs::oci::{VERSION, vocabulary};
use serde_json::json;

use crate::{
    cli::{Globals, Verb},
    output,
};

#[derive(Args, Debug)]
pub(super) struct Features {}

impl Verb for Features {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        let flags: Vec<&str> = runtime::seccomp::FLAGS.iter().map(|row| row.0).collect();
        let document = json!({
            "ociVersionMin": "1.0.0",
            "ociVersionMax": VERSION,
            "hooks": vocabulary::HOOKS,
            "mountOptions": vocabulary::mount_options(),
            "linux": {
                "namespaces": vocabulary::namespaces(),
                "capabilities": vocabulary::capabilities(),
                "cgroup": {
                    "v1": true,
                    "v2": true,
                    "systemd": true,
                    "systemdUser": false,
                    "rdma": true,
                },
                "seccomp": {
                    "enabled": true,
                    "actions": runtime::seccomp::ACTIONS,
                    "operators": vocabulary::seccomp_operators(),
                    "archs": runtime::seccomp::ARCHITECTURES,
                    "knownFlags": flags,
                    "supportedFlags": flags,
                },
                "apparmor": { "enabled": true },
                "selinux": { "enabled": true },
                "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
                "memoryPolicy": {
                    "modes": vocabulary::memory_modes(),
                    "flags": vocabulary::memory_flags(),
                },
                "mountExtensions": { "idmap": { "enabled": true } },
                "netDevices": { "enabled": true },
            },
            "annotations": {
                "io.github.crun-cargo.version": env!("CARGO_PKG_VERSION"),
            },
        });
        output::line(serde_json::to_string_pretty(&document)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
