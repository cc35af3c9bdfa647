//! What a test leaves on the machine, seen from the machine and not from the program's own books.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Processes, mounts, cgroups and files that belong to one test environment.
///
/// Tests run side by side, so only what bears the environment's token counts: containers whose
/// traces matter are given names with `TestEnv::name`.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces {
    /// `pid: command` of processes with the token in environment, arguments or cgroup.
    pub processes: BTreeSet<String>,
    /// Lines of mountinfo that name the environment's directory or token.
    pub mounts: BTreeSet<String>,
    /// Directories of the cgroup filesystem with the token in their name.
    pub cgroups: BTreeSet<PathBuf>,
    /// Files of the program's own directories, apart from the images.
    pub files: BTreeSet<PathBuf>,
    /// Entries of shared directories (/run, /tmp, /dev/shm, /sys/class/net) with the token.
    pub elsewhere: BTreeSet<PathBuf>,
}

impl Traces {
    pub(crate) fn look(token: &str, directory: &Path) -> Self {
        let directory_text = directory.to_string_lossy();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut files = BTreeSet::new();
        walk(&directory.join("runroot"), &mut |path| {
            if !path.is_dir() {
                files.insert(path.to_owned());
            }
        });
        walk(&directory.join("root"), &mut |path| {
            // What an image is made of stays on purpose.
            let text = path.to_string_lossy();
            let of_image = ["/layers/", "/blobs/", "/images/", "/chains/", "/locks/"];
            if !path.is_dir() && !of_image.iter().any(|part| text.contains(part)) {
                files.insert(path.to_owned());
            }
        });
        let mut cgroups = BTreeSet::new();
        walk(Path::new("/sys/fs/cgroup"), &mut |path| {
            if path.is_dir() && path.to_string_lossy().contains(token) {
                cgroups.insert(path.to_owned());
            }
        });
        Self {
            processes: processes(token)
                .into_iter()
                .map(|(pid, what)| format!("{pid}: {what}"))
                .collect(),
            mounts: mounts
                .lines()
                .filter(|line| line.contains(token) || line.contains(&*directory_text))
                .map(str::to_owned)
                .collect(),
            cgroups,
            files,
            elsewhere: ["/run", "/tmp", "/dev/shm", "/sys/class/net", "/var/tmp"]
                .iter()
                .flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten())
                .map(|entry| entry.path())
                .filter(|path| path != directory && path.to_string_lossy().contains(token))
                .collect(),
        }
    }

    /// Nothing runs, is mounted or is accounted any more; the program's files may have changed.
    #[track_caller]
    pub fn nothing_lives(&self) {
        let quiet = self.processes.is_empty() && self.mounts.is_empty() && self.cgroups.is_empty();
        assert!(quiet && self.elsewhere.is_empty(), "left behind: {self:#?}");
    }

    /// Kills what a failed test left, and removes its cgroups.
    pub(crate) fn end(token: &str) {
        for (pid, _) in processes(token) {
            if pid != std::process::id().cast_signed() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let mut cgroups = Vec::new();
        walk(Path::new("/sys/fs/cgroup"), &mut |path| {
            if path.is_dir() && path.to_string_lossy().contains(token) {
                cgroups.push(path.to_owned());
            }
        });
        for _ in 0..20 {
            cgroups.retain(|path| fs::remove_dir(path).is_err() && path.exists());
            if cgroups.is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Processes of a test: its token is in their environment, arguments or cgroup.
fn processes(token: &str) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let text = |name| {
            String::from_utf8_lossy(&fs::read(entry.path().join(name)).unwrap_or_default())
                .replace('\0', " ")
        };
        // A zombie has no command line; its parent is the one to blame.
        let command = text("cmdline");
        if command.is_empty() || command.contains("docker-registry") {
            continue;
        }
        if command.contains(token)
            || text("environ").contains(token)
            || text("cgroup").contains(token)
        {
            found.push((pid, command));
        }
    }
    found
}

/// Visits everything below a directory, deepest first.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, visit);
        }
        visit(&path);
    }
}
