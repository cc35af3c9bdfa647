//! Docker's first registry protocol (2013 to 2015), for the private registries that still speak it.
//!
//! Its images are chains of layers with names instead of digests, so pulling one makes an OCI layout out of it,
//! and pushing one makes a chain out of whatever image there is. Nothing outside of this module knows.

mod export;
mod files;
mod pull;
mod push;
mod session;
mod tarsum;

pub(crate) use export::export;
pub(crate) use pull::{pull, pull_static};
pub(crate) use push::push;
pub(crate) use session::is_spoken;

/// What a registry of this kind answers, by the path it answers at.
trait Origin {
    /// The image's repository there.
    fn repository(&self) -> &str;

    /// The image, for messages.
    fn what(&self) -> &str;

    /// Gives what is at a path to `each`, piece by piece. Returns the checksum that came with it, if one
    /// did.
    fn read(&self, path: &str, each: Each<'_>) -> crate::Result<Option<String>>;

    /// How often to try again, where that can help.
    fn backoff(&self) -> Option<crate::client::backoff::Backoff>;
}

type Each<'a> = &'a mut dyn FnMut(&[u8]) -> crate::Result<()>;

/// Layer names are 64 hexadecimal digits, and become parts of addresses.
fn check_id(id: &str, what: &str) -> crate::Result<()> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if id.len() == 64 && id.bytes().all(is_hex) {
        return Ok(());
    }
    let problem = "a layer's id is not 64 hexadecimal digits".to_owned();
    Err(crate::Error::Document { what: what.to_owned(), problem })
}
