//! Auth files: podman's `auth.json` and docker's `config.json`, which share a format.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Login, helper};
use crate::{Error, Result, Secret, json};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

pub(super) fn find(path: &Path, registry: &str, repository: &str) -> Result<Option<Login>> {
    let Some(file) = read(path)? else { return Ok(None) };
    if let Some(name) = file.cred_helpers.get(registry).filter(|name| !name.is_empty()) {
        return helper::get(name, &server_name(registry));
    }
    if let Some(name) = file.creds_store.as_ref().filter(|name| !name.is_empty())
        && let Some(login) = helper::get(name, &server_name(registry))?
    {
        return Ok(Some(login));
    }
    let full = format!("{registry}/{repository}");
    let best = file
        .auths
        .iter()
        .filter(|(key, _)| covers(&normal_key(key), registry, &full))
        .max_by_key(|(key, _)| normal_key(key).len());
    best.map_or(Ok(None), |(_, entry)| login(entry, path))
}

/// The helper that a file names for a registry.
pub(super) fn helper_for(path: &Path, registry: &str) -> Result<Option<String>> {
    let Some(file) = read(path)? else { return Ok(None) };
    let own = file.cred_helpers.get(registry).cloned();
    Ok(own.or(file.creds_store).filter(|name| !name.is_empty()))
}

pub(super) fn store(path: &Path, registry: &str, login: &Login) -> Result<()> {
    let mut document = document(path)?;
    let entry = match login {
        Login::Password { user, password } => {
            json!({"auth": BASE64_STANDARD.encode(format!("{user}:{}", password.expose()))})
        }
        Login::IdentityToken(token) => {
            json!({"auth": BASE64_STANDARD.encode("<token>:"), "identitytoken": token.expose()})
        }
    };
    // Docker looks for its own name of the hub only.
    let is_dockers = path.file_name().is_some_and(|name| name == "config.json");
    let key = if is_dockers { server_name(registry) } else { registry.to_owned() };
    let auths = document.entry("auths").or_insert_with(|| json!({}));
    let auths = auths.as_object_mut().ok_or_else(|| malformed(path))?;
    auths.retain(|known, _| normal_key(known) != registry);
    auths.insert(key, entry);
    write(path, &document)
}

/// Removes the login of a registry; says whether there was one.
pub(super) fn remove(path: &Path, registry: &str) -> Result<bool> {
    let mut document = document(path)?;
    let Some(auths) = document.get_mut("auths").and_then(Value::as_object_mut) else {
        return Ok(false);
    };
    let before = auths.len();
    auths.retain(|known, _| normal_key(known) != registry);
    if auths.len() == before {
        return Ok(false);
    }
    write(path, &document)?;
    Ok(true)
}

/// The whole file, so that what we do not know survives.
fn document(path: &Path) -> Result<Map<String, Value>> {
    match fs::read(path) {
        Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Ok(Map::new()),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| malformed(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(Map::new()),
        Err(source) => Err(Error::File { doing: "read", path: path.into(), source }),
    }
}

/// Replaces the file in one step, readable by its owner only from the first byte on.
fn write(path: &Path, document: &Map<String, Value>) -> Result<()> {
    let failed = |source| Error::File { doing: "write", path: path.into(), source };
    // People keep such files as links into a directory under version control.
    let path = followed(path);
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let partial = directory.join(format!(".auth.{}.partial", std::process::id()));
    // What a killed process with our number left behind.
    let _ = fs::remove_file(&partial);
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(serde_json::to_string_pretty(document)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&partial);
        failed(source)
    })
}

/// The end of a chain of links.
fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..8 {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new(".")).join(target);
    }
    path
}

fn malformed(path: &Path) -> Error {
    let problem = "it is not the JSON of an auth file".to_owned();
    Error::Configuration { path: path.into(), problem }
}

