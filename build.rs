//! Links the release so that what the start of a container runs lies together: `start-order.ld`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=start-order.ld");
    if env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let (Ok(here), Ok(out)) = (env::var("CARGO_MANIFEST_DIR"), env::var("OUT_DIR")) else { return };
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{here}/start-order.ld");
    // What integration/scripts/order-functions reads.
    println!("cargo::rustc-link-arg-bins=-Wl,-Map,{out}/crun-cargo.map");
}
