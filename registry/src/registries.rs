//! `registries.conf`, version 2: mirrors, insecure and blocked registries, aliases of short names.
//!
//! See containers-registries.conf(5). Keys that concern other programs are ignored.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{Error, Reference, Result, options::below};

/// Where the settings are; they are read with the first request.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// The first of these that exists is the main file.
    pub files: Vec<PathBuf>,
    /// Directories whose `*.conf` files are laid over the main file, in order.
    pub drop_ins: Vec<PathBuf>,
}

impl Registries {
    pub(crate) fn from_environment(
        variable: &dyn Fn(&str) -> Option<OsString>,
        configuration: Option<&Path>,
    ) -> Self {
        if let Some(only) = variable("CONTAINERS_REGISTRIES_CONF") {
            return Self { files: vec![only.into()], drop_ins: Vec::new() };
        }
        let own = below(configuration, "containers/registries.conf");
        let own_drop_ins = below(configuration, "containers/registries.conf.d");
        Self {
            files: own.into_iter().chain(["/etc/containers/registries.conf".into()]).collect(),
            drop_ins: ["/etc/containers/registries.conf.d".into()]
                .into_iter()
                .chain(own_drop_ins)
                .collect(),
        }
    }

    /// Reads all files. A file that is missing is no error; one that is wrong is.
    pub(crate) fn load(&self) -> Result<Settings> {
        let mut settings = Settings::default();
        for file in &self.files {
            if let Some(text) = read(file)? {
                settings.add(parse(&text, file)?, file);
                break;
            }
        }
        for directory in &self.drop_ins {
            for file in drop_ins(directory)? {
                if let Some(text) = read(&file)? {
                    settings.add(parse(&text, &file)?, &file);
                }
            }
        }
        Ok(settings)
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { doing: "read", path: path.into(), source }),
    }
}

fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::File { doing: "list", path: directory.into(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[derive(Deserialize, Default)]
struct File {
    #[serde(rename = "unqualified-search-registries")]
    search: Option<Vec<String>>,
    #[serde(default, rename = "registry")]
    registries: Vec<Entry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default, rename = "mirror")]
    mirrors: Vec<Mirror>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: PullFromMirror,
}

#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum PullFromMirror {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

fn parse(text: &str, path: &Path) -> Result<File> {
    let refuse = |problem| Error::Configuration { path: path.into(), problem };
    let file: File = toml::from_str(text).map_err(|error| refuse(error.message().to_owned()))?;
    for entry in &file.registries {
        if entry.prefix.is_empty() && entry.location.is_empty() {
            return Err(refuse("a [[registry]] has neither prefix nor location".to_owned()));
        }
        if entry.prefix.starts_with("*.") && !entry.location.is_empty() {
            return Err(refuse(format!("{}: a wildcard cannot have a location", entry.prefix)));
        }
    }
    Ok(file)
}

/// The settings of all files, merged.
#[derive(Default, Debug)]
pub(crate) struct Settings {
    search: Vec<String>,
    registries: Vec<(Entry, PathBuf)>,
    aliases: BTreeMap<String, String>,
}

/// One place to ask for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `host[:port]`
    pub(crate) registry: String,
    pub(crate) repository: String,
    /// Plain HTTP and unknown certificates are accepted here.
    pub(crate) insecure: bool,
    pub(crate) is_mirror: bool,
}

impl Settings {
    fn add(&mut self, file: File, path: &Path) {
        if let Some(search) = file.search {
            self.search = search;
        }
        for mut entry in file.registries {
            if entry.prefix.is_empty() {
                entry.prefix.clone_from(&entry.location);
            }
            self.registries.retain(|(known, _)| known.prefix != entry.prefix);
            self.registries.push((entry, path.to_owned()));
        }
        self.aliases.extend(file.aliases);
    }

    /// The full names that a short name may stand for, in the order to try them.
    pub(crate) fn candidates(&self, name: &Reference) -> Result<Vec<Reference>> {
        let Some(short) = name.short() else { return Ok(vec![name.clone()]) };
        let located = |text: &str| {
            let full: Reference = text.parse()?;
            Ok(name.at(full.registry(), full.repository()))
        };
        if let Some(alias) = self.aliases.get(short) {
            return Ok(vec![located(alias)?]);
        }
        if self.search.is_empty() {
            return Ok(vec![name.clone()]);
        }
        self.search.iter().map(|registry| located(&format!("{registry}/{short}"))).collect()
    }

    /// Mirrors first, the registry itself last.
    pub(crate) fn endpoints(&self, name: &Reference) -> Result<Vec<Endpoint>> {
        let full = name.name();
        let Some((entry, file)) = self.entry_for(&full) else {
            return Ok(vec![endpoint(name.registry(), name.repository(), false, false)]);
        };
        if entry.blocked {
            let registry = entry.prefix.clone();
            return Err(Error::Blocked { registry, file: file.clone() });
        }
        let by_digest = name.digest().is_some();
        let serves = |mirror: &&Mirror| match mirror.pull_from_mirror {
            PullFromMirror::All => by_digest || !entry.mirror_by_digest_only,
            PullFromMirror::DigestOnly => by_digest,
            PullFromMirror::TagOnly => !by_digest,
        };
        let mut endpoints = Vec::new();
        for mirror in entry.mirrors.iter().filter(serves) {
            endpoints.push(relocate(
                &full,
                &entry.prefix,
                &mirror.location,
                mirror.insecure,
                true,
            )?);
        }
        let location = if entry.location.is_empty() { &entry.prefix } else { &entry.location };
        endpoints.push(if entry.prefix.starts_with("*.") {
            endpoint(name.registry(), name.repository(), entry.insecure, false)
        } else {
            relocate(&full, &entry.prefix, location, entry.insecure, false)?
        });
        Ok(endpoints)
    }

