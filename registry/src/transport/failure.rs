//! What a failed request means to a person.

use std::{error::Error as StdError, io};

use rustls::InvalidMessage;

use super::dns::{NoAddress, Unreachable};
use crate::Error;

/// Finds the cause that matters in reqwest's chain of causes.
pub(super) fn classify(error: reqwest::Error, host: &str, doing: &str) -> Error {
    // The address may carry a signature, and the host is named anyway.
    let error = error.without_url();
    let host = host.to_owned();
    if let Some(tls) = find::<rustls::Error>(&error) {
        let is_other_protocol =
            matches!(tls, rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType));
        return match tls.clone() {
            _ if is_other_protocol => Error::PlainHttp { registry: host },
            tls => Error::Tls { host, source: tls.into() },
        };
    }
    if find::<Unreachable>(&error).is_some() {
        let problem = "its address is private";
        return Error::Elsewhere { from: "the registry".to_owned(), to: host, problem };
    }
    if let Some(missing) = find::<NoAddress>(&error) {
        return Error::Address { host, source: missing.0.clone().into() };
    }
    let is_connect = error.is_connect();
    let source = innermost(error);
    if is_connect {
        Error::Connect { host, source }
    } else {
        Error::Transfer { doing: doing.to_owned(), source }
    }
}

/// The first cause of a type, also inside of `io::Error`, which hides what it wraps from `source()`.
fn find<E: StdError + 'static>(error: &reqwest::Error) -> Option<&E> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|inner| inner.downcast_ref::<E>()) {
            return Some(found);
        }
        next = match wrapped {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

/// The last cause in words: the ones above it say "error sending request" and the like.
fn innermost(error: reqwest::Error) -> crate::error::Cause {
    if let Some(system) = find::<io::Error>(&error)
        && let Some(code) = system.raw_os_error()
    {
        return io::Error::from_raw_os_error(code).into();
    }
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    text.into()
}
