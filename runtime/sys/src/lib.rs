//! The system calls `nix` and `rustix` lack, and directory handles: the only crate with unsafe code.
//!
//! A wrapper makes one call, takes borrowed descriptors and returns owned ones, and has no opinion.
//! Anything above one call is somebody else's crate.

mod bpf;
mod clone;
mod credentials;
mod descriptors;
mod exec;
mod mount;
mod root;
mod scheduling;
mod seccomp;
mod signals;
mod sockets;
pub mod xattr;

pub use bpf::{
    attach_device_program, attached_device_programs, detach_device_program, load_device_program,
};
pub use clone::{CloneFlags, Cloned, clone3, thread_count};
pub use credentials::{join_anonymous_session_keyring, set_personality};
pub use descriptors::{adopt, disown_above, is_open, replace_standard};
pub use exec::{exec_descriptor, exec_path, exit_now, may_execute};
pub use mount::{MountAttr, mount_setattr};
pub use root::Root;
pub use scheduling::{SchedAttr, ioprio_set, sched_setattr, set_mempolicy};
pub use seccomp::{SeccompInstruction, install_seccomp_filter};
pub use signals::{default_signals, pidfd_send_signal, signal_set, wait_for_children};
pub use sockets::{receive_with_fds, send_with_fds};
