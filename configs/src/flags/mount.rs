//! `-v`, `--mount` and `--tmpfs`.

use std::{path::PathBuf, str::FromStr};

use super::{BadValue, Bytes, bad};
use crate::Propagation;

/// One thing to mount, whichever flag asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountFlag {
    /// A directory or file of the host, or a named or nameless volume.
    Volume(Volume),
    /// A new memory filesystem.
    Tmpfs(Tmpfs),
}

/// Something of the host's shown in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What is shown.
    pub source: VolumeSource,
    /// Absolute path inside.
    pub destination: PathBuf,
    /// Read-only, with everything below.
    pub read_only: bool,
    /// With what is mounted below the source.
    pub recursive: bool,
    /// `rprivate` unless another is asked for.
    pub propagation: Option<(Propagation, bool)>,
    /// Make a missing source directory (`-v`); `--mount` wants it to exist.
    pub create_source: bool,
    /// `z` or `Z` was given.
    pub relabel: bool,
}

/// What a volume shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A path, absolute or relative to the caller's directory.
    Path(PathBuf),
    /// A volume by name.
    Name(String),
    /// A volume that goes when the container goes.
    Anonymous,
}

/// A memory filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute path inside.
    pub destination: PathBuf,
    /// Option words, added to `nosuid,nodev,noexec`.
    pub options: Vec<String>,
}

/// `-v [SOURCE:]DESTINATION[:OPTIONS]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFlag(pub Volume);

/// `--tmpfs DESTINATION[:OPTIONS]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TmpfsFlag(pub Tmpfs);

/// A path inside the container that may be mounted on.
fn destination(text: &str) -> Result<PathBuf, BadValue> {
    if !text.starts_with('/') {
        return bad(format!("{text:?}: the place in the container must be an absolute path"));
    }
    if text.split('/').all(|part| matches!(part, "" | "." | "..")) {
        return bad("nothing can be mounted over the container's root");
    }
    Ok(text.into())
}

/// A path begins with `/` or `.`; anything else is a volume's name, as docker has it.
fn source(text: &str) -> Result<VolumeSource, BadValue> {
    if text.starts_with(['/', '.']) {
        return Ok(VolumeSource::Path(text.into()));
    }
    let good = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if text.is_empty() || !good {
        return bad(format!("{text:?} is neither a path (./ or /) nor a volume's name"));
    }
    Ok(VolumeSource::Name(text.to_owned()))
}

fn propagation(word: &str) -> Option<(Propagation, bool)> {
    Some(match word {
        "private" => (Propagation::Private, false),
        "rprivate" => (Propagation::Private, true),
        "slave" => (Propagation::Slave, false),
        "rslave" => (Propagation::Slave, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        _ => return None,
    })
}

impl FromStr for VolumeFlag {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let (from, to, options) = match parts[..] {
            [to] => (VolumeSource::Anonymous, to, ""),
            [from, to] => (source(from)?, to, ""),
            [from, to, options] => (source(from)?, to, options),
            _ => return bad(format!("{text:?} is not [SOURCE:]DESTINATION[:OPTIONS]")),
        };
        let mut volume = Volume {
            source: from,
            destination: destination(to)?,
            read_only: false,
            recursive: true,
            propagation: None,
            create_source: true,
            relabel: false,
        };
        for word in options.split(',').filter(|word| !word.is_empty()) {
            match word {
                "ro" => volume.read_only = true,
                "rw" => volume.read_only = false,
                "z" | "Z" => volume.relabel = true,
                // What macOS' file sharing may cache, and whether a new volume starts as a copy of
                // what it covers: neither changes anything here, volumes start empty (D-12).
                "nocopy" | "consistent" | "cached" | "delegated" => (),
                _ => match propagation(word) {
                    Some(wanted) => volume.propagation = Some(wanted),
                    None => return bad(format!("no such volume option {word:?}")),
                },
            }
        }
        Ok(Self(volume))
    }
}

impl FromStr for TmpfsFlag {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (to, options) = text.split_once(':').unwrap_or((text, ""));
        let options = options.split(',').filter(|word| !word.is_empty()).map(str::to_owned);
        Ok(Self(Tmpfs { destination: destination(to)?, options: options.collect() }))
    }
}

/// The keys of one `--mount`, before they are known to fit together.
#[derive(Default)]
struct Keys<'t> {
    kind: Option<&'t str>,
    source: Option<&'t str>,
    destination: Option<&'t str>,
    read_only: bool,
    propagation: Option<(Propagation, bool)>,
    non_recursive: bool,
    create_source: bool,
    tmpfs: Vec<String>,
}

impl FromStr for MountFlag {
    type Err = BadValue;

    /// `type=bind|volume|tmpfs,source=…,destination=…[,readonly][,…]`
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fields = fields(text)?;
        let mut keys = Keys::default();
        for field in &fields {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            keys.set(key, value)?;
        }
        keys.mount()
    }
}

/// The fields of a line of comma-separated values: one in double quotes may hold commas, and quotes twice.
fn fields(text: &str) -> Result<Vec<String>, BadValue> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if is_quoted || field.is_empty() => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(letter),
        }
    }
    if is_quoted {
        return bad(format!("{text:?} has a quote without an end"));
    }
    fields.push(field);
    Ok(fields)
}

fn boolean(key: &str, value: &str) -> Result<bool, BadValue> {
    match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => bad(format!("{key}={value}: neither true nor false")),
    }
}

