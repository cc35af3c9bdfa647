//! What a registry's refusal means.

use std::time::Duration;

use serde::Deserialize;

use super::host::{Call, Host};
use crate::{
    Error, Result, json,
    transport::{Response, header},
};

const MAX_ERROR_BODY: u64 = 64 << 10;
const MAX_MESSAGE: usize = 200;

#[derive(Deserialize, Default)]
struct Document {
    #[serde(default)]
    errors: Vec<Refusal>,
    /// Docker Hub's other services, and token servers.
    #[serde(alias = "detail", alias = "error_description")]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Lets good answers pass and makes errors of the others.
pub(super) fn check(
    answer: Response,
    host: &Host,
    call: &Call<'_>,
    with_authorization: bool,
) -> Result<Response> {
    let status = answer.status();
    if (200..300).contains(&status) || call.expected.contains(&status) {
        return Ok(answer);
    }
    let registry = host.registry().to_owned();
    let retry_after = retry_after(&answer);
    let (code, message) = read(answer);
    let with_credentials = host.has_login(call.repository);
    let what = format!("to {}", call.doing);
    Err(match status {
        429 => Error::RateLimited { registry, wait: retry_after, with_credentials },
        401 if with_authorization && !with_credentials => missing_or_private(host, call),
        401 => Error::Unauthorized { registry, what, with_credentials },
        403 if !with_credentials && code != "TOOMANYREQUESTS" => missing_or_private(host, call),
        403 => Error::Denied { registry, what },
        _ if code == "TOOMANYREQUESTS" => {
            Error::RateLimited { registry, wait: retry_after, with_credentials }
        }
        404 if code == "NAME_UNKNOWN" => missing_or_private(host, call),
        _ => Error::Status { doing: call.doing.to_owned(), registry, status, message, retry_after },
    })
}

/// The same for a token server, whose 401 and 403 are about the login and nothing else.
pub(super) fn check_token(
    answer: Response,
    host: &Host,
    call: &Call<'_>,
    with_credentials: bool,
) -> Result<Response> {
    let status = answer.status();
    let registry = host.registry().to_owned();
    match status {
        200..300 => Ok(answer),
        400 | 401 | 403 if with_credentials => Err(Error::Unauthorized {
            registry,
            what: format!("to {}", call.doing),
            with_credentials,
        }),
        401 | 403 => Err(missing_or_private(host, call)),
        429 => {
            let wait = retry_after(&answer);
            Err(Error::RateLimited { registry, wait, with_credentials })
        }
        _ => {
            let retry_after = retry_after(&answer);
            let (_, message) = read(answer);
            let doing = format!("get a token to {}", call.doing);
            Err(Error::Status { doing, registry, status, message, retry_after })
        }
    }
}

/// Registries answer alike for what is not there and for what we may not see.
fn missing_or_private(host: &Host, call: &Call<'_>) -> Error {
    Error::UnknownName { name: format!("{}/{}", host.registry(), call.repository) }
}

/// The first error's code and message, made fit for a terminal.
fn read(answer: Response) -> (String, Option<String>) {
    let body = answer.read_all(MAX_ERROR_BODY).unwrap_or_default();
    let document: Document = json::parse(&body, "an error").unwrap_or_default();
    let (code, message) = match document.errors.into_iter().next() {
        Some(refusal) => (refusal.code, Some(refusal.message)),
        None => (String::new(), document.message),
    };
    (code, message.map(|text| printable(&text)).filter(|text| !text.is_empty()))
}

fn printable(text: &str) -> String {
    let clean = text.chars().take(MAX_MESSAGE);
    clean.map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.header(header::RETRY_AFTER)?;
    text.trim().parse().ok().map(Duration::from_secs)
}
