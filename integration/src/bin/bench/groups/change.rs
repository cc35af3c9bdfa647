//! What a container changed, on its way back: commit, and push of the result.

use std::fs;

use integration::{Daemon, Line, Way, http};
use serde_json::Value;

use super::image::with;
use crate::{
    measure::{Candidate, Rounds, shell},
    stage::{PODMAN_LIMITS, Stage},
    table::{self, Goal},
};

const CHANGE: &str =
    "date > /etc/motd; dd if=/dev/urandom of=/root/data bs=1M count=1; rm /etc/issue";

/// A tool whose container `changed` differs from its image in three files.
struct Changed {
    name: &'static str,
    command: Vec<String>,
    /// What the tool calls the image it makes.
    new: &'static str,
    /// Words of `commit` and `push` that come before the names.
    words: (&'static [&'static str], &'static [&'static str]),
    _daemon: Option<Daemon>,
}

impl Changed {
    fn commit(&self) -> Vec<String> {
        with(&with(&self.command, &["commit"]), &[self.words.0, &["changed", self.new]].concat())
    }
}

/// Every tool that is installed, each with the image pulled and the container run.
fn changed(stage: &Stage, image: &str) -> Vec<Changed> {
    let quiet: (&[&str], &[&str]) = (&[], &["-q"]);
    let mut tools = vec![Changed {
        name: "crun-cargo",
        command: stage.ours("store"),
        new: "changed:1",
        words: quiet,
        _daemon: None,
    }];
    tools.extend(stage.podman().map(|command| Changed {
        name: "podman",
        command,
        new: "localhost/changed:1",
        words: (&["-q"], &["-q", "--tls-verify=false"]),
        _daemon: None,
    }));
    tools.extend(stage.docker().map(|(daemon, command)| Changed {
        name: "docker",
        command,
        new: "changed:1",
        words: (&[], &["-q"]),
        _daemon: Some(daemon),
    }));
    tools.retain(|tool| {
        let is_podman = tool.name == "podman";
        let mut words = vec!["run", "--network", "none", "--name", "changed"];
        if is_podman {
            words.push("--tls-verify=false");
            words.extend(PODMAN_LIMITS);
        }
        let script = format!("sh -c '{CHANGE}'");
        words.extend([image, &script]);
        shell(&with(&tool.command, &words).join(" "))
            .map_err(|reason| println!("left out: {}: {reason}", tool.name))
            .is_ok()
    });
    tools
}

pub(super) fn commit(rounds: &Rounds) -> Result<(), String> {
    let mut stage = Stage::new()?;
    let image = stage.large()?;
    let tools = changed(&stage, &image);
    let files = stage.path("changed");
    fs::create_dir_all(&files).map_err(|error| error.to_string())?;
    let files = files.display();
    shell(&format!("dd if=/dev/urandom of={files}/data bs=1M count=1; date > {files}/motd"))?;
    let archive = format!("tar -C {files} -cz . > {}", stage.text("tar"));
    let mut candidates = vec![Candidate::new("tar + gzip", ["sh", "-c", &archive])];
    candidates.extend(tools.iter().map(|tool| {
        // Otherwise the second time finds the layer made by the first.
        let forget = match tool.name {
            "docker" => format!("rmi {} || true", tool.new),
            _ => format!("rmi -f {} || true", tool.new),
        };
        let forget = format!("{} {forget}", tool.command.join(" "));
        Candidate::new(tool.name, tool.commit()).prepare(forget)
    }));
    let rows = rounds.slow().measure(&candidates)?;
    table::print(&rows, "tar + gzip");
    table::judge(
        &rows,
        &[
            Goal { of: "crun-cargo", against: "tar + gzip", at_most: 1.5 },
            Goal { of: "crun-cargo", against: "podman", at_most: 0.1 },
            Goal { of: "crun-cargo", against: "docker", at_most: 0.1 },
        ],
    );
    table::judge_peak(&rows, "crun-cargo", 16.0);
    Ok(())
}

pub(super) fn push(rounds: &Rounds) -> Result<(), String> {
    let mut stage = Stage::new()?;
    let image = stage.large()?;
    let tools = changed(&stage, &image);
    let (host, _) = image.split_once('/').ok_or("the image has no registry")?;
    // Only what the base has is in the repository before each push.
    let links = stage.path("registry/data/docker/registry/v2/repositories/large/_layers");
    if !links.is_dir() {
        return Err(format!("{} is not where the registry keeps its links", links.display()));
    }
    let links = links.display();
    shell(&format!("cp -a {links} {links}.base"))?;
    let forget = format!("rm -rf {links} && cp -a {links}.base {links}");
    let mut candidates = Vec::new();
    for tool in &tools {
        shell(&tool.commit().join(" "))?;
        let there = format!("{host}/large:{}", tool.name);
        let mut words = vec!["push"];
        words.extend(tool.words.1);
        if tool.name == "docker" {
            shell(&with(&tool.command, &["tag", tool.new, &there]).join(" "))?;
        } else {
            words.push(tool.new);
        }
        words.push(&there);
        let push = with(&tool.command, &words);
        candidates.push(Candidate::new(tool.name, push).prepare(forget.as_str()));
    }
    let rows = rounds.slow().measure(&candidates)?;
    table::print(&rows, "crun-cargo");
    table::judge(&rows, &[Goal { of: "crun-cargo", against: "podman", at_most: 0.3 }]);
    shell(&forget)?;
    sent(&stage, host)
}

/// How much goes over the line, beside what is new: the last layer, the configuration, the manifest.
fn sent(stage: &Stage, host: &str) -> Result<(), String> {
    let address = host.parse().map_err(|_| format!("{host} is no address"))?;
    let line = Line::to(address);
    let there = format!("{}/large:counted", line.host());
    shell(&with(&stage.ours("store"), &["push", "-q", "changed:1", &there]).join(" "))?;
    let sent = line.passed(Way::Up);
    let accept = "application/vnd.docker.distribution.manifest.v2+json, \
                  application/vnd.oci.image.manifest.v1+json";
    let path = "/v2/large/manifests/counted";
    let answer = http::send(address, "GET", path, &[("Accept", accept)], &[]);
    let manifest = answer.map_err(|error| error.to_string())?.body;
    let document: Value = serde_json::from_slice(&manifest).map_err(|error| error.to_string())?;
    let layer = document["layers"].as_array().and_then(|layers| layers.last()?["size"].as_u64());
    let parts = (layer, document["config"]["size"].as_u64());
    let (Some(layer), Some(config)) = parts else { return Err("the manifest has no sizes".into()) };
    let new = layer + config + manifest.len() as u64;
    let heads = sent.saturating_sub(new);
    println!(
        "goal: bytes sent = layer + config + manifest: {new}, and {heads} in heads of requests"
    );
    Ok(())
}
