//! What krgo and nsinit were for: root filesystems with branches, and containers from container.json.

use std::fs;

use serde_json::{Value, json};

use crate::{
    measure::{Candidate, Rounds, shell},
    peers,
    stage::Stage,
    table::{self, Goal},
};

fn with(command: &[String], words: &[&str]) -> Vec<String> {
    command.iter().cloned().chain(words.iter().map(|word| (*word).to_owned())).collect()
}

pub(super) fn pull(rounds: &Rounds) -> Result<(), String> {
    let mut stage = Stage::new()?;
    let image = stage.debian()?;
    let (ours, store, tree) = (stage.ours("empty"), stage.text("empty"), stage.text("tree"));
    let wipe = format!("rm -rf {store} {store}-run {tree}");
    let candidate = |name: &str, flags: &[&str]| {
        let words = [&["pull", "-q", &image, "-r", &tree], flags].concat();
        Candidate::new(name, with(&ours, &words)).prepare(wipe.as_str())
    };
    let candidates = [candidate("plain", &[]), candidate("branches", &["-g"])];
    let rows = rounds.slow().measure(&candidates)?;
    table::print(&rows, "plain");
    table::judge(&rows, &[Goal { of: "branches", against: "plain", at_most: 1.6 }]);
    Ok(())
}

/// Git works in a tree of its own with the same files, all of them committed before.
pub(super) fn commit(rounds: &Rounds) -> Result<(), String> {
    if peers::find("git").is_none() {
        return Err("git is needed".into());
    }
    let mut stage = Stage::new()?;
    let image = stage.debian()?;
    let ours = stage.ours("store");
    let (layered, plain) = (stage.text("layered"), stage.text("plain"));
    shell(&with(&ours, &["pull", "-q", &image, "-r", &layered, "-g"]).join(" "))?;
    shell(&with(&ours, &["pull", "-q", &image, "-r", &plain]).join(" "))?;
    let git = format!("git -C {plain} -c user.name=bench -c user.email=bench@localhost");
    shell(&format!("{git} init -q && {git} add -A && {git} commit -qm base"))?;
    // A change and its time differ in every round; the kernel's clock ticks on before the commit.
    let change = |tree: &str| {
        format!(
            "date +%s.%N | tee {tree}/etc/motd {tree}/etc/issue > {tree}/root/notes; sleep 0.05"
        )
    };
    let candidates = [
        Candidate::new("git", ["sh", "-c", &format!("{git} add -A && {git} commit -qm x")])
            .prepare(change(&plain)),
        Candidate::new("crun-cargo", with(&ours, &["commit", "-r", &layered, "-m", "x"]))
            .prepare(change(&layered)),
    ];
    let rows = rounds.slow().measure(&candidates)?;
    table::print(&rows, "git");
    table::judge(&rows, &[Goal { of: "crun-cargo", against: "git", at_most: 0.1 }]);
    Ok(())
}

/// The floor makes the namespaces, mounts and cgroups that the older generation's file stands for.
pub(super) fn exec(rounds: &Rounds) -> Result<(), String> {
    let stage = Stage::new()?;
    let floor = stage.floor()?;
    let root = stage.text("root");
    let busybox = peers::named("busybox").ok_or("busybox-static is needed")?;
    shell(&format!(
        "mkdir -p {root} && cd {root} && mkdir -p bin dev etc proc sys tmp && \
         cp {busybox} bin/busybox && for n in true sh; do ln -sf busybox bin/$n; done"
    ))?;
    fs::write(format!("{root}/container.json"), document(&root).to_string())
        .map_err(|error| error.to_string())?;
    let ours = stage.ours("store");
    let line = [
        &ours[..1],
        &["nsinit", "--root", &ours[4], "exec", "--config"].map(str::to_owned),
        &[format!("{root}/container.json"), "/bin/true".to_owned()],
    ]
    .concat();
    let candidates = [
        Candidate::new("floor", [&floor, "run", &root, "/bin/true"].map(String::from)),
        Candidate::new("crun-cargo", line),
    ];
    let rows = rounds.measure(&candidates)?;
    table::print(&rows, "floor");
    table::judge(&rows, &[Goal { of: "crun-cargo", against: "floor", at_most: 1.3 }]);
    Ok(())
}

fn document(root: &str) -> Value {
    let namespaces = ["NEWIPC", "NEWNET", "NEWNS", "NEWPID", "NEWUTS"];
    json!({
        "root_fs": root,
        "hostname": "bench",
        "environment": ["PATH=/bin"],
        "namespaces": namespaces.map(|kind| json!({ "type": kind })),
        "capabilities": ["KILL"],
        "cgroups": { "name": "bench", "parent": "crun-cargo-bench", "allowed_devices": [] },
        "mount_config": {},
        "restrict_sys": true,
    })
}
