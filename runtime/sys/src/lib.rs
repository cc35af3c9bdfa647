//! The system calls nix and rustix lack, and directory handles; the only crate with unsafe code.

mod root;
pub mod xattr;

pub use root::Root;
