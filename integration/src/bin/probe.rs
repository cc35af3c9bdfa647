//! A static payload: prints what it sees from inside a container.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read, Write},
    net::{TcpListener, UdpSocket},
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::Path,
    process::ExitCode,
    time::Duration,
};

use integration::tree::escape;
use serde_json::{Value, json};

const USAGE: &str = "probe all | ids | status | env | arguments… | fds | namespaces | mounts | cgroup | \
    tree DIR | stat PATH… | limits | signals | allocate MIB | spin SECONDS | fork COUNT | listen PORT | \
    try CALL… | onlook FILE | attack FILE NAME… | exit CODE | sleep | hold FILE";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match answer(&words) {
        Ok(Some(value)) => {
            println!("{value}");
            ExitCode::SUCCESS
        }
        Ok(None) => words
            .get(1)
            .and_then(|code| code.parse::<u8>().ok())
            .map_or(ExitCode::SUCCESS, ExitCode::from),
        Err(error) => {
            eprintln!("probe: {words:?}: {error}");
            ExitCode::from(99)
        }
    }
}

fn answer(words: &[&str]) -> io::Result<Option<Value>> {
    let value = match words {
        ["all"] => json!({
            "ids": ids()?, "status": status()?, "env": environment(), "fds": descriptors()?,
            "namespaces": namespaces()?, "mounts": mounts()?, "cgroup": text("/proc/self/cgroup")?,
            "limits": text("/proc/self/limits")?, "cwd": env::current_dir()?,
        }),
        ["ids"] => ids()?,
        ["status"] => status()?,
        ["env"] => environment(),
        ["arguments", rest @ ..] => json!(rest),
        ["fds"] => descriptors()?,
        ["namespaces"] => namespaces()?,
        ["mounts"] => mounts()?,
        ["cgroup"] => json!(text("/proc/self/cgroup")?),
        ["limits"] => json!(text("/proc/self/limits")?),
        ["tree", directory] => json!(integration::tree::read(Path::new(directory))?),
        ["stat", paths @ ..] => stat(paths),
        ["try", calls @ ..] => attempts(calls),
        ["attack", until, own @ ..] => integration::attack::attack(own, Path::new(until)),
        ["onlook", file] => onlook(Path::new(file))?,
        ["allocate", mib] => return allocate(number(mib)?),
        ["spin", seconds] => return spin(number(seconds)?),
        ["fork", count] => return fork(number(count)?),
        ["listen", port] => return listen(port),
        ["hold", file] => return hold(file),
        ["sleep"] => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        ["exit", _] => return Ok(None),
        _ => return Err(io::Error::other(USAGE)),
    };
    Ok(Some(value))
}

fn number(word: &str) -> io::Result<u64> {
    word.parse().map_err(io::Error::other)
}

fn text(path: &str) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

fn ids() -> io::Result<Value> {
    let groups = nix::unistd::getgroups().map_err(io::Error::from)?;
    let groups: Vec<_> = groups.iter().map(|group| group.as_raw()).collect();
    Ok(json!({
        "uid": nix::unistd::getuid().as_raw(), "gid": nix::unistd::getgid().as_raw(),
        "euid": nix::unistd::geteuid().as_raw(), "egid": nix::unistd::getegid().as_raw(),
        "groups": groups, "pid": std::process::id(), "ppid": nix::unistd::getppid().as_raw(),
        "sid": nix::unistd::getsid(None).map(|id| id.as_raw()).ok(),
        "umask": umask(),
    }))
}

fn umask() -> u32 {
    let old = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(old);
    old.bits()
}

/// /proc/self/status: capability sets, seccomp mode, no_new_privs, signal masks.
fn status() -> io::Result<Value> {
    let text = text("/proc/self/status")?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Ok(json!(pairs.map(|(name, value)| (name, value.trim())).collect::<BTreeMap<_, _>>()))
}

fn environment() -> Value {
    let pairs = env::vars_os().map(|(n, v)| (escape(n.as_bytes()), escape(v.as_bytes())));
    json!(pairs.collect::<BTreeMap<_, _>>())
}

