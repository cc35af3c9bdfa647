//! What a registry's refusal means.

use std::time::Duration;

use serde::Deserialize;

use super::host::{Call, Host};
use crate::{
    Error, Result,
    error::printable,
    json,
    transport::{Method, Response, header},
};

const MAX_ERROR_BODY: u64 = 64 << 10;

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
    // To somebody who only looks, a registry may deny that there is anything to see.
    let is_looking = matches!(call.method, Method::GET | Method::HEAD);
    Err(match status {
        429 => Error::RateLimited { registry, wait: retry_after, with_credentials },
        401 if is_looking && with_authorization && !with_credentials => {
            missing_or_private(host, call)
        }
        401 => Error::Unauthorized { registry, what, with_credentials },
        403 if is_looking && !with_credentials && code != "TOOMANYREQUESTS" => {
            missing_or_private(host, call)
        }
        403 if !with_credentials => Error::Unauthorized { registry, what, with_credentials },
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

/// Seconds, or a date, which counts from the server's own clock: ours may be wrong.
fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.header(header::RETRY_AFTER)?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = answer.header(header::DATE).and_then(date_seconds)?;
    Some(Duration::from_secs(date_seconds(text)?.saturating_sub(now)))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn date_seconds(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = words.as_slice() else { return None };
    let number = |text: &str| text.parse::<u64>().ok().filter(|it| *it < 10_000);
    let month = u64::try_from(MONTHS.iter().position(|it| it == month)?).ok()?;
    let (day, year) = (number(day)?, number(year)?.checked_sub(1970)?);
    // Days before a month of a year that begins in March, when leap days are its last.
    let march_year = if month < 2 { (year + 1970).checked_sub(1)? } else { year + 1970 };
    let march_month = (month + 10) % 12;
    let days = march_year * 365 + march_year / 4 - march_year / 100
        + march_year / 400
        + (march_month * 306 + 5) / 10
        + day;
    // The first of March of the year 0 to the first of January 1970, plus one.
    let days = days.checked_sub(719_469)?;
    Some(days * 86_400 + number(hour)? * 3_600 + number(minute)? * 60 + number(second)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_right() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200)),
            ("soon", None),
            ("Thu, 01 Jan 1969 00:00:00 GMT", None),
        ] {
            assert_eq!(date_seconds(text), seconds, "{text}");
        }
    }
}
