//! Docker's first registry protocol (2013 to 2015), for the private registries that still speak it.
//!
//! Its images are chains of layers with names instead of digests, so pulling one makes an OCI layout out of it,
//! and pushing one makes a chain out of whatever image there is. Nothing outside of this module knows.

mod pull;
mod push;
mod session;
mod tarsum;

pub(crate) use pull::pull;
pub(crate) use push::push;
pub(crate) use session::is_spoken;

/// Layer names are 64 hexadecimal digits, and become parts of addresses.
fn check_id(id: &str, what: &str) -> crate::Result<()> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if id.len() == 64 && id.bytes().all(is_hex) {
        return Ok(());
    }
    let problem = "a layer's id is not 64 hexadecimal digits".to_owned();
    Err(crate::Error::Document { what: what.to_owned(), problem })
}
