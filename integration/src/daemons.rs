//! Private daemons of container engines: everything below one directory, stopped when dropped.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::need;

/// Long enough for a daemon to begin, or to end, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon and the socket it listens on.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    /// Where clients connect.
    pub socket: PathBuf,
}

impl Daemon {
    /// containerd, without its Kubernetes door.
    pub fn containerd(directory: &Path) -> Result<Self, String> {
        let home = directory.join("containerd");
        let socket = home.join("containerd.sock");
        make(&home)?;
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = \
             [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
            home.join("root"),
            home.join("state"),
        );
        let config = home.join("config.toml");
        fs::write(&config, text).map_err(|error| error.to_string())?;
        let mut command = program("containerd")?;
        command.arg("--config").arg(&config);
        Self::start(command, &home, socket)
    }

    /// dockerd, leaving the machine's firewall and bridges alone. A raised limit on open files needs
    /// CAP_SYS_RESOURCE, which a sandboxed machine lacks, so containers get one that anybody may set.
    pub fn dockerd(directory: &Path, more: &[String]) -> Result<Self, String> {
        let home = directory.join("docker");
        let socket = home.join("docker.sock");
        make(&home)?;
        let mut command = program("dockerd")?;
        command
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .args(["--default-ulimit=nofile=1024:1024", "--storage-driver=overlay2"])
            .arg(format!("--host=unix://{}", socket.display()))
            .arg("--data-root")
            .arg(home.join("root"))
            .arg("--exec-root")
            .arg(home.join("exec"))
            .arg("--pidfile")
            .arg(home.join("pid"))
            .args(more);
        Self::start(command, &home, socket)
    }

    fn start(mut command: Command, home: &Path, socket: PathBuf) -> Result<Self, String> {
        let log = home.join("log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log);
        let file = file.map_err(|error| error.to_string())?;
        let second = file.try_clone().map_err(|error| error.to_string())?;
        command.stdin(Stdio::null()).stdout(file).stderr(second);
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let mut daemon = Self { child, log, socket };
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if UnixStream::connect(&daemon.socket).is_ok() {
                return Ok(daemon);
            }
            if daemon.child.try_wait().is_ok_and(|status| status.is_some()) {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(daemon.log().lines().last().unwrap_or("it did not start").to_owned())
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM first, so that it stops its own helpers and unmounts what it mounted.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn make(home: &Path) -> Result<(), String> {
    fs::create_dir_all(home).map_err(|error| format!("{}: {error}", home.display()))
}

fn program(name: &str) -> Result<Command, String> {
    need::find(name).map(Command::new).ok_or_else(|| format!("{name} is not installed"))
}
