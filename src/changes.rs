//! What turns a container into an image besides its files: Dockerfile instructions, times, the platform.

use std::{
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use registry::Platform;
use serde_json::{Map, Value, json};

use crate::{home, timestamp};

/// One instruction that changes how containers of an image run, as `--change` takes them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// A key of the configuration gets this value.
    Set(&'static str, Value),
    /// These variables are set.
    Env(Vec<(String, String)>),
    /// A key that holds a map gets these entries.
    Add(&'static str, Vec<(String, Value)>),
    /// A key that holds a list gets this item.
    Append(&'static str, Value),
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (word, rest) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{text:?} is no instruction with a value"))?;
        let rest = rest.trim();
        let keys = |value: Value| {
            rest.split_whitespace().map(|key| (key.to_owned(), value.clone())).collect()
        };
        Ok(match word.to_ascii_uppercase().as_str() {
            "CMD" => Self::Set("Cmd", command(rest)),
            "ENTRYPOINT" => Self::Set("Entrypoint", command(rest)),
            "USER" => Self::Set("User", json!(rest)),
            "WORKDIR" => Self::Set("WorkingDir", json!(rest)),
            "STOPSIGNAL" => Self::Set("StopSignal", json!(rest)),
            "ONBUILD" => Self::Append("OnBuild", json!(rest)),
            "ENV" => Self::Env(pairs(rest)?),
            "LABEL" => {
                let labels = pairs(rest)?.into_iter().map(|(key, value)| (key, json!(value)));
                Self::Add("Labels", labels.collect())
            }
            "EXPOSE" => {
                let port = |port: &str| match port.contains('/') {
                    true => port.to_owned(),
                    false => format!("{port}/tcp"),
                };
                let ports = rest.split_whitespace().map(|text| (port(text), json!({})));
                Self::Add("ExposedPorts", ports.collect())
            }
            "VOLUME" => match serde_json::from_str::<Vec<String>>(rest) {
                Ok(paths) => {
                    Self::Add("Volumes", paths.into_iter().map(|path| (path, json!({}))).collect())
                }
                Err(_) => Self::Add("Volumes", keys(json!({}))),
            },
            "HEALTHCHECK" => Self::Set("Healthcheck", health(rest)?),
            other => return Err(format!("{other} is no instruction that changes a configuration")),
        })
    }
}

impl Change {
    /// Changes a configuration.
    pub(crate) fn apply(&self, config: &mut Map<String, Value>) {
        match self {
            Self::Set(key, value) => {
                config.insert((*key).to_owned(), value.clone());
            }
            Self::Append(key, value) => {
                let list = config.entry(*key).or_insert(Value::Null);
                match list {
                    Value::Array(items) => items.push(value.clone()),
                    other => *other = json!([value]),
                }
            }
            Self::Add(key, entries) => {
                let map = config.entry(*key).or_insert(Value::Null);
                if !map.is_object() {
                    *map = json!({});
                }
                if let Value::Object(map) = map {
                    map.extend(entries.iter().cloned());
                }
            }
            Self::Env(variables) => {
                let list = config.entry("Env").or_insert(Value::Null);
                let mut known: Vec<String> =
                    serde_json::from_value(list.take()).unwrap_or_default();
                for (name, value) in variables {
                    let start = format!("{name}=");
                    let entry = format!("{start}{value}");
                    match known.iter_mut().find(|known| known.starts_with(&start)) {
                        Some(known) => *known = entry,
                        None => known.push(entry),
                    }
                }
                *list = json!(known);
            }
        }
    }
}

/// `["a", "b"]` as it is; anything else is for a shell.
fn command(text: &str) -> Value {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) => json!(words),
        Err(_) => json!(["/bin/sh", "-c", text]),
    }
}

/// `A=1 B="2 3"`, or the old `A 1 2 3`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words(text)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(format!("{word:?} is not NAME=VALUE")),
        })
        .collect()
}

/// Splits at white space, except within quotes or behind a backslash.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote, mut is_word) = (Vec::new(), String::new(), None, false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => word.extend(letters.next()),
            (_, Some(open)) if letter == open => quote = None,
            (_, Some(_)) => word.push(letter),
            ('"' | '\'', None) => quote = Some(letter),
            (_, None) if letter.is_whitespace() => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
                continue;
            }
            (_, None) => word.push(letter),
        }
        is_word = true;
    }
    if quote.is_some() {
        return Err(format!("{text:?} has a quote without its end"));
    }
    if is_word {
        words.push(word);
    }
    Ok(words)
}

