//! From a reference to a process, beside the tools people use for it.

use crate::{
    measure::{Candidate, Rounds, shell},
    stage::{PODMAN_LIMITS, Stage},
    table::{self, Goal},
};

/// `command` with more words.
pub(super) fn with(command: &[String], words: &[&str]) -> Vec<String> {
    command.iter().cloned().chain(words.iter().map(|word| (*word).to_owned())).collect()
}

pub(super) fn run(rounds: &Rounds) -> Result<(), String> {
    let mut stage = Stage::new()?;
    let image = stage.busybox()?;
    let floor = stage.floor()?;
    let root = floor_root(&stage)?;
    let ours = stage.ours("store");
    shell(&with(&ours, &["pull", "-q", &image]).join(" "))?;
    let mut candidates = vec![
        Candidate::new("floor", [&floor, "run", "--overlay", &root, "/bin/true"].map(String::from)),
        Candidate::new(
            "crun-cargo",
            with(&ours, &["run", "--rm", "--network", "none", &image, "true"]),
        ),
    ];
    if let Some(podman) = stage.podman() {
        shell(&with(&podman, &["pull", "-q", "--tls-verify=false", &image]).join(" "))?;
        let words = [&["run", "--rm", "--network", "none"], &PODMAN_LIMITS[..], &[&image, "true"]];
        candidates.push(Candidate::new("podman", with(&podman, &words.concat())));
    }
    let docker = stage.docker();
    if let Some((_, docker)) = &docker {
        let _ = shell(&with(docker, &["pull", "-q", &image]).join(" "));
        let words = ["run", "--rm", "--network", "none", &image, "true"];
        candidates.push(Candidate::new("docker", with(docker, &words)));
    }
    let rows = rounds.measure(&candidates)?;
    table::print(&rows, "floor");
    table::judge(
        &rows,
        &[
            Goal { of: "crun-cargo", against: "floor", at_most: 2.0 },
            Goal { of: "crun-cargo", against: "podman", at_most: 0.05 },
            Goal { of: "crun-cargo", against: "docker", at_most: 0.05 },
        ],
    );
    Ok(())
}

/// A directory for `floor run --overlay`, holding what the busybox image holds.
fn floor_root(stage: &Stage) -> Result<String, String> {
    let root = stage.text("floor-root");
    let busybox = crate::peers::named("busybox").ok_or("busybox-static is needed")?;
    shell(&format!(
        "cd {} && mkdir -p {root}/lower {root}/upper {root}/work {root}/root && cd {root}/lower && \
         mkdir bin dev etc proc sys tmp && cp {busybox} bin/busybox && \
         for name in true sh sleep; do ln -s busybox bin/$name; done",
        stage.text("")
    ))?;
    Ok(root)
}

/// Every tool that can pull `image`, each with its store emptied before every run.
fn pullers(stage: &Stage, image: &str) -> (Vec<Candidate>, Vec<integration::Daemon>) {
    let store = stage.text("empty");
    let ours = stage.ours("empty");
    let wipe = format!("rm -rf {store} {store}-run");
    let mut candidates = vec![
        Candidate::new("crun-cargo", with(&ours, &["pull", "-q", image]))
            .prepare(stage.anew(&wipe)),
    ];
    let mut daemons = Vec::new();
    if let Some((daemon, ctr)) = stage.containerd() {
        let ctr_line = ctr.join(" ");
        let wipe = format!(
            "{ctr_line} images rm --sync {image} || true; \
             for blob in $({ctr_line} content ls -q); do {ctr_line} content rm $blob; done"
        );
        let words = ["images", "pull", "--plain-http", image];
        candidates
            .push(Candidate::new("containerd", with(&ctr, &words)).prepare(stage.anew(&wipe)));
        daemons.push(daemon);
    }
    if let Some(podman) = stage.podman() {
        let wipe = format!("{} rmi -f -a", podman.join(" "));
        let words = ["pull", "-q", "--tls-verify=false", image];
        candidates.push(Candidate::new("podman", with(&podman, &words)).prepare(stage.anew(&wipe)));
    }
    if let Some((daemon, docker)) = stage.docker() {
        let wipe = format!("{} rmi -f {image}", docker.join(" "));
        candidates.push(
            Candidate::new("docker", with(&docker, &["pull", "-q", image]))
                .prepare(stage.anew(&wipe)),
        );
        daemons.push(daemon);
    }
    (candidates, daemons)
}

pub(super) fn pull(rounds: &Rounds) -> Result<(), String> {
    let mut stage = Stage::new()?;
    let image = stage.debian()?;
    let (candidates, daemons) = pullers(&stage, &image);
    let rows = rounds.slow().measure(&candidates)?;
    drop(daemons);
    table::print(&rows, "crun-cargo");
    table::judge(
        &rows,
        &[
            Goal { of: "crun-cargo", against: "containerd", at_most: 0.40 },
            Goal { of: "crun-cargo", against: "podman", at_most: 0.25 },
            Goal { of: "crun-cargo", against: "docker", at_most: 0.15 },
        ],
    );
    Ok(())
}

pub(super) fn first(rounds: &Rounds) -> Result<(), String> {
    let mut stage = Stage::new()?;
    let image = stage.debian()?;
    let store = stage.text("empty");
    let ours = stage.ours("empty");
    let wipe = stage.anew(&format!("rm -rf {store} {store}-run"));
    let run = with(&ours, &["run", "--rm", "--network", "none", &image, "true"]);
    let mut candidates = vec![
        Candidate::new("pull alone", with(&ours, &["pull", "-q", &image])).prepare(wipe.as_str()),
        Candidate::new("crun-cargo", run).prepare(wipe),
    ];
    if let Some(podman) = stage.podman() {
        let words = [
            &["run", "--rm", "--network", "none", "--tls-verify=false"],
            &PODMAN_LIMITS[..],
            &[&image, "true"],
        ];
        let wipe = format!("{} rmi -f -a", podman.join(" "));
        candidates.push(
            Candidate::new("podman", with(&podman, &words.concat())).prepare(stage.anew(&wipe)),
        );
    }
    let rows = rounds.slow().measure(&candidates)?;
    table::print(&rows, "pull alone");
    if let [pull, first, ..] = &rows[..] {
        let more = (first.median() - pull.median()) * 1e3;
        println!("\ngoal: first process ≤ pull + 15 ms: {more:+.1} ms");
    }
    Ok(())
}

/// Seven layers. The goal speaks of the work itself: what all threads and the registry computed.
pub(super) fn large(rounds: &Rounds) -> Result<(), String> {
    let mut stage = Stage::new()?;
    let image = stage.large()?;
    let (candidates, daemons) = pullers(&stage, &image);
    let rows = rounds.slow().measure(&candidates)?;
    drop(daemons);
    table::print(&rows, "crun-cargo");
    table::judge_peak(&rows, "crun-cargo", 32.0);
    if let Some(row) = rows.iter().find(|row| row.name == "crun-cargo") {
        let work = row.cpu_seconds / 2.0;
        let ratio = row.median() / work;
        println!("goal: wall ≤ 1.2 × (its processor time / 2): {ratio:.2} of {work:.2} s");
    }
    Ok(())
}
