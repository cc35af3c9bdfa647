//! Credential helpers: programs called `docker-credential-NAME` that keep logins in a safer place.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

use serde::Deserialize;
use serde_json::json;

use super::Login;
use crate::{Error, Result, Secret, json};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks a helper for a login; `None` when it has none.
pub(super) fn get(name: &str, server: &str) -> Result<Option<Login>> {
    let output = run(name, "get", server.as_bytes())?;
    if !output.success {
        // The protocol has no exit codes: this text is what every helper prints for "none".
        if output.text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(name, output.text.trim()));
    }
    let answer: Answer = json::parse(output.text.as_bytes(), "the answer")
        .map_err(|_| failed(name, "its answer is malformed"))?;
    let secret = Secret::new(answer.secret);
    Ok(Some(match answer.username.as_str() {
        "<token>" => Login::IdentityToken(secret),
        _ => Login::Password { user: answer.username, password: secret },
    }))
}

/// Hands a login to a helper.
pub(super) fn store(name: &str, server: &str, login: &Login) -> Result<()> {
    let (user, secret) = match login {
        Login::Password { user, password } => (user.as_str(), password),
        Login::IdentityToken(token) => ("<token>", token),
    };
    let entry = json!({"ServerURL": server, "Username": user, "Secret": secret.expose()});
    succeed(name, "store", entry.to_string().as_bytes())
}

/// Has a helper forget a login.
pub(super) fn erase(name: &str, server: &str) -> Result<()> {
    succeed(name, "erase", server.as_bytes())
}

fn succeed(name: &str, verb: &str, input: &[u8]) -> Result<()> {
    let output = run(name, verb, input)?;
    if output.success { Ok(()) } else { Err(failed(name, output.text.trim())) }
}

struct Output {
    success: bool,
    text: String,
}

#[allow(clippy::disallowed_methods, reason = "the user's own auth file names the program")]
/// Runs a helper. The name comes from the user's own file, but must still be one plain word.
fn run(name: &str, verb: &str, input: &[u8]) -> Result<Output> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(failed(name, "that is no name of a helper"));
    }
    let run = || -> io::Result<Output> {
        let mut child = Command::new(format!("docker-credential-{name}"))
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input)?;
        }
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Output { success: output.status.success(), text })
    };
    run().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => failed(name, "the program is not installed"),
        _ => failed(name, &error.to_string()),
    })
}

fn failed(name: &str, problem: &str) -> Error {
    Error::Helper { name: name.to_owned(), problem: problem.to_owned() }
}
