//! `bench [--rounds N] [GROUP...]`: the program beside its rivals and the kernel's own floor, in one run.
//!
//! hyperfine times every command; rounds of few runs, in an order that turns by one each round, keep a
//! machine whose speed drifts from favouring anybody. Figures are medians; ratios compare medians of the
//! same run. A rival that is not installed, or does not work here, is left out by name, with the reason.

mod groups;
mod measure;
mod peers;
mod stage;
mod table;

use std::{env, os::unix::process::CommandExt, path::Path, process::ExitCode};

use measure::Rounds;

fn main() -> ExitCode {
    if let Some(error) = hide_second_hierarchy() {
        println!("the empty cgroup v2 hierarchy stays in view ({error}): crun will refuse to run");
    }
    let mut rounds = Rounds::default();
    let mut chosen = Vec::new();
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => match words.next().and_then(|n| n.parse().ok()) {
                Some(n) => rounds.count = n,
                None => return usage("--rounds takes a number"),
            },
            "--list" => {
                groups::ALL.iter().for_each(|group| println!("{:10} {}", group.name, group.what));
                return ExitCode::SUCCESS;
            }
            name => match groups::ALL.iter().find(|group| group.name == name) {
                Some(group) => chosen.push(group),
                None => return usage(&format!("no group is called {name:?}")),
            },
        }
    }
    if chosen.is_empty() {
        chosen.extend(groups::ALL);
    }
    let mut failed = false;
    for group in chosen {
        println!("\n## {}: {}\n", group.name, group.what);
        if let Err(reason) = (group.run)(&rounds) {
            println!("{} could not be measured: {reason}", group.name);
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// crun refuses a machine that has cgroup v2 beside v1. Starts again in a mount namespace where only v1
/// is to be seen, so that everybody is measured on the same ground. Returns only if it cannot.
fn hide_second_hierarchy() -> Option<std::io::Error> {
    if !Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        return None;
    }
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("umount -l /sys/fs/cgroup/unified && exec \"$@\"").arg("bench");
    Some(command.args(env::args_os()).exec())
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("bench: {problem}\nusage: bench [--rounds N] [--list] [GROUP...]");
    ExitCode::from(2)
}
