//! Cache and memory bandwidth, resctrl(5): a class of service for the container (OCI `intelRdt`).

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use configs::IntelRdt;
use rustix::{
    fs::{Mode, OFlags},
    process::Pid,
};

use crate::{ContainerId, Error, Result, error::OrFail};

/// Where everybody mounts it.
const ROOT: &str = "/sys/fs/resctrl";

/// The directories of one container, found again from its Spec.
#[derive(Debug)]
pub(crate) struct Class {
    wanted: IntelRdt,
    directory: PathBuf,
    monitor: PathBuf,
}

impl Class {
    /// Decides where; refuses names that lead elsewhere.
    pub(crate) fn of(wanted: &IntelRdt, id: &ContainerId) -> Result<Self> {
        Self::below(Path::new(ROOT), wanted, id)
    }

    fn below(root: &Path, wanted: &IntelRdt, id: &ContainerId) -> Result<Self> {
        let name = wanted.clos_id.as_deref().unwrap_or(id.as_str());
        // The root itself is a class, too: everybody's.
        let single = match Path::new(name).components().collect::<Vec<_>>().as_slice() {
            [Component::RootDir] => true,
            [Component::Normal(_)] => !["info", "mon_data", "mon_groups"].contains(&name),
            _ => false,
        };
        if !single {
            return Err(Error::Unsafe(format!("{name:?} is no name of a class of service")));
        }
        let directory = root.join(name.trim_start_matches('/'));
        let monitor = directory.join("mon_groups").join(id.as_str());
        Ok(Self { wanted: wanted.clone(), directory, monitor })
    }

    /// Makes the class, or makes sure that the one named is as it was described, and puts the
    /// container's first process in.
    pub(crate) fn enter(&self, pid: Pid) -> Result<()> {
        if !self.mount().join("info").is_dir() {
            return Err(Error::Unsupported(
                "intelRdt: no resctrl filesystem is mounted at /sys/fs/resctrl".into(),
            ));
        }
        match fs::create_dir(&self.directory) {
            Ok(()) if self.wanted.clos_id.is_some() && self.wanted.schemata.is_empty() => {
                // Somebody was to have made it; one without limits is not what was meant.
                fs::remove_dir(&self.directory).or_fail(|| self.what("remove"))?;
                return Err(Error::call(
                    self.what("find"),
                    io::Error::from(rustix::io::Errno::NOENT),
                ));
            }
            Ok(()) => self.write_schemata()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.compare_schemata()?;
            }
            Err(error) => return Err(error).or_fail(|| self.what("make")),
        }
        self.write("tasks", &pid.as_raw_nonzero().to_string())?;
        if self.wanted.monitoring {
            fs::create_dir(&self.monitor).or_fail(|| format!("make {}", self.monitor.display()))?;
            let tasks = self.monitor.join("tasks");
            write(&tasks, &pid.as_raw_nonzero().to_string())?;
        }
        Ok(())
    }

    /// Removes what belongs to this container alone. A class that was named may be others' too.
    pub(crate) fn remove(&self) -> Result<()> {
        if self.wanted.monitoring {
            remove(&self.monitor)?;
        }
        if self.wanted.clos_id.is_none() { remove(&self.directory) } else { Ok(()) }
    }

    fn mount(&self) -> &Path {
        let named = self.wanted.clos_id.as_deref() != Some("/");
        if named { self.directory.parent().unwrap_or(&self.directory) } else { &self.directory }
    }

    fn what(&self, verb: &str) -> String {
        format!("{verb} the class of service {}", self.directory.display())
    }

    /// One write, since the kernel checks the lines of a write together.
    fn write_schemata(&self) -> Result<()> {
        if self.wanted.schemata.is_empty() {
            return Ok(());
        }
        let mut text = self.wanted.schemata.join("\n");
        text.push('\n');
        self.write("schemata", &text).inspect_err(|_| {
            // The kernel's own words, resctrl.rst; the error that brought us here is the one to report.
            let said = fs::read_to_string(self.mount().join("info/last_cmd_status"));
            log::warn!("resctrl: {}", said.unwrap_or_default().trim());
            let _ = fs::remove_dir(&self.directory);
        })
    }

    /// Changing a class would change it for all that are in it.
    fn compare_schemata(&self) -> Result<()> {
        let path = self.directory.join("schemata");
        let text = fs::read_to_string(&path).or_fail(|| format!("read {}", path.display()))?;
        let present: Vec<String> = text.lines().map(normal).collect();
        match self.wanted.schemata.iter().find(|line| !present.contains(&normal(line))) {
            None => Ok(()),
            Some(line) => Err(Error::Unsupported(format!(
                "intelRdt: {} exists and does not say {line:?}",
                self.directory.display()
            ))),
        }
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        write(&self.directory.join(file), text)
    }
}

/// The kernel pads names, and drops leading zeroes of masks.
fn normal(line: &str) -> String {
    let (resource, values) = line.split_once(':').unwrap_or((line, ""));
    let mut values: Vec<String> = values
        .split(';')
        .map(|value| {
            let (domain, mask) = value.trim().split_once('=').unwrap_or((value.trim(), ""));
            let mask = mask.trim().trim_start_matches('0').to_lowercase();
            format!("{}={mask}", domain.trim())
        })
        .collect();
    values.sort_unstable();
    format!("{}:{}", resource.trim(), values.join(";"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty())
        .and_then(|file| rustix::io::write(&file, text.as_bytes()))
        .map(drop)
        .or_fail(|| format!("write {:?} to {}", text.trim_end(), path.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).or_fail(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn class(root: &Path, wanted: &IntelRdt) -> Result<Class> {
        Class::below(root, wanted, &"web".parse().unwrap())
    }

    #[test]
    fn names_stay_below_the_filesystem() {
        for (name, good) in
            [("gold", true), ("/", true), ("..", false), ("a/b", false), ("info", false)]
        {
            let wanted = IntelRdt { clos_id: Some(name.into()), ..IntelRdt::default() };
            assert_eq!(class(Path::new(ROOT), &wanted).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn lines_are_compared_as_the_kernel_reads_them() {
        assert_eq!(normal("    L3:0=00ff;1=0F"), normal("L3:1=f;0=ff"));
        assert_ne!(normal("L3:0=ff"), normal("L3:0=7f"));
        assert_ne!(normal("L3:0=ff"), normal("MB:0=ff"));
    }

    #[test]
    fn without_the_filesystem_it_is_refused_by_name() {
        let wanted = IntelRdt { schemata: vec!["L3:0=f".into()], ..IntelRdt::default() };
        let nowhere = Path::new("/nonexistent");
        let error = class(nowhere, &wanted).unwrap().enter(Pid::INIT).unwrap_err().to_string();
        assert!(error.contains("no resctrl filesystem"), "{error}");
        class(nowhere, &wanted).unwrap().remove().unwrap();
    }
}
