//! What is kept on disk about each container: what `ps -a`, `inspect`, `diff`, `commit` and `rm` need.
//!
//! `records/ID/journal` is a journal of JSON lines: the container as it was made, then what happened to
//! it. Whoever runs the container in the foreground holds a lock on the journal, so `wait` needs no
//! polling: it waits for the lock and reads on, even when `--rm` has taken the name away meanwhile.
//! `names/NAME` is a symbolic link whose text is the container's id: made in one atomic step (D-55), and
//! never half-written.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, bail};
use runtime::ContainerId;
use serde::{Deserialize, Serialize};

use crate::{
    home::{Home, make_private_directory},
    report::advise,
    streams::{Stream, Streams},
    timestamp, words,
};

/// The journal's file name.
const JOURNAL: &str = "journal";

/// Larger than any record: labels and environment of an image are limited with its configuration.
const MAX_JOURNAL: u64 = 32 << 20;

/// A container as it was made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    /// What it was called at first; see [`Container::name`].
    pub(crate) name: String,
    /// When, RFC 3339.
    pub(crate) created: String,
    /// Where its root came from.
    pub(crate) origin: Origin,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// `-t`
    pub(crate) terminal: bool,
    /// `-i`
    pub(crate) interactive: bool,
    /// `-a`
    #[serde(default)]
    pub(crate) attach: Vec<Stream>,
    /// `--init`
    pub(crate) init: bool,
    /// `--rm`
    pub(crate) remove: bool,
    /// Labels of the image and of the command line.
    pub(crate) labels: BTreeMap<String, String>,
    /// What `stop` sends.
    pub(crate) stop_signal: Option<String>,
    /// How many seconds `stop` waits before it kills.
    #[serde(default)]
    pub(crate) stop_timeout: Option<u64>,
    /// The image's configuration with the command line's changes: what `commit` starts from.
    pub(crate) config: serde_json::Value,
}

impl Record {
    /// What its program gets to read and write.
    pub(crate) fn streams(&self) -> Streams {
        let (interactive, terminal) = (self.interactive, self.terminal);
        Streams { interactive, terminal, attach: self.attach.clone() }
    }
}

/// Where a container's root came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// An image, by the name used and by its id.
    Image { name: String, id: String },
    /// A directory of the host, with changes kept apart.
    Sandbox(PathBuf),
    /// A directory of the host itself.
    Directory(PathBuf),
}

impl Default for Origin {
    fn default() -> Self {
        Self::Directory(PathBuf::from("/"))
    }
}

/// One later line of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Its program was started.
    Started { at: String },
    /// Its program ended.
    Finished { at: String, code: u8 },
    /// It is called something else now.
    Renamed { name: String },
}

/// A container on disk.
#[derive(Debug)]
pub(crate) struct Container {
    /// As made.
    pub(crate) record: Record,
    /// What happened, oldest first.
    pub(crate) events: Vec<Event>,
    directory: PathBuf,
    journal: File,
}

