//! `crun-cargo`: a container runtime with the hub built in.

fn main() {}