impl<'t> Keys<'t> {
    fn set(&mut self, key: &'t str, value: &'t str) -> Result<(), BadValue> {
        match key {
            "type" => self.kind = Some(value),
            "source" | "src" => self.source = Some(value),
            "destination" | "dst" | "target" => self.destination = Some(value),
            "readonly" | "ro" => self.read_only = boolean(key, value)?,
            "bind-propagation" => match propagation(value) {
                Some(wanted) => self.propagation = Some(wanted),
                None => return bad(format!("no such propagation {value:?}")),
            },
            "bind-nonrecursive" => self.non_recursive = boolean(key, value)?,
            "bind-recursive" => match value {
                "enabled" | "readonly" => self.non_recursive = false,
                "disabled" => self.non_recursive = true,
                _ => {
                    return bad(format!(
                        "bind-recursive is enabled, disabled or readonly, not {value:?}"
                    ));
                }
            },
            "tmpfs-size" => self.tmpfs.push(format!("size={}", value.parse::<Bytes>()?.0)),
            "tmpfs-mode" if u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777) => {
                self.tmpfs.push(format!("mode={value}"));
            }
            "bind-create-src" => self.create_source = boolean(key, value)?,
            // See the options of `-v`; and "local" is where every volume is.
            "consistency" | "volume-nocopy" => (),
            "volume-driver" if value == "local" => (),
            _ => return bad(format!("--mount cannot take {key}={value}")),
        }
        Ok(())
    }

    fn mount(self) -> Result<MountFlag, BadValue> {
        let Some(to) = self.destination else { return bad("--mount needs a destination") };
        let destination = destination(to)?;
        let source = match (self.kind.unwrap_or("volume"), self.source.unwrap_or_default()) {
            ("bind", "") => return bad("a bind mount needs a source"),
            ("bind", path) => VolumeSource::Path(path.into()),
            ("volume", "") => VolumeSource::Anonymous,
            ("volume", name) => match source(name)? {
                VolumeSource::Path(_) => return bad(format!("{name:?} is a path: use type=bind")),
                named => named,
            },
            ("tmpfs", "") => {
                let mut options = self.tmpfs;
                if self.read_only {
                    options.push("ro".to_owned());
                }
                return Ok(MountFlag::Tmpfs(Tmpfs { destination, options }));
            }
            ("tmpfs", _) => return bad("a tmpfs has no source"),
            (other, _) => return bad(format!("no such mount type {other:?}")),
        };
        if !self.tmpfs.is_empty() {
            return bad("tmpfs-size and tmpfs-mode need type=tmpfs");
        }
        Ok(MountFlag::Volume(Volume {
            source,
            destination,
            read_only: self.read_only,
            recursive: !self.non_recursive,
            propagation: self.propagation,
            create_source: self.create_source,
            relabel: false,
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]
    use super::*;

    #[test]
    fn a_volume_has_a_source_a_destination_and_options() {
        let VolumeFlag(volume) = "/a:/b:ro,rslave,z".parse().unwrap();
        assert_eq!(volume.source, VolumeSource::Path("/a".into()));
        assert_eq!(volume.destination, PathBuf::from("/b"));
        assert!(volume.read_only && volume.relabel && volume.recursive && volume.create_source);
        assert_eq!(volume.propagation, Some((Propagation::Slave, true)));

        let source = |text: &str| text.parse::<VolumeFlag>().map(|VolumeFlag(it)| it.source);
        assert_eq!(source("/data"), Ok(VolumeSource::Anonymous));
        assert_eq!(source("data:/data"), Ok(VolumeSource::Name("data".to_owned())));
        assert_eq!(source("./data:/data"), Ok(VolumeSource::Path("./data".into())));
        for text in
            ["", "data", "/a:b", "/a:/", "/a:/..", "/a:/b:rx", "/a:/b:ro:z", "a/b:/c", ":/b"]
        {
            assert!(source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mount_names_its_parts() {
        let parse = str::parse::<MountFlag>;
        let MountFlag::Volume(volume) =
            parse("type=bind,src=/a,target=/b,readonly,bind-recursive=disabled").unwrap()
        else {
            panic!("a bind is a volume");
        };
        assert!(volume.read_only && !volume.recursive && !volume.create_source);
        let MountFlag::Volume(volume) =
            parse("type=bind,\"src=/a, or \"\"b\"\"\",dst=/b,bind-create-src").unwrap()
        else {
            panic!("a bind is a volume");
        };
        assert_eq!(volume.source, VolumeSource::Path("/a, or \"b\"".into()));
        assert!(volume.create_source);
        let tmpfs = parse("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777").unwrap();
        let options = vec!["size=1048576".to_owned(), "mode=1777".to_owned()];
        assert_eq!(tmpfs, MountFlag::Tmpfs(Tmpfs { destination: "/t".into(), options }));
        for text in [
            "",
            "type=bind,src=/a",
            "type=bind,\"src=/a,dst=/b",
            "type=bind,dst=/a",
            "type=bind,src=/a,dst=/b,readonly=perhaps",
            "type=volume,src=/a,dst=/b",
            "type=tmpfs,src=x,dst=/b",
            "type=npipe,src=x,dst=/b",
            "type=bind,src=/a,dst=/b,tmpfs-size=1m",
            "type=tmpfs,dst=/b,tmpfs-mode=9",
            "type=bind,src=/a,dst=/b,volume-driver=x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_tmpfs_has_option_words() {
        let TmpfsFlag(tmpfs) = "/run:size=1m,exec".parse().unwrap();
        assert_eq!(tmpfs.options, ["size=1m", "exec"]);
        assert!("run".parse::<TmpfsFlag>().is_err());
    }
}
