//! Links the release so that what the start of a container runs, and what that reads, lies together.

use std::env;

const SCRIPTS: [&str; 2] = ["start-order.ld", "start-constants.ld"];

fn main() {
    for script in SCRIPTS {
        println!("cargo::rerun-if-changed={script}");
    }
    if env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let (Ok(here), Ok(out)) = (env::var("CARGO_MANIFEST_DIR"), env::var("OUT_DIR")) else { return };
    for script in SCRIPTS {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{here}/{script}");
    }
    // What integration/scripts/order-functions reads.
    println!("cargo::rustc-link-arg-bins=-Wl,-Map,{out}/crun-cargo.map");
}