fn read(path: &Path) -> Result<Option<File>> {
    match fs::read(path) {
        Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Ok(None),
        Ok(bytes) => json::parse(&bytes, &path.display().to_string()).map(Some).map_err(|error| {
            // The document's own words might quote a secret.
            log::debug!("{}: malformed", path.display());
            match error {
                Error::Document { .. } => malformed(path),
                other => other,
            }
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Below a file or in another user's runtime directory there is nothing for us.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        Err(source) => Err(Error::File { doing: "read", path: path.into(), source }),
    }
}

/// Docker writes whole URLs for some registries; what counts is the host, and for podman a path.
fn normal_key(key: &str) -> String {
    let is_url = key.contains("://");
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let (host, path) = bare.split_once('/').map_or((bare, ""), |(host, path)| (host, path));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    };
    let path = path.trim_end_matches('/');
    if path.is_empty() || is_url || matches!(path, "v1" | "v2") {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    }
}

fn covers(key: &str, registry: &str, full: &str) -> bool {
    key == registry
        || full.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What docker's helpers call Docker Hub.
pub(super) fn server_name(registry: &str) -> String {
    match registry {
        "docker.io" => "https://index.docker.io/v1/".to_owned(),
        other => other.to_owned(),
    }
}

fn login(entry: &Entry, path: &Path) -> Result<Option<Login>> {
    if let Some(token) = entry.identitytoken.as_ref().filter(|token| !token.is_empty()) {
        return Ok(Some(Login::IdentityToken(Secret::new(token))));
    }
    if let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) {
        let refuse = || Error::Configuration {
            path: path.into(),
            problem: "an \"auth\" is not the base64 of USER:PASSWORD".to_owned(),
        };
        let decoded = BASE64_STANDARD.decode(auth.trim()).map_err(|_| refuse())?;
        let decoded = String::from_utf8(decoded).map_err(|_| refuse())?;
        let (user, password) = decoded.split_once(':').ok_or_else(refuse)?;
        // Docker pads with NUL characters.
        let password = Secret::new(password.trim_end_matches('\0'));
        return Ok(Some(Login::Password { user: user.to_owned(), password }));
    }
    match (&entry.username, &entry.password) {
        (Some(user), Some(password)) => {
            let password = Secret::new(password);
            Ok(Some(Login::Password { user: user.clone(), password }))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_tool_are_understood() {
        for (key, normal) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("http://localhost:5000/v2/", "localhost:5000"),
            ("quay.io/team/app", "quay.io/team/app"),
        ] {
            assert_eq!(normal_key(key), normal);
        }
    }

    #[test]
    fn a_login_covers_its_own_registry_only() {
        assert!(covers("quay.io/team", "quay.io", "quay.io/team/app"));
        assert!(!covers("quay.io/team", "quay.io", "quay.io/teammate/app"));
        assert!(covers("quay.io", "quay.io", "quay.io/x"));
        assert!(!covers("quay.io", "quay.io.evil.com", "quay.io.evil.com/x"));
    }

    #[test]
    fn a_stored_login_is_found_again_and_removed() {
        use std::os::unix::fs::PermissionsExt;
        let directory = std::env::temp_dir().join(format!("registry-auth-{}", std::process::id()));
        let path = directory.join("sub/auth.json");
        let login = Login::Password { user: "u".into(), password: Secret::new("p") };
        store(&path, "docker.io", &login).unwrap();
        let text =
            fs::read_to_string(&path).unwrap().replacen('{', "{\"other\": {\"x\": null},", 1);
        fs::write(&path, text).unwrap();
        store(&path, "quay.io", &login).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(find(&path, "docker.io", "library/x").unwrap(), Some(login));
        assert!(remove(&path, "docker.io").unwrap());
        assert!(!remove(&path, "docker.io").unwrap());
        assert_eq!(find(&path, "docker.io", "library/x").unwrap(), None);
        assert!(find(&path, "quay.io", "x").unwrap().is_some());
        assert!(fs::read_to_string(&path).unwrap().contains("other"));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn auth_is_decoded() {
        let auth = |text: &str| Entry { auth: Some(text.to_owned()), ..Entry::default() };
        let expected = Login::Password { user: "u".into(), password: Secret::new("p:q") };
        assert_eq!(login(&auth("dTpwOnE="), Path::new("x")).unwrap(), Some(expected));
        assert!(login(&auth("!"), Path::new("x")).is_err());
        assert_eq!(login(&Entry::default(), Path::new("x")).unwrap(), None);
    }
}