/// What is open, apart from the directory that is being read to find out.
fn descriptors() -> io::Result<Value> {
    let mut open = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Ok(target) = fs::read_link(entry.path()) {
            let own = target.to_string_lossy().ends_with("/fd");
            if !own {
                open.insert(name, target.to_string_lossy().into_owned());
            }
        }
    }
    Ok(json!(open))
}

fn namespaces() -> io::Result<Value> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/ns")? {
        let entry = entry?;
        let target = fs::read_link(entry.path())?;
        found.insert(
            entry.file_name().to_string_lossy().into_owned(),
            target.to_string_lossy().into_owned(),
        );
    }
    Ok(json!(found))
}

/// mountinfo by mount point; the topmost where several are stacked.
fn mounts() -> io::Result<Value> {
    let text = text("/proc/self/mountinfo")?;
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let dash = fields.iter().position(|field| *field == "-").unwrap_or(fields.len());
        if let (Some(root), Some(point), Some(options)) =
            (fields.get(3), fields.get(4), fields.get(5))
        {
            let propagation = fields.get(6..dash).unwrap_or_default().join(" ");
            found.insert((*point).to_owned(), json!({
                "root": root, "options": options, "propagation": propagation,
                "type": fields.get(dash + 1), "source": fields.get(dash + 2), "super": fields.get(dash + 3),
            }));
        }
    }
    Ok(json!(found))
}

fn stat(paths: &[&str]) -> Value {
    let look = |path: &str| match fs::symlink_metadata(path) {
        Err(error) => json!({"error": error.to_string()}),
        Ok(metadata) => json!({
            "mode": format!("{:o}", metadata.mode()), "uid": metadata.uid(), "gid": metadata.gid(),
            "size": metadata.size(), "mtime": metadata.mtime(), "inode": metadata.ino(),
            "device": [rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev())],
            "target": fs::read_link(path).ok(),
        }),
    };
    json!(paths.iter().map(|path| ((*path).to_owned(), look(path))).collect::<BTreeMap<_, _>>())
}

/// Until a file appears, opens the programs of all processes that come and go; then tries to write to those
/// that are of another file system than its own.
fn onlook(until: &Path) -> io::Result<Value> {
    let identity = |file: &fs::File| file.metadata().map(|found| (found.dev(), found.ino()));
    let own = identity(&fs::File::open("/proc/self/exe")?)?;
    let mut others = BTreeMap::new();
    while !until.exists() {
        for entry in fs::read_dir("/proc")? {
            let program = entry?.path().join("exe");
            let Ok(file) = fs::File::open(program) else { continue };
            let found = identity(&file)?;
            if found.0 != own.0 {
                others.entry(found).or_insert(file);
            }
        }
    }
    let writable = |file: &&fs::File| {
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        // Busy for as long as anybody executes it.
        (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            fs::OpenOptions::new().write(true).open(&name).is_ok()
        })
    };
    Ok(json!({"seen": others.len(), "writable": others.values().filter(writable).count()}))
}

/// Tries things a container must not get away with: each answers `ok` or the error's name.
fn attempts(calls: &[&str]) -> Value {
    let outcome = |call: &str| match attempt(call) {
        Ok(()) => "ok".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
            None => error.to_string(),
        },
    };
    json!(calls.iter().map(|call| ((*call).to_owned(), outcome(call))).collect::<BTreeMap<_, _>>())
}

