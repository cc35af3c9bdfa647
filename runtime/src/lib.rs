//! How a [`Spec`](configs::Spec) becomes a running process, and what can be done with it afterwards.
//!
//! # Process model
//!
//! ```text
//!  caller (one thread)                       container's first process ("init")
//!    │ state directory, cgroup, detached mounts, seccomp program
//!    ├─ clone3: every namespace, a pidfd, on cgroup v2 the cgroup too ──────►  the step table (init.rs)
//!    │ records the pid (and writes the id maps)                                mounts, devices, pivot …
//!    │ Go  ─────────────────────────────────────────────────────────────────►  waits for it before the
//!    │                                                                         program may run
//!    │ end of conversation, or Failed  ◄────────────────────────────────────   exec closes the socket
//! ```
//!
//! One message each way: the two processes work side by side, and no second process image is needed. A
//! caller with threads cannot be forked safely; it is re-executed as a single-threaded bootstrap that
//! runs the same code (see [`bootstrap`]).
//!
//! The crate is made for programs like ours: it changes process-wide settings (dumpable, and in
//! [`foreground`] the signal mask) for as long as a call lasts.

mod birth;
pub mod bootstrap;
pub mod cgroup;
mod channel;
mod checkpoint;
mod child;
mod container;
mod containers;
mod create;
mod error;
mod exec;
mod exit;
pub mod foreground;
mod guard;
mod hooks;
mod id;
mod id_maps;
mod init;
pub mod network;
mod node;
mod onlookers;
mod options;
mod pid_file;
mod prepare;
mod process;
mod procfs;
mod rdt;
mod reaper;
mod relay;
pub mod seccomp;
pub mod self_exe;
mod sources;
mod spent;
mod state;
mod steps;
mod user;
pub mod user_namespace;

pub use checkpoint::CheckpointOptions;
pub use container::Container;
pub use containers::Containers;
pub use error::{Error, Result};
pub use exit::ExitStatus;
pub use id::ContainerId;
pub use options::{CreateOptions, ExecOptions, Stdio};
pub use process::Running;
pub use state::{OCI_VERSION, State, Status};
pub use steps::root::detached as detached_root;