impl Container {
    /// Makes a container's directory, journal and name; the caller holds its lock as long as it keeps
    /// the result.
    pub(crate) fn create(home: &Home, record: Record, name: Option<&str>) -> anyhow::Result<Self> {
        let directory = home.records().join(&record.id);
        make_private_directory(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let container = Self::write_new(directory.clone(), record)?;
        if let Some(name) = name
            && let Err(error) = claim(home, name, &container.record.id)
        {
            // The name's holder is what the user must hear of; the directory has nobody's data yet.
            let _ = fs::remove_dir_all(&directory);
            return Err(error);
        }
        Ok(container)
    }

    fn write_new(directory: PathBuf, record: Record) -> anyhow::Result<Self> {
        let path = directory.join(JOURNAL);
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        let open = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            options.read(true).append(true).create_new(true).mode(0o600);
            let mut journal = options.open(&path)?;
            journal.lock()?;
            journal.write_all(&line)?;
            Ok(journal)
        };
        let journal = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { record, events: Vec::new(), directory, journal })
    }

    /// Reads the container in a directory; `None` when it has just been removed.
    fn load(directory: PathBuf) -> anyhow::Result<Option<Self>> {
        let path = directory.join(JOURNAL);
        let mut journal = match OpenOptions::new().read(true).append(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let mut text = String::new();
        (&mut journal)
            .take(MAX_JOURNAL)
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let record = serde_json::from_str(first)
            .with_context(|| format!("{} is damaged", path.display()))?;
        // A line cut short by a crash says nothing; what came before it still holds.
        let events = lines.map_while(|line| serde_json::from_str(line).ok()).collect();
        Ok(Some(Self { record, events, directory, journal }))
    }

    /// Notes what happened.
    pub(crate) fn append(&mut self, event: Event) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&event)?;
        line.push(b'\n');
        self.journal
            .write_all(&line)
            .with_context(|| format!("cannot write {}", self.directory.join(JOURNAL).display()))?;
        self.events.push(event);
        Ok(())
    }

    /// Its own directory: `hosts` and the other files shown in the container are here.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its name at the runtime.
    pub(crate) fn id(&self) -> anyhow::Result<ContainerId> {
        Ok(self.record.id.parse()?)
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        let renamed = self.events.iter().rev().find_map(|event| match event {
            Event::Renamed { name } => Some(name),
            _ => None,
        });
        renamed.unwrap_or(&self.record.name)
    }

    /// How its program ended the last time, if it has.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        self.last().and_then(|event| match event {
            Event::Finished { code, .. } => Some(*code),
            _ => None,
        })
    }

    /// When its program was started and when it ended.
    pub(crate) fn times(&self) -> (Option<&str>, Option<&str>) {
        let started = self.events.iter().rev().find_map(|event| match event {
            Event::Started { at } => Some(at.as_str()),
            _ => None,
        });
        let finished = self.last().and_then(|event| match event {
            Event::Finished { at, .. } => Some(at.as_str()),
            _ => None,
        });
        (started, finished)
    }

    fn last(&self) -> Option<&Event> {
        self.events.iter().rev().find(|event| !matches!(event, Event::Renamed { .. }))
    }

    /// Takes the lock of whoever runs it, or says that somebody does.
    pub(crate) fn lock(&self) -> anyhow::Result<()> {
        match self.journal.try_lock() {
            Ok(()) => Ok(()),
            Err(fs::TryLockError::WouldBlock) => bail!("container {} is running", self.name()),
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock container {}", self.name()))
            }
        }
    }

    /// Whether a `run` in some terminal is looking after it.
    pub(crate) fn is_attended(&self) -> bool {
        match self.journal.try_lock_shared() {
            Ok(()) => {
                // Cannot fail: the lock is ours, and the next line of ours that needs it asks again.
                let _ = self.journal.unlock();
                false
            }
            Err(fs::TryLockError::WouldBlock) => true,
            Err(fs::TryLockError::Error(_)) => false,
        }
    }

    /// Waits until nobody runs it any more, and reads how it ended.
    pub(crate) fn wait(&mut self) -> anyhow::Result<Option<u8>> {
        self.journal.lock_shared().context("cannot wait for the container")?;
        let mut text = String::new();
        self.journal.read_to_string(&mut text).context("cannot read the container's record")?;
        self.events.extend(text.lines().map_while(|line| serde_json::from_str(line).ok()));
        Ok(self.exit_code())
    }

    /// Gives it another name.
    pub(crate) fn rename(&mut self, home: &Home, name: &str) -> anyhow::Result<()> {
        claim(home, name, &self.record.id)?;
        let old = home.names().join(self.name());
        self.append(Event::Renamed { name: name.to_owned() })?;
        release(&old, &self.record.id)
    }

    /// Forgets it: the name first, so that a name never stands for nothing.
    pub(crate) fn remove(self, home: &Home) -> anyhow::Result<()> {
        release(&home.names().join(self.name()), &self.record.id)?;
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Now, as records write it.
pub(crate) fn now() -> String {
    timestamp::rfc3339(SystemTime::now())
}

/// A new id, and the name a container with it gets when nobody says otherwise.
pub(crate) fn new_id() -> anyhow::Result<(String, String)> {
    let mut random = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .context("cannot read /dev/urandom")?;
    let mut id = String::with_capacity(64);
    for byte in random {
        id.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        id.push(char::from_digit(u32::from(byte & 0xf), 16).unwrap_or('0'));
    }
    let name = words::name(&random);
    Ok((id, name))
}

/// The directory every container's id is in, and every container, oldest first.
pub(crate) fn list(home: &Home) -> anyhow::Result<Vec<Container>> {
    let mut containers = Vec::new();
    for directory in directories(home)? {
        match Container::load(directory) {
            Ok(container) => containers.extend(container),
            // One damaged record must not hide the others.
            Err(error) => log::warn!("{error:#}"),
        }
    }
    containers.sort_by(|one, other| one.record.created.cmp(&other.record.created));
    Ok(containers)
}

/// The container that was made last.
pub(crate) fn latest(home: &Home) -> anyhow::Result<Container> {
    list(home)?.pop().ok_or_else(|| {
        advise("there is no container", "`crun-cargo run --name NAME …` makes one that stays")
    })
}

/// The container a person means: by its name, its id, or the beginning of its id.
pub(crate) fn find(home: &Home, wanted: &str) -> anyhow::Result<Container> {
    // Also what keeps `../x` from being a path (D-16).
    let valid: Result<ContainerId, _> = wanted.parse();
    let named = valid.as_ref().ok().and_then(|name| fs::read_link(home.names().join(name)).ok());
    if let Some(id) = named
        && let Some(container) =
            Container::load(home.records().join(id.file_name().unwrap_or_default()))?
    {
        return Ok(container);
    }
    let matches: Vec<Container> = list(home)?
        .into_iter()
        .filter(|container| {
            container.record.id == wanted
                || container.name() == wanted
                || (!wanted.is_empty() && container.record.id.starts_with(wanted))
        })
        .collect();
    match <[Container; 1]>::try_from(matches) {
        Ok([container]) => Ok(container),
        Err(matches) if matches.is_empty() => Err(anyhow::Error::new(Missing(wanted.to_owned()))),
        Err(_) => bail!("more than one container's id starts with {wanted:?}"),
    }
}

/// No container has this name or id.
#[derive(Debug)]
pub(crate) struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "there is no container {:?}", self.0)
    }
}

