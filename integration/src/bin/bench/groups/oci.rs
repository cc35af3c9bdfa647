//! The OCI runtime beside other runtimes and the kernel's floor, on the bundle `runc spec` makes.

use std::fs;

use integration::program;
use serde_json::{Value, json};

use crate::{
    measure::{Candidate, Rounds, shell},
    peers,
    stage::Stage,
    table::{self, Goal},
};

/// An OCI command line with a state directory of its own.
pub(super) struct Runtime {
    pub(super) name: String,
    pub(super) command: Vec<String>,
}

impl Runtime {
    pub(super) fn words(&self, words: &[&str]) -> Vec<String> {
        self.command.iter().cloned().chain(words.iter().map(|word| (*word).to_owned())).collect()
    }

    pub(super) fn line(&self, words: &[&str]) -> String {
        self.words(words).join(" ")
    }
}

/// Ours first, then every rival that is installed.
pub(super) fn runtimes(stage: &Stage) -> Vec<Runtime> {
    let mut all =
        vec![("crun-cargo".to_owned(), vec![program().display().to_string(), "oci".to_owned()])];
    for name in ["crun", "runc", "youki"] {
        all.extend(peers::named(name).map(|path| (name.to_owned(), vec![path])));
    }
    all.into_iter()
        .map(|(name, mut command)| {
            command.extend(["--root".to_owned(), stage.text(&format!("state-{name}"))]);
            Runtime { name, command }
        })
        .collect()
}

/// Writes a bundle whose process is `args`.
pub(super) fn bundle(stage: &Stage, name: &str, args: &[&str]) -> Result<String, String> {
    let place = stage.text(name);
    let busybox = peers::named("busybox").ok_or("busybox-static is needed")?;
    shell(&format!(
        "mkdir -p {place}/rootfs && cd {place}/rootfs && mkdir -p bin dev etc proc sys tmp && \
         cp {busybox} bin/busybox && for n in true sh sleep; do ln -sf busybox bin/$n; done"
    ))?;
    fs::write(format!("{place}/config.json"), document(args).to_string())
        .map_err(|error| error.to_string())?;
    Ok(place)
}

/// What `runc spec` prints, without a terminal.
fn document(args: &[&str]) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| {
        json!({
            "destination": destination, "type": kind, "source": source, "options": options
        })
    };
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/",
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities
            },
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": (["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}))),
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

pub(super) fn run(rounds: &Rounds) -> Result<(), String> {
    let stage = Stage::new()?;
    let floor = stage.floor()?;
    let bundle = bundle(&stage, "bundle", &["/bin/true"])?;
    let root = format!("{bundle}/rootfs");
    let mut candidates =
        vec![Candidate::new("floor", [&floor, "run", &root, "/bin/true"].map(String::from))];
    if let Some(bwrap) = peers::named("bwrap") {
        let words = [
            &bwrap,
            "--unshare-pid",
            "--unshare-net",
            "--unshare-ipc",
            "--unshare-uts",
            "--ro-bind",
            &root,
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--ro-bind",
            "/sys",
            "/sys",
            "/bin/true",
        ];
        candidates.push(Candidate::new("bwrap (fewer features)", words.map(String::from)));
    }
    for runtime in runtimes(&stage) {
        let words = runtime.words(&["run", "--bundle", &bundle, "bench"]);
        candidates.push(Candidate::new(runtime.name, words));
    }
    let rows = rounds.measure(&candidates)?;
    table::print(&rows, "floor");
    table::judge(
        &rows,
        &[
            Goal { of: "crun-cargo", against: "floor", at_most: 1.3 },
            Goal { of: "crun-cargo", against: "crun", at_most: 0.3 },
        ],
    );
    Ok(())
}

pub(super) fn life(rounds: &Rounds) -> Result<(), String> {
    let stage = Stage::new()?;
    let bundle = bundle(&stage, "bundle", &["/bin/true"])?;
    let mut candidates = Vec::new();
    for runtime in runtimes(&stage) {
        let line = format!(
            "{} && {} && {}",
            runtime.line(&["create", "--bundle", &bundle, "bench"]),
            runtime.line(&["start", "bench"]),
            runtime.line(&["delete", "--force", "bench"]),
        );
        candidates.push(Candidate::new(runtime.name, ["sh".to_owned(), "-c".into(), line]));
    }
    let rows = rounds.measure(&candidates)?;
    table::print(&rows, "crun");
    table::judge(&rows, &[Goal { of: "crun-cargo", against: "crun", at_most: 0.35 }]);
    Ok(())
}

pub(super) fn exec(rounds: &Rounds) -> Result<(), String> {
    let stage = Stage::new()?;
    let floor = stage.floor()?;
    let bundle = bundle(&stage, "bundle", &["/bin/sleep", "1000"])?;
    let mut candidates = Vec::new();
    let mut started = Vec::new();
    for runtime in runtimes(&stage) {
        let line = runtime.line(&["run", "--detach", "--bundle", &bundle, "bench"]);
        // Not kept waiting by a container that holds our pipes.
        if let Err(reason) = shell(&format!("{line} </dev/null >/dev/null 2>&1")) {
            println!("left out: {}: {reason}", runtime.name);
            continue;
        }
        if started.is_empty() {
            let pid = pid(&runtime)?;
            candidates.push(Candidate::new("floor", [floor.as_str(), "enter", &pid, "/bin/true"]));
        }
        candidates.push(Candidate::new(
            runtime.name.clone(),
            runtime.words(&["exec", "bench", "/bin/true"]),
        ));
        started.push(runtime);
    }
    let rows = rounds.measure(&candidates);
    for runtime in &started {
        let _ = shell(&runtime.line(&["delete", "--force", "bench"]));
    }
    let rows = rows?;
    table::print(&rows, "floor");
    table::judge(
        &rows,
        &[
            Goal { of: "crun-cargo", against: "floor", at_most: 1.5 },
            Goal { of: "crun-cargo", against: "crun", at_most: 0.35 },
        ],
    );
    Ok(())
}

fn pid(runtime: &Runtime) -> Result<String, String> {
    let words = runtime.words(&["state", "bench"]);
    let output = std::process::Command::new(&words[0])
        .args(&words[1..])
        .output()
        .map_err(|error| error.to_string())?;
    let state: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    Ok(state["pid"].to_string())
}
