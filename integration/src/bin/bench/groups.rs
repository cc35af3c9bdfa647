//! What is measured, and the goals it is held against.

mod change;
mod image;
mod legacy;
mod oci;
mod store;
mod transfer;
mod weight;

use crate::{
    measure::{Candidate, Rounds},
    stage::Stage,
    table::{self, Goal},
};

/// One table of measurements.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(&Rounds) -> Result<(), String>,
}

/// Every group, in the order they run.
pub(crate) const ALL: &[Group] = &[
    Group { name: "version", what: "the program's own start", run: version },
    Group { name: "run", what: "`run --rm` of an image that is present", run: image::run },
    Group { name: "pull", what: "a Debian base image into an empty store", run: image::pull },
    Group { name: "first", what: "first process from an empty store", run: image::first },
    Group { name: "large", what: "seven layers, about a gigabyte, empty store", run: image::large },
    Group {
        name: "commit",
        what: "three changed files of a gigabyte's image",
        run: change::commit,
    },
    Group { name: "push", what: "that commit, to a registry with its base", run: change::push },
    Group { name: "whole", what: "a gigabyte's image to an empty registry", run: transfer::whole },
    Group { name: "copy", what: "the same between two registries", run: transfer::copy },
    Group { name: "check", what: "every byte of a store with a gigabyte", run: store::check },
    Group { name: "images", what: "a list of a thousand images", run: store::images },
    Group {
        name: "layered",
        what: "an image into a directory, plain and with branches",
        run: legacy::pull,
    },
    Group { name: "branch", what: "three changed files become a branch", run: legacy::commit },
    Group { name: "nsinit", what: "`exec` from container.json", run: legacy::exec },
    Group { name: "oci", what: "`run` of the bundle `runc spec` makes", run: oci::run },
    Group { name: "life", what: "`create`, `start` and `delete`", run: oci::life },
    Group { name: "exec", what: "one more process in a running container", run: oci::exec },
    Group { name: "size", what: "peak memory and system calls", run: weight::size },
    Group {
        name: "parallel",
        what: "containers per second, eight at a time",
        run: weight::parallel,
    },
    Group { name: "fleet", what: "two hundred that stay", run: weight::fleet },
    Group { name: "limit", what: "the smallest memory limit that is enough", run: weight::limit },
];

fn version(rounds: &Rounds) -> Result<(), String> {
    let stage = Stage::new()?;
    let rows = rounds.measure(&[
        Candidate::new("hello", [stage.floor()?, "hello".into()]),
        Candidate::new("crun-cargo", [stage.ours("store").remove(0), "version".into()]),
    ])?;
    table::print(&rows, "hello");
    table::judge(&rows, &[Goal { of: "crun-cargo", against: "hello", at_most: 1.5 }]);
    Ok(())
}