impl std::error::Error for Missing {}

impl Missing {
    /// What the reader can try.
    pub(crate) fn hint(&self) -> &'static str {
        "`crun-cargo ps -a` lists all containers"
    }
}

/// Whether an error says that there is no such container.
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Missing>().is_some()
}

fn directories(home: &Home) -> anyhow::Result<Vec<PathBuf>> {
    let root = home.records();
    let entries = match fs::read_dir(&root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot read {}", root.display()))?,
    };
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
}

/// Makes `name` stand for a container.
fn claim(home: &Home, name: &str, id: &str) -> anyhow::Result<()> {
    let names = home.names();
    make_private_directory(&names).with_context(|| format!("cannot make {}", names.display()))?;
    let path = names.join(name);
    for _ in 0..2 {
        match symlink(id, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.with_context(|| format!("cannot make {}", path.display())),
        }
        let Ok(holder) = fs::read_link(&path) else { continue };
        if fs::symlink_metadata(home.records().join(&holder)).is_ok() {
            let holder: String = holder.to_string_lossy().chars().take(12).collect();
            return Err(advise(
                format!("the name {name:?} is in use by container {holder}"),
                format!("choose another name, or remove that container: crun-cargo rm {name}"),
            ));
        }
        // A name whose container was lost with the power.
        release(&path, &holder.to_string_lossy())?;
    }
    bail!("the name {name:?} is in use")
}

/// Takes a name away, if it still stands for this container. Another command that removes the same
/// container may do so first.
fn release(path: &Path, id: &str) -> anyhow::Result<()> {
    if fs::read_link(path).is_ok_and(|holder| holder.as_os_str() == id)
        && let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("cannot remove {}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    struct TestHome(Home);

    impl TestHome {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("record-{name}-{}", std::process::id()));
            Self(Home { runroot: root.join("run"), root })
        }

        fn create(&self, name: Option<&str>) -> anyhow::Result<Container> {
            let (id, generated) = new_id()?;
            let name_or = name.unwrap_or(&generated).to_owned();
            let record = Record { id, name: name_or, created: now(), ..Record::default() };
            Container::create(&self.0, record, name)
        }
    }

    impl Drop for TestHome {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0.root).unwrap();
        }
    }

    #[test]
    fn a_container_is_found_by_name_id_and_beginning() {
        let home = TestHome::new("find");
        let made = home.create(Some("web")).unwrap();
        let unnamed = home.create(None).unwrap();
        for wanted in ["web", &made.record.id, made.record.id.get(..12).unwrap()] {
            assert_eq!(find(&home.0, wanted).unwrap().record.id, made.record.id);
        }
        let found = find(&home.0, unnamed.name()).unwrap();
        assert_eq!(found.record.id, unnamed.record.id);
        for wanted in ["we", "", "../x", "zz"] {
            assert!(find(&home.0, wanted).is_err(), "{wanted:?}");
        }
    }

    #[test]
    fn a_name_is_held_until_its_container_is_removed() {
        let home = TestHome::new("name");
        let made = home.create(Some("web")).unwrap();
        let refused = home.create(Some("web")).unwrap_err();
        assert!(refused.to_string().contains("in use"), "{refused}");
        assert_eq!(list(&home.0).unwrap().len(), 1, "the refused one left nothing");
        made.remove(&home.0).unwrap();
        home.create(Some("web")).unwrap();
    }

    #[test]
    fn what_happened_is_read_back_and_a_torn_line_is_not() {
        let home = TestHome::new("events");
        let mut made = home.create(Some("web")).unwrap();
        assert!(find(&home.0, "web").unwrap().is_attended());
        made.append(Event::Started { at: now() }).unwrap();
        made.append(Event::Finished { at: now(), code: 3 }).unwrap();
        made.rename(&home.0, "www").unwrap();
        made.journal.write_all(b"{\"Started\":").unwrap();
        drop(made);
        let mut found = find(&home.0, "www").unwrap();
        assert!(find(&home.0, "web").is_err());
        assert!(!found.is_attended());
        assert_eq!(found.exit_code(), Some(3));
        assert_eq!(found.wait().unwrap(), Some(3));
    }
}
