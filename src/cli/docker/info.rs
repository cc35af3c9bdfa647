//! `info`: where things are, and what this machine can do.

use std::{fs, process::ExitCode};

use clap::Args;
use rootfs::Store;
use runtime::Containers;
use serde_json::json;

use crate::{
    cli::{Globals, Verb},
    condition::{self, Condition},
    output, record,
    report::printable,
    templates,
};

/// Show where things are and what this machine can do
#[derive(Args, Debug)]
pub(super) struct Info {
    /// Print this instead: `json` or a template such as `{{.Images}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Verb for Info {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let containers = Containers::open(&globals.home.runroot)?;
        let (mut all, mut running, mut paused) = (0, 0, 0);
        for container in record::list(&globals.home)? {
            all += 1;
            match condition::of(&containers, &container)? {
                Condition::Running => running += 1,
                Condition::Paused => paused += 1,
                _ => {}
            }
        }
        let store = Store::open(&globals.home.root)?;
        let images = store.images()?.len();
        let info = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "Root": globals.home.root,
            "RunRoot": globals.home.runroot,
            "Images": images,
            "Containers": all,
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": all - running - paused,
            "StorageDriver": store.storage_driver()?,
            "CgroupManager": format!("{:?}", globals.cgroup_manager).to_lowercase(),
            "CgroupVersion": if fs::exists("/sys/fs/cgroup/cgroup.controllers")? { 2 } else { 1 },
            "KernelVersion": kernel("osrelease"),
            "OperatingSystem": distribution(),
            "Architecture": std::env::consts::ARCH,
            "Name": kernel("hostname"),
            "Rootless": !crate::home::is_root(),
        });
        if let Some(format) = &self.format {
            templates::print_one(&info, format)?;
            return Ok(ExitCode::SUCCESS);
        }
        for (label, field) in [
            ("Version", "Version"),
            ("Images", "Images"),
            ("Containers", "Containers"),
            ("  running", "ContainersRunning"),
            ("  paused", "ContainersPaused"),
            ("  stopped", "ContainersStopped"),
            ("Root directory", "Root"),
            ("Run directory", "RunRoot"),
            ("Storage driver", "StorageDriver"),
            ("Cgroup manager", "CgroupManager"),
            ("Cgroup version", "CgroupVersion"),
            ("Kernel", "KernelVersion"),
            ("System", "OperatingSystem"),
            ("Architecture", "Architecture"),
            ("Host name", "Name"),
            ("Rootless", "Rootless"),
        ] {
            let value = info[field].as_str().map_or_else(|| info[field].to_string(), str::to_owned);
            output::line(format_args!("{:<17}{}", format!("{label}:"), printable(&value)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn kernel(setting: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/kernel/{setting}")).ok()?;
    Some(text.trim().to_owned())
}

fn distribution() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}