/// `NONE`, or `[--interval=30s …] CMD …`
fn health(text: &str) -> Result<Value, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(json!({ "Test": ["NONE"] }));
    }
    let mut health = Map::new();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (key, value) = flag.split_once('=').ok_or_else(|| format!("--{flag} has no value"))?;
        let (key, value) = match key {
            "interval" => ("Interval", json!(nanoseconds(value)?)),
            "timeout" => ("Timeout", json!(nanoseconds(value)?)),
            "start-period" => ("StartPeriod", json!(nanoseconds(value)?)),
            "start-interval" => ("StartInterval", json!(nanoseconds(value)?)),
            "retries" => {
                ("Retries", json!(value.parse::<u32>().map_err(|error| error.to_string())?))
            }
            _ => return Err(format!("HEALTHCHECK has no --{key}")),
        };
        health.insert(key.to_owned(), value);
        rest = after.trim_start();
    }
    let command = rest.strip_prefix("CMD").ok_or("HEALTHCHECK needs CMD or NONE")?.trim();
    let test = match serde_json::from_str::<Vec<String>>(command) {
        Ok(words) => json!([vec!["CMD".to_owned()], words].concat()),
        Err(_) => json!(["CMD-SHELL", command]),
    };
    health.insert("Test".to_owned(), test);
    Ok(Value::Object(health))
}

/// `1m30s` in the unit of a configuration.
fn nanoseconds(text: &str) -> Result<u64, String> {
    let (mut total, mut number) = (0_u64, String::new());
    let bad = || format!("{text:?} is no time such as 1m30s");
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_ascii_digit() {
            number.push(letter);
            continue;
        }
        let unit = match (letter, letters.peek()) {
            ('m', Some('s')) => {
                letters.next();
                1_000_000
            }
            ('h', _) => 3_600_000_000_000,
            ('m', _) => 60_000_000_000,
            ('s', _) => 1_000_000_000,
            _ => return Err(bad()),
        };
        let count: u64 = std::mem::take(&mut number).parse().map_err(|_| bad())?;
        total = count.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
    }
    if number.is_empty() && total > 0 { Ok(total) } else { Err(bad()) }
}

/// The moment an image shall claim to be from: asked for, or given by the environment so that builds can
/// be repeated.
pub(crate) fn moment(asked: Option<u64>) -> anyhow::Result<Option<u64>> {
    if asked.is_some() {
        return Ok(asked);
    }
    let Some(text) = home::variable("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let text = text.to_string_lossy();
    let seconds = text.parse();
    seconds.map(Some).with_context(|| format!("SOURCE_DATE_EPOCH={text} is no number of seconds"))
}

/// That moment, or now, as documents write it.
pub(crate) fn created(seconds: Option<u64>) -> String {
    let moment = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    timestamp::rfc3339(moment.unwrap_or_else(SystemTime::now))
}

/// This machine's, for images that are based on none.
pub(crate) fn platform() -> (String, String) {
    let platform = Platform::default();
    (platform.os, platform.architecture)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[track_caller]
    fn check(instruction: &str, expected: &Value) {
        let mut config = json!({ "Env": ["A=0", "PATH=/bin"], "Labels": null });
        let change: Change = instruction.parse().unwrap();
        change.apply(config.as_object_mut().unwrap());
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&config[key], value, "{instruction}");
        }
    }

    #[test]
    fn instructions_change_the_configuration() {
        check(r#"CMD ["a", "b c"]"#, &json!({ "Cmd": ["a", "b c"] }));
        check("cmd echo hi", &json!({ "Cmd": ["/bin/sh", "-c", "echo hi"] }));
        check("ENV A=1 B='2 3'", &json!({ "Env": ["A=1", "PATH=/bin", "B=2 3"] }));
        check("ENV A 1 2", &json!({ "Env": ["A=1 2", "PATH=/bin"] }));
        check("LABEL a=b", &json!({ "Labels": { "a": "b" } }));
        check("EXPOSE 80 53/udp", &json!({ "ExposedPorts": { "80/tcp": {}, "53/udp": {} } }));
        check("VOLUME /a /b", &json!({ "Volumes": { "/a": {}, "/b": {} } }));
        check("WORKDIR /x", &json!({ "WorkingDir": "/x" }));
        let health = json!({ "Interval": 90_000_000_000_u64, "Test": ["CMD-SHELL", "true"] });
        check("HEALTHCHECK --interval=1m30s CMD true", &json!({ "Healthcheck": health }));
    }

    #[test]
    fn what_is_no_instruction_is_refused() {
        for text in ["", "CMD", "RUN make", "ENV", "ENV =x", "LABEL a='b", "HEALTHCHECK x"] {
            assert!(text.parse::<Change>().is_err(), "{text}");
        }
    }
}
