//! Where images come from and go to: names, credentials, manifests and blobs, over HTTP and in files.
//!
//! Nothing here knows what a layer contains, where images are kept, or what a container is. The crate never
//! prints and never reads the environment: [`Options::from_environment`] is given a function that does.
//!
//! HTTP runs on one thread of its own, which starts with the first request and ends when the [`Client`] is
//! dropped. Everything a caller sees is blocking.

mod auth;
mod blob;
mod certificates;
mod client;
mod copy;
pub mod credentials;
mod digest;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
mod image;
mod json;
mod layer;
mod local;
mod manifest;
mod options;
mod platform;
mod push;
mod reference;
pub mod registries;
mod resolve;
mod schema1;
mod secret;
mod server;
mod source;
mod transport;
pub mod v1;

pub use client::{Client, Found};
pub use copy::{Copy, copy};
pub use digest::{digest_of, parse_digest};
pub use error::{Cause, Error, Result};
pub use image::{Image, Layer, Raw};
pub use manifest::Document;
pub use options::{Options, Protocol, Timeouts};
pub use platform::Platform;
pub use push::{Blobs, Progress, Push, Saved};
pub use reference::Reference;
pub use secret::Secret;
pub use server::{Images, ServedBlob, Server};
pub use source::Source;
pub use transport::Proxies;