    /// The entry with the longest prefix wins.
    fn entry_for(&self, full: &str) -> Option<&(Entry, PathBuf)> {
        let fits = |(entry, _): &&(Entry, PathBuf)| matches_prefix(full, &entry.prefix);
        self.registries.iter().filter(fits).max_by_key(|(entry, _)| entry.prefix.len())
    }
}

fn endpoint(registry: &str, repository: &str, insecure: bool, is_mirror: bool) -> Endpoint {
    let (registry, repository) = (registry.to_owned(), repository.to_owned());
    Endpoint { registry, repository, insecure, is_mirror }
}

fn matches_prefix(full: &str, prefix: &str) -> bool {
    if let Some(suffix) = prefix.strip_prefix('*') {
        let host = full.split('/').next().unwrap_or(full);
        return host.split(':').next().unwrap_or(host).ends_with(suffix);
    }
    full.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']))
}

fn relocate(
    full: &str,
    prefix: &str,
    location: &str,
    insecure: bool,
    is_mirror: bool,
) -> Result<Endpoint> {
    let rest = if prefix.starts_with("*.") {
        full.find('/').and_then(|slash| full.get(slash..)).unwrap_or_default()
    } else {
        full.strip_prefix(prefix).unwrap_or_default()
    };
    let moved: Reference = format!("{location}{rest}").parse()?;
    Ok(endpoint(moved.registry(), moved.repository(), insecure, is_mirror))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
        unqualified-search-registries = ["quay.io", "docker.io"]
        [[registry]]
        prefix = "docker.io/library"
        location = "docker.io/library"
        [[registry.mirror]]
        location = "mirror.example.com/hub"
        [[registry.mirror]]
        location = "127.0.0.1:5000/cache"
        insecure = true
        pull-from-mirror = "digest-only"
        [[registry]]
        location = "bad.example.com"
        blocked = true
        [[registry]]
        prefix = "*.lab.example.com"
        insecure = true
        [aliases]
        "debian" = "docker.io/library/debian"
    "#;

    fn settings(text: &str) -> Settings {
        let mut settings = Settings::default();
        settings.add(parse(text, Path::new("x")).unwrap(), Path::new("x"));
        settings
    }

    fn places(name: &str) -> Vec<String> {
        let endpoints = settings(SAMPLE).endpoints(&name.parse().unwrap()).unwrap();
        endpoints.iter().map(|it| format!("{}/{}", it.registry, it.repository)).collect()
    }

    #[test]
    fn mirrors_come_first_and_keep_the_rest_of_the_name() {
        assert_eq!(places("debian"), ["mirror.example.com/hub/debian", "docker.io/library/debian"]);
        let by_digest = format!("debian@sha256:{}", "a".repeat(64));
        assert_eq!(places(&by_digest).len(), 3);
        assert_eq!(places("user/app"), ["docker.io/user/app"]);
    }

    #[test]
    fn blocked_and_insecure_follow_the_longest_prefix() {
        let settings = settings(SAMPLE);
        let blocked = settings.endpoints(&"bad.example.com/x".parse().unwrap());
        assert!(matches!(blocked, Err(Error::Blocked { .. })));
        let lab = settings.endpoints(&"a.lab.example.com:5000/x".parse().unwrap()).unwrap();
        assert!(lab[0].insecure);
        assert!(settings.endpoints(&"bad.example.community/x".parse().unwrap()).is_ok());
    }

    #[test]
    fn short_names_have_aliases_and_search_registries() {
        let names = |text: &str| -> Vec<String> {
            let candidates = settings(SAMPLE).candidates(&text.parse().unwrap()).unwrap();
            candidates.iter().map(Reference::to_string).collect()
        };
        assert_eq!(names("debian:jessie"), ["docker.io/library/debian:jessie"]);
        assert_eq!(names("foo"), ["quay.io/foo:latest", "docker.io/library/foo:latest"]);
        assert_eq!(names("docker.io/foo"), ["docker.io/library/foo:latest"]);
    }

    #[test]
    fn wrong_files_are_errors_and_later_files_win() {
        assert!(parse("[[registry]]\nblocked = true", Path::new("x")).is_err());
        assert!(parse("registry = 3", Path::new("x")).is_err());
        let mut settings = settings(SAMPLE);
        let later = "[[registry]]\nlocation = \"bad.example.com\"";
        settings.add(parse(later, Path::new("y")).unwrap(), Path::new("y"));
        assert!(settings.endpoints(&"bad.example.com/x".parse().unwrap()).is_ok());
    }
}
