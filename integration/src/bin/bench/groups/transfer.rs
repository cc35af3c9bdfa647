//! Whole images on their way out: to an empty registry, and from one registry to another.

use std::{fs, os::unix::fs::PermissionsExt};

use integration::{Guard, Registry};

use super::image::with;
use crate::{
    measure::{Candidate, Rounds, shell},
    stage::Stage,
    table::{self, Goal},
};

/// A second registry, and the line that empties it.
fn second(stage: &Stage) -> (Registry, String) {
    let registry = Registry::start(&stage.path("second"), Guard::None);
    let forget = format!("rm -rf {}", stage.text("second/data/docker"));
    (registry, forget)
}

pub(super) fn whole(rounds: &Rounds) -> Result<(), String> {
    let mut stage = Stage::new()?;
    let image = stage.large()?;
    let (registry, forget) = second(&stage);
    let there = registry.name("whole:1");
    let ours = stage.ours("store");
    shell(&with(&ours, &["pull", "-q", &image]).join(" "))?;
    let tars = stage.text("tars");
    let blobs = stage.text("registry/data/docker/registry/v2/blobs");
    shell(&format!(
        "mkdir {tars} && for blob in $(find {blobs} -name data -size +2k); do \
         gzip -dc $blob > {tars}/$(basename $(dirname $blob)); done"
    ))?;
    let gzip = format!("find {tars} -type f -print0 | xargs -0 -P 2 -n 1 gzip -6 -c > /dev/null");
    let mut candidates = vec![
        Candidate::new("gzip on two cores", ["sh", "-c", &gzip]),
        Candidate::new("crun-cargo", with(&ours, &["push", "-q", &image, &there]))
            .prepare(forget.as_str()),
    ];
    if let Some(podman) = stage.podman() {
        shell(&with(&podman, &["pull", "-q", "--tls-verify=false", &image]).join(" "))?;
        let words = ["push", "-q", "--tls-verify=false", &image, &there];
        candidates.push(Candidate::new("podman", with(&podman, &words)).prepare(forget));
    }
    let rows = rounds.slow().measure(&candidates)?;
    table::print(&rows, "gzip");
    table::judge(&rows, &[Goal { of: "crun-cargo", against: "gzip", at_most: 1.2 }]);
    Ok(())
}

/// What any copy has to do, three blobs at a time: down and up through a pipe, nothing looked at.
const PIPE: &str = r#"#!/bin/sh
# pipe FROM TO DIGEST...: from http://host/v2/name to another
from=$1 to=$2
shift 2
printf '%s\n' "$@" | FROM=$from TO=$to xargs -P 3 -n 1 sh -c '
location() { tr -d "\r" | sed -n "s/^[Ll]ocation: //p"; }
place=$(curl -sf -X POST -D - -o /dev/null $TO/blobs/uploads/ | location)
place=$(curl -sf $FROM/blobs/$0 | curl -sf -X PATCH -H "Content-Type: application/octet-stream" \
    -T - -D - -o /dev/null "$place" | location)
curl -sf -X PUT "$place&digest=$0"
'
"#;

pub(super) fn copy(rounds: &Rounds) -> Result<(), String> {
    let mut stage = Stage::new()?;
    let image = stage.large()?;
    let (registry, forget) = second(&stage);
    let there = registry.name("copy:1");
    let digests = stage.digests(&image)?;
    let pipe = stage.path("pipe");
    fs::write(&pipe, PIPE).map_err(|error| error.to_string())?;
    fs::set_permissions(&pipe, fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    let (host, _) = image.split_once('/').ok_or("the image has no registry")?;
    let (from, to) =
        (format!("http://{host}/v2/large"), format!("http://{}/v2/copy", registry.host()));
    let words = [pipe.display().to_string(), from, to].into_iter().chain(digests);
    let mut candidates = vec![
        Candidate::new("curl | curl", words).prepare(forget.as_str()),
        Candidate::new(
            "crun-cargo",
            with(
                &stage.ours("store"),
                &["copy", "-q", &format!("docker://{image}"), &format!("docker://{there}")],
            ),
        )
        .prepare(forget.as_str()),
    ];
    if let Some(skopeo) = crate::peers::named("skopeo") {
        let words = [
            "copy",
            "-q",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            &format!("docker://{image}"),
            &format!("docker://{there}"),
        ];
        candidates.push(Candidate::new("skopeo", with(&[skopeo], &words)).prepare(forget));
    }
    let rows = rounds.slow().measure(&candidates)?;
    table::print(&rows, "curl");
    table::judge(&rows, &[Goal { of: "crun-cargo", against: "curl", at_most: 1.1 }]);
    Ok(())
}
