//! Challenges and tokens: how a registry wants to be asked, and what we remember of the answer.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

use crate::{
    Result, Secret,
    credentials::Login,
    json,
    transport::{HeaderMap, HeaderValue, header},
};

/// What the specification says a token lives when the server does not.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
const MAX_LIFE: Duration = Duration::from_secs(3600);
/// Tokens are renewed this much earlier, so that none expires on the way.
const MARGIN: Duration = Duration::from_secs(10);

/// What a 401 asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        /// Some registries ask for another scope than the one everybody expects.
        scope: Option<String>,
    },
}

/// The challenges of an answer that we can meet, Bearer first.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE);
    let mut found = Vec::new();
    for value in values.iter().filter_map(|value| value.to_str().ok()) {
        found.extend(parse(value));
    }
    let bearer = found.iter().position(|it| matches!(it, Challenge::Bearer { .. }));
    bearer.or((!found.is_empty()).then_some(0)).map(|index| found.swap_remove(index))
}

/// Splits `Bearer realm="…",scope="a,b", Basic realm=x` (RFC 9110, section 11.6.1).
fn parse(text: &str) -> Vec<Challenge> {
    let mut schemes: Vec<(String, HashMap<String, String>)> = Vec::new();
    let mut rest = text;
    while let Some((word, after)) = token(rest) {
        let after_spaces = after.trim_start();
        match after_spaces.strip_prefix('=') {
            Some(value) => {
                let (value, after) = parameter_value(value.trim_start());
                if let Some((_, parameters)) = schemes.last_mut() {
                    parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                }
                rest = after;
            }
            None => {
                schemes.push((word.to_ascii_lowercase(), HashMap::new()));
                rest = after;
            }
        }
    }
    schemes.into_iter().filter_map(|(scheme, parameters)| known(&scheme, parameters)).collect()
}

fn known(scheme: &str, mut parameters: HashMap<String, String>) -> Option<Challenge> {
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service").filter(|text| !text.is_empty()),
            scope: parameters.remove("scope").filter(|text| !text.is_empty()),
        }),
        _ => None,
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text.find([' ', '\t', ',', '=', '"']).unwrap_or(text.len());
    match end {
        // A stray quote or equals sign: skip it, the header is only a hint.
        0 => text.chars().next().and_then(|first| token(text.get(first.len_utf8()..)?)),
        _ => Some(text.split_at(end)),
    }
}

fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(index + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// What we know about one registry's wishes. Locked while a token is fetched, so that layers fetched in
/// parallel ask for one token and not for one each.
#[derive(Default)]
pub(crate) struct Memory(Mutex<State>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) challenge: Option<Challenge>,
    tokens: HashMap<String, Token>,
}

struct Token {
    secret: Secret,
    expires: Instant,
}

impl Memory {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn token(&self, scope: &str) -> Option<&Secret> {
        let token = self.tokens.get(scope)?;
        (Instant::now() < token.expires).then_some(&token.secret)
    }

    /// Forgets a token that was refused, unless somebody has replaced it meanwhile.
    pub(crate) fn forget(&mut self, scope: &str, refused: Option<&HeaderValue>) {
        let is_it = |token: &Token| {
            refused.is_none_or(|refused| bearer(&token.secret).as_ref() == Some(refused))
        };
        if self.tokens.get(scope).is_some_and(is_it) {
            self.tokens.remove(scope);
        }
    }

    pub(crate) fn remember(&mut self, scope: &str, answer: &[u8]) -> Result<Secret> {
        let (secret, life) = read_token(answer)?;
        let life = life.clamp(Duration::ZERO, MAX_LIFE);
        let expires = Instant::now() + life.saturating_sub(MARGIN.min(life / 2));
        self.tokens.insert(scope.to_owned(), Token { secret: secret.clone(), expires });
        Ok(secret)
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

fn read_token(answer: &[u8]) -> Result<(Secret, Duration)> {
    // The answer is secret, so its parser's words are not repeated.
    let refuse = || crate::Error::Document {
        what: "the token server's answer".to_owned(),
        problem: "there is no token in it".to_owned(),
    };
    let answer: TokenAnswer = json::parse(answer, "the token").map_err(|_| refuse())?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
    let life = answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
    Ok((Secret::new(token.ok_or_else(refuse)?), life))
}

/// `Authorization: Bearer …`; `None` when the token cannot be a header.
pub(crate) fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {}", token.expose()))
}

/// `Authorization: Basic …`, for logins that have a password.
pub(crate) fn basic(login: &Login) -> Option<HeaderValue> {
    match login {
        Login::Password { user, password } => {
            let pair = BASE64_STANDARD.encode(format!("{user}:{}", password.expose()));
            sensitive(&format!("Basic {pair}"))
        }
        Login::IdentityToken(_) => None,
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_split_as_the_rfc_says() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".into(),
            service: Some("registry.docker.io".into()),
            scope: Some("repository:library/debian:pull,push".into()),
        };
        assert_eq!(parse(hub), [expected]);
        assert_eq!(parse("Basic realm=\"a \\\" b\""), [Challenge::Basic]);
        assert_eq!(parse("Negotiate, Basic realm=x, BEARER realm=y").len(), 2);
        assert_eq!(parse("Bearer service=x"), []);
        for odd in ["", ",,,", "=", "\"\"", "Bearer realm=\"", "\u{1}=\u{2}"] {
            parse(odd);
        }
    }

    #[test]
    fn bearer_is_preferred() {
        let mut headers = HeaderMap::new();
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=x"));
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=y"));
        assert!(matches!(challenge(&headers), Some(Challenge::Bearer { .. })));
    }

    #[test]
    fn tokens_expire_and_are_forgotten() {
        let mut state = State::default();
        state.remember("a", br#"{"token":"t","expires_in":300}"#).unwrap();
        assert_eq!(state.token("a").unwrap().expose(), "t");
        state.forget("a", Some(&HeaderValue::from_static("Bearer other")));
        assert!(state.token("a").is_some());
        state.forget("a", Some(&HeaderValue::from_static("Bearer t")));
        assert!(state.token("a").is_none());
        state.remember("b", br#"{"access_token":"t","expires_in":0}"#).unwrap();
        assert!(state.token("b").is_none());
        let error = state.remember("c", br#"{"token":hunter2}"#).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
