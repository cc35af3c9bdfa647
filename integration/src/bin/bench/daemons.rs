//! Private daemons of rivals that cannot work without one; stopped when dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::peers;

/// A running daemon and the socket it listens on.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Daemon {
    /// containerd with everything below `directory`.
    pub(crate) fn containerd(directory: &Path) -> Option<Self> {
        let program = peers::named("containerd")?;
        let home = directory.join("containerd");
        let socket = home.join("containerd.sock");
        let config = home.join("config.toml");
        fs::create_dir_all(&home).ok()?;
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = \
             [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
            home.join("root"),
            home.join("state"),
        );
        fs::write(&config, text).ok()?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&config);
        Self::start("containerd", command, &home, socket)
    }

    /// dockerd with everything below `directory`, leaving the machine's firewall and bridges alone.
    pub(crate) fn dockerd(directory: &Path) -> Option<Self> {
        let program = peers::named("dockerd")?;
        let home = directory.join("docker");
        let socket = home.join("docker.sock");
        fs::create_dir_all(&home).ok()?;
        let mut command = Command::new(program);
        command
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .args(["--default-ulimit=nofile=1024:1024", "--storage-driver=overlay2"])
            .arg(format!("--host=unix://{}", socket.display()))
            .arg("--data-root")
            .arg(home.join("root"))
            .arg("--exec-root")
            .arg(home.join("exec"))
            .arg("--pidfile")
            .arg(home.join("pid"));
        Self::start("dockerd", command, &home, socket)
    }

    fn start(name: &str, mut command: Command, home: &Path, socket: PathBuf) -> Option<Self> {
        let log = fs::OpenOptions::new().create(true).append(true).open(home.join("log")).ok()?;
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().ok()?).stderr(log).spawn().ok()?;
        let mut daemon = Self { child, socket };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if std::os::unix::net::UnixStream::connect(&daemon.socket).is_ok() {
                return Some(daemon);
            }
            if daemon.child.try_wait().is_ok_and(|status| status.is_some()) {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let said = fs::read_to_string(home.join("log")).unwrap_or_default();
        println!("left out: {name}: {}", said.lines().last().unwrap_or("did not start"));
        None
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM, so that the daemon stops its own helpers and unmounts what it mounted.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(15) {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