fn attempt(call: &str) -> io::Result<()> {
    use nix::{
        mount::{MsFlags, mount, umount},
        sched::{CloneFlags, unshare},
        sys::socket::{AddressFamily, SockFlag, SockType, socket},
    };
    let plain = MsFlags::empty();
    let socket = |family, kind| socket(family, kind, SockFlag::empty(), None).map(drop);
    match call.split_once('=').unwrap_or((call, "")) {
        ("mount-tmpfs", directory) => {
            mount(Some("t"), directory, Some("tmpfs"), plain, None::<&str>)?;
        }
        ("mount-proc", directory) => {
            mount(Some("p"), directory, Some("proc"), plain, None::<&str>)?;
        }
        ("remount-rw", directory) => mount(
            None::<&str>,
            directory,
            None::<&str>,
            MsFlags::MS_REMOUNT | MsFlags::MS_BIND,
            None::<&str>,
        )?,
        ("umount", directory) => umount(directory)?,
        ("unshare-user", _) => unshare(CloneFlags::CLONE_NEWUSER)?,
        ("unshare-mount", _) => unshare(CloneFlags::CLONE_NEWNS)?,
        ("socket-vsock", _) => socket(AddressFamily::Vsock, SockType::Stream)?,
        ("socket-alg", _) => socket(AddressFamily::Alg, SockType::SeqPacket)?,
        ("socket-packet", _) => socket(AddressFamily::Packet, SockType::Raw)?,
        ("socket-inet", _) => socket(AddressFamily::Inet, SockType::Stream)?,
        ("socket-raw", _) => socket(AddressFamily::Inet, SockType::Raw)?,
        ("mknod-null", path) => nix::sys::stat::mknod(
            path,
            nix::sys::stat::SFlag::S_IFCHR,
            nix::sys::stat::Mode::from_bits_truncate(0o600),
            nix::sys::stat::makedev(1, 3),
        )?,
        ("mknod-disk", path) => nix::sys::stat::mknod(
            path,
            nix::sys::stat::SFlag::S_IFBLK,
            nix::sys::stat::Mode::from_bits_truncate(0o600),
            nix::sys::stat::makedev(8, 0),
        )?,
        ("chown", path) => std::os::unix::fs::chown(path, Some(12), Some(12))?,
        ("sethostname", name) => nix::unistd::sethostname(name)?,
        ("chroot", directory) => nix::unistd::chroot(directory)?,
        ("setuid", id) => nix::unistd::setuid(nix::unistd::Uid::from_raw(number(id)? as u32))?,
        ("kill", pid) => {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(number(pid)? as i32), None)?;
        }
        ("reboot", _) => return fs::write("/proc/sysrq-trigger", ""),
        ("read", path) => drop(fs::read(path)?),
        ("open", path) => drop(fs::File::open(path)?),
        ("list", path) => drop(fs::read_dir(path)?),
        ("write", path) => drop(fs::OpenOptions::new().write(true).open(path)?),
        ("create", path) => drop(fs::File::create(path)?),
        ("mkdir", path) => fs::create_dir(path)?,
        ("execute", path) => drop(std::process::Command::new(path).output()?),
        ("bind-port", port) => drop(TcpListener::bind(format!("127.0.0.1:{port}"))?),
        ("send-out", address) => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.send_to(b"x", address)?;
        }
        _ => return Err(io::Error::other(format!("no such attempt: {call}"))),
    }
    Ok(())
}

fn allocate(mib: u64) -> io::Result<Option<Value>> {
    let mut kept = Vec::new();
    for _ in 0..mib {
        kept.push(vec![1_u8; 1 << 20]);
    }
    let touched: usize = kept.iter().map(|block| usize::from(block[4096])).sum();
    Ok(Some(json!({"allocated": touched})))
}

fn spin(seconds: u64) -> io::Result<Option<Value>> {
    let end = std::time::Instant::now() + Duration::from_secs(seconds);
    let mut turns = 0_u64;
    while std::time::Instant::now() < end {
        turns = std::hint::black_box(turns + 1);
    }
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)?;
    let time = usage.user_time();
    Ok(Some(json!({"cpu_ms": time.tv_sec() * 1000 + time.tv_usec() / 1000})))
}

/// How many threads can be started before the limit says no.
fn fork(count: u64) -> io::Result<Option<Value>> {
    let mut started = 0;
    let mut last = String::new();
    for _ in 0..count {
        let thread = std::thread::Builder::new().stack_size(16 << 10);
        match thread.spawn(|| std::thread::sleep(Duration::from_secs(2))) {
            Ok(_) => started += 1,
            Err(error) => last = error.to_string(),
        }
    }
    Ok(Some(json!({"started": started, "error": last})))
}

fn listen(port: &str) -> io::Result<Option<Value>> {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("listening");
    io::stdout().flush()?;
    let (mut stream, peer) = listener.accept()?;
    stream.write_all(b"hello from inside\n")?;
    Ok(Some(json!({"peer": peer.to_string()})))
}

/// Keeps a file open until standard input ends.
fn hold(file: &str) -> io::Result<Option<Value>> {
    let _file = fs::File::open(file)?;
    println!("holding");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(None)
}
