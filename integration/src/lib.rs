//! What the black-box tests need: a private home for the program under test, images made without a
//! network, a real registry to pull them from, and eyes for what a container leaves on the machine.
//!
//! Nothing here knows the crates under test. The program is found as a file and run as a user runs it.

pub mod attack;
mod bundle;
mod canary;
mod daemons;
mod damage;
mod debootstrap;
mod digest;
mod disk;
mod elf;
mod env;
mod finished;
pub mod http;
mod image;
pub mod images;
mod line;
mod need;
pub mod ordinary;
mod pty;
mod registry;
mod spawn;
pub mod tar;
mod token;
pub mod torture;
mod traces;
pub mod tree;

pub use canary::Canary;
pub use daemons::Daemon;
pub use damage::Damage;
pub use debootstrap::debian;
pub use digest::sha256;
pub use disk::{Disk, Failing, Mounted};
pub use elf::{Elf, Entrance};
pub use env::{TestEnv, built, program, runtime};
pub use finished::Finished;
pub use image::{Built, Compression, Flavour, Image, Layer, gzip};
pub use line::{Fault, Line, Spoilt, Way};
pub use need::{Need, announce as skip};
pub use ordinary::Ordinary;
pub use pty::Terminal;
pub use registry::{Guard, PASSWORD, Registry, USER, free_port};
pub use spawn::{Invocation, Running};
pub use traces::Traces;
