//! `TestEnv`: a private home for the program under test.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::{Finished, Invocation, Need, Registry, Traces, bundle, images, need};

/// Tells the environments of one test binary apart.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Directories of its own for one test: images, state of containers, home, scratch.
pub struct TestEnv {
    directory: PathBuf,
    token: String,
    pulled: OnceLock<()>,
}

impl TestEnv {
    /// A fresh environment, if the machine has what the test needs. Otherwise the skip is announced.
    pub fn with(needs: &[Need]) -> Option<Self> {
        if let Some(reason) = needs.iter().find_map(|need| need.missing()) {
            need::announce(&reason);
            return None;
        }
        Some(Self::new())
    }

    /// A fresh environment for a test that needs root, as most do.
    pub fn root() -> Option<Self> {
        Self::with(&[Need::Root])
    }

    /// A fresh environment for a test that needs nothing special.
    pub fn new() -> Self {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        // Of one length, so that none is the beginning of another.
        let token = format!("cct{}x{serial:03}", std::process::id());
        // Not /tmp: overlayfs wants a filesystem that can hold an upper layer, which a tmpfs in a
        // container often is not.
        let base = std::env::var("CRUN_CARGO_TEST_DIR").unwrap_or_else(|_| "/var/tmp".into());
        let directory = Path::new(&base).join(&token);
        for name in ["root", "runroot", "home", "work"] {
            fs::create_dir_all(directory.join(name)).expect("a writable place for tests");
        }
        Self { directory, token, pulled: OnceLock::new() }
    }

    /// The whole environment's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A place for the test's own files.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join("work").join(name)
    }

    /// Writes a file into the test's own place and says where it is.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a directory of ours");
        }
        fs::write(&path, content).expect("a file of ours");
        path
    }

    /// A name for a container that no other test uses, so that its traces can be told apart.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.token)
    }

    /// What is on every name of this environment.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Where the program keeps images and containers.
    pub fn store(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Where the program keeps the state of running containers.
    pub fn runroot(&self) -> PathBuf {
        self.directory.join("runroot")
    }

    /// The program with its directories chosen, and these arguments.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Invocation {
        let mut command = self.bare();
        command.arg("--root").arg(self.store()).arg("--runroot").arg(self.runroot());
        command.args(arguments);
        Invocation::new(command)
    }

    /// The program in a clean environment, nothing else decided.
    pub fn bare(&self) -> Command {
        let mut command = Command::new(program());
        self.clean(&mut command);
        command
    }

    /// Any other program, in the same clean environment.
    pub fn other<S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Invocation {
        let mut command = Command::new(need::find(program).unwrap_or_else(|| program.into()));
        self.clean(&mut command);
        command.args(arguments);
        Invocation::new(command)
    }

    fn clean(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.directory.join("home"))
            .env("XDG_RUNTIME_DIR", self.directory.join("home"))
            .env("CRUN_CARGO_TEST_TOKEN", &self.token)
            .current_dir(self.directory.join("work"));
    }

    /// Runs the program to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Finished {
        self.command(arguments).run()
    }

    /// Runs the program's OCI personality to its end.
    pub fn oci<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Finished {
        self.oci_command(arguments).run()
    }

    /// The OCI personality. runc's `--root` is where state lives.
    pub fn oci_command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Invocation {
        let mut command = Command::new(runtime()[0].clone());
        self.clean(&mut command);
        command.args(&runtime()[1..]).arg("--root").arg(self.runroot()).args(arguments);
        Invocation::new(command)
    }

    /// The OCI personality with its streams at `/dev/null`, as for `create`: a container keeps the
    /// streams of its creator, so they must not be pipes that the test reads to their end.
    pub fn oci_detached<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        output: &Path,
    ) -> Finished {
        let script = format!("exec \"$@\" >>{} 2>&1 </dev/null", output.display());
        let run = self.other("sh", ["-c", &script, "sh"]).args(runtime()).arg("--root");
        run.arg(self.runroot()).args(arguments).run()
    }

    /// A small image with busybox and the probe, served by this test binary's shared registry.
    pub fn busybox(&self) -> String {
        images::shared("busybox:latest")
    }

    /// Pulls the small image, so that later runs need no registry, and gives its name.
    pub fn pulled_busybox(&self) -> String {
        let name = self.busybox();
        self.pulled.get_or_init(|| drop(self.run(["pull", "-q", &name]).success()));
        name
    }

    /// `run --rm --network none` of the small image: most tests ask something of it.
    pub fn inside<S: AsRef<OsStr>>(
        &self,
        flags: impl IntoIterator<Item = S>,
        command: &[&str],
    ) -> Finished {
        let mut run = self.command(["run", "--rm", "--network", "none"]);
        run = run.args(flags).arg(self.pulled_busybox()).args(command);
        run.run()
    }

    /// What the probe answers in a container started with these flags.
    #[track_caller]
    pub fn probe<S: AsRef<OsStr>>(
        &self,
        flags: impl IntoIterator<Item = S>,
        words: &[&str],
    ) -> serde_json::Value {
        self.inside(flags, &[&["probe"], words].concat()).success().json()
    }

    /// A directory that holds the small image's files, for bundles and `--rootfs`.
    pub fn rootfs(&self, name: &str) -> PathBuf {
        let directory = self.path(name);
        let archive = self.file(&format!("{name}.tar"), images::busybox_archive());
        fs::create_dir_all(&directory).expect("a directory of ours");
        let tar = self.other("tar", ["--numeric-owner", "-xpf"]).arg(&archive).arg("-C");
        tar.arg(&directory).run().success();
        fs::remove_file(archive).expect("a file of ours");
        directory
    }

    /// An OCI bundle of the small image, its configuration changed by the test.
    pub fn bundle(&self, change: impl FnOnce(&mut serde_json::Value)) -> PathBuf {
        bundle::make(self, change)
    }

    /// A registry of the test's own, without a guard.
    pub fn registry(&self) -> Registry {
        Registry::start(&self.directory.join("registry"), crate::Guard::None)
    }

    /// What the machine shows of this environment: processes, mounts, cgroups, files.
    pub fn traces(&self) -> Traces {
        Traces::look(&self.token, &self.directory)
    }

    /// Waits until a condition holds; panics with its name when it never does.
    #[track_caller]
    pub fn eventually(&self, what: &str, mut condition: impl FnMut() -> bool) {
        for _ in 0..1000 {
            if condition() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("never happened: {what}");
    }
}

impl Default for TestEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("CRUN_CARGO_KEEP").is_some() {
            eprintln!("kept for inspection: {}", self.directory.display());
            return;
        }
        Traces::end(&self.token);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The program under test: `$CRUN_CARGO`, or the one built beside the tests.
pub fn program() -> PathBuf {
    match std::env::var_os("CRUN_CARGO") {
        Some(path) => path.into(),
        None => built("crun-cargo"),
    }
}

/// The OCI runtime under test: ours, or another one named by `$RUNTIME` to test the tests with.
pub fn runtime() -> Vec<std::ffi::OsString> {
    match std::env::var_os("RUNTIME") {
        Some(name) => vec![name],
        None => vec![program().into(), "oci".into()],
    }
}

/// A program of this workspace, built in the same profile as the running test.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let deps = test.parent().expect("a file is in a directory");
    let profile = if deps.ends_with("deps") { deps.parent().unwrap_or(deps) } else { deps };
    let path = profile.join(name);
    assert!(path.is_file(), "{} is missing: run `make integration`", path.display());
    path
}
