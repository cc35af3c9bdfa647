//! Names that change while we use them: another process exchanges a directory of the root filesystem for a link,
//! atomically and without pause, while containers are started in it and entered. Whatever our commands say,
//! nothing may happen outside, and what runs must be confined as it was asked to be.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use integration::{Canary, Elf, Entrance, Finished, TestEnv};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};

/// As many exchanges there must be at least, for a race to have been one.
const ROUNDS: u32 = 500;

/// Exchanges two names until it is dropped.
struct Exchange {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Exchange {
    fn begin(one: PathBuf, other: PathBuf) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted) = (stop.clone(), count.clone());
        let thread = std::thread::spawn(move || {
            let mut pause = 0;
            while !stopped.load(Ordering::Relaxed) {
                // Refused for the moment in which one of them is a mount point of ours.
                if renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                // Of different lengths, so that every place between two of our calls is hit.
                pause = (pause + 7) % 97;
                std::thread::sleep(Duration::from_micros(pause));
            }
        });
        Self { stop, count, thread: Some(thread) }
    }

    fn rounds(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Does something again and again, until there were enough rounds.
    fn meanwhile(&self, mut act: impl FnMut()) {
        let started = Instant::now();
        let mut times = 0;
        while times < 40 || self.rounds() < ROUNDS {
            act();
            times += 1;
            assert!(started.elapsed() < Duration::from_secs(120), "{} rounds", self.rounds());
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Success, or an orderly failure; a hang or a panic is neither.
#[track_caller]
fn orderly(run: Finished) -> Option<Finished> {
    if run.status.success() && !run.late {
        return Some(run);
    }
    run.failure().stderr_lacks("panicked");
    None
}

/// Runs a bundle; what it printed if it ran.
fn run(env: &TestEnv, bundle: &Path) -> Option<String> {
    let run = env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("race")]);
    Some(orderly(run)?.text())
}

fn script(config: &mut Value, script: &str) {
    config["process"]["args"] = json!(["sh", "-c", script]);
}

fn without_mount(config: &mut Value, place: &str) {
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with(place));
}

/// A line of mountinfo. Its place may be told under two names in one reading, its parent not.
struct Shown<'a> {
    id: &'a str,
    parent: &'a str,
    root: &'a str,
    place: &'a str,
    options: &'a str,
    kind: &'a str,
}

impl<'a> Shown<'a> {
    fn all(mountinfo: &'a str) -> Vec<Self> {
        let line = |line: &'a str| {
            let (front, back) = line.split_once(" - ")?;
            let fields: Vec<_> = front.split(' ').collect();
            let [id, parent, _, root, place, options, ..] = fields[..] else { return None };
            Some(Self { id, parent, root, place, options, kind: back.split(' ').next()? })
        };
        mountinfo.lines().filter_map(line).collect()
    }

    /// Whether a mount lies on this one at the name.
    fn is_covered(&self, all: &[Self], name: &str, is_right: impl Fn(&Self) -> bool) -> bool {
        let end = format!("/{name}");
        all.iter().any(|it| it.parent == self.id && it.place.ends_with(&end) && is_right(it))
    }
}

/// CVE-2019-19921, CVE-2023-27561: every procfs that a container sees is masked, under whatever name.
#[test]
fn proc_exchanged_for_a_link_is_masked_all_the_same() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    let bundle = env.bundle(|config| {
        script(config, "cat /proc/self/mountinfo /other/self/mountinfo 2>/dev/null; true");
    });
    let rootfs = bundle.join("rootfs");
    symlink(canary.directory(), rootfs.join("other")).unwrap();
    let exchange = Exchange::begin(rootfs.join("proc"), rootfs.join("other"));
    exchange.meanwhile(|| {
        let Some(seen) = run(&env, &bundle) else { return };
        let all = Shown::all(&seen);
        let whole = all.iter().filter(|it| it.kind == "proc" && it.root == "/");
        for procfs in whole {
            let read_only = procfs.is_covered(&all, "sys", |it| it.options.starts_with("ro"));
            let masked = procfs.is_covered(&all, "keys", |it| it.root == "/null");
            assert!(read_only && masked, "{} is open: {seen}", procfs.place);
        }
    });
    drop(exchange);
    canary.sings();
}

/// The same for sysfs, and a directory in the place of a link.
#[test]
fn sys_exchanged_for_a_directory_is_masked_all_the_same() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| script(config, "cat /proc/self/mountinfo"));
    let rootfs = bundle.join("rootfs");
    fs::create_dir_all(rootfs.join("other/firmware")).unwrap();
    fs::create_dir_all(rootfs.join("other/fs/cgroup")).unwrap();
    let exchange = Exchange::begin(rootfs.join("sys"), rootfs.join("other"));
    exchange.meanwhile(|| {
        let Some(seen) = run(&env, &bundle) else { return };
        let all = Shown::all(&seen);
        for sysfs in all.iter().filter(|it| it.kind == "sysfs") {
            let masked = sysfs.is_covered(&all, "firmware", |it| it.kind == "tmpfs");
            assert!(masked || !Path::new("/sys/firmware").exists(), "{}: {seen}", sysfs.place);
            assert!(sysfs.options.starts_with("ro"), "{seen}");
        }
    });
}

/// CVE-2026-47766: no node is made, and no file replaced, in a volume that /dev suddenly leads to.
#[test]
fn dev_exchanged_for_a_link_to_a_volume_leaves_the_volume_alone() {
    let Some(env) = TestEnv::root() else { return };
    for name in ["null", "zero", "ptmx", "tty", "console"] {
        env.file(&format!("canary/{name}"), "a file of the host");
    }
    let canary = Canary::plant(&env);
    let bundle = env.bundle(|config| {
        without_mount(config, "/dev");
        let source = canary.directory();
        let volume =
            json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind"]});
        config["mounts"].as_array_mut().unwrap().push(volume);
        config["root"]["readonly"] = json!(false);
        script(config, "true");
    });
    let rootfs = bundle.join("rootfs");
    fs::create_dir(rootfs.join("data")).unwrap();
    symlink("/data", rootfs.join("other")).unwrap();
    let exchange = Exchange::begin(rootfs.join("dev"), rootfs.join("other"));
    exchange.meanwhile(|| drop(run(&env, &bundle)));
    drop(exchange);
    canary.sings();
}

/// CVE-2021-30465: a mount target in a shared volume that turns into a link to the host.
#[test]
fn a_mount_target_exchanged_for_a_link_lands_inside() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    let volume = env.path("volume");
    fs::create_dir_all(volume.join("target")).unwrap();
    let up = format!("{}{}", "../".repeat(20), canary.path("directory"));
    symlink(up, volume.join("other")).unwrap();
    let source = env.path("source");
    fs::create_dir(&source).unwrap();
    let bundle = env.bundle(|config| {
        let bind = |source: &Path, place: &str| {
            json!({"destination": place, "type": "bind", "source": source, "options": ["rbind"]})
        };
        config["mounts"].as_array_mut().unwrap().extend([
            bind(&volume, "/volume"),
            bind(&source, "/volume/target"),
            bind(&source, "/volume/target/deeper/still"),
            json!({"destination": "/volume/target/tmp", "type": "tmpfs", "source": "tmpfs"}),
        ]);
        config["root"]["readonly"] = json!(false);
        script(config, "ls /volume >/dev/null");
    });
    fs::create_dir(bundle.join("rootfs/volume")).unwrap();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let exchange = Exchange::begin(volume.join("target"), volume.join("other"));
    exchange.meanwhile(|| drop(run(&env, &bundle)));
    drop(exchange);
    canary.sings();
    let token = env.token();
    let ours = |text: &str| text.lines().filter(|line| line.contains(token)).count();
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(ours(&after), ours(&before), "mounts were seen outside");
}

/// CVE-2025-31133, CVE-2025-52565: masks are made of the host's null device, whatever /dev/null inside is.
#[test]
fn dev_null_exchanged_for_a_link_masks_nothing_with_it() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| {
        without_mount(config, "/dev");
        config["root"]["readonly"] = json!(false);
        script(config, "stat -c '%t:%T' /proc/keys /proc/timer_list /proc/kcore 2>/dev/null; true");
    });
    let dev = bundle.join("rootfs/dev");
    symlink("/proc/sys/kernel/core_pattern", dev.join("other")).unwrap();
    fs::write(dev.join("null"), "").unwrap();
    let exchange = Exchange::begin(dev.join("null"), dev.join("other"));
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    exchange.meanwhile(|| {
        let Some(seen) = run(&env, &bundle) else { return };
        assert!(seen.lines().all(|line| line == "1:3"), "{seen}");
    });
    drop(exchange);
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), pattern);
}

/// A masked path of the image's own tree that turns into a link.
#[test]
fn a_masked_path_exchanged_for_a_link_covers_nothing_outside() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    let bundle = env.bundle(|config| {
        config["linux"]["maskedPaths"] = json!(["/secret/file", "/secret"]);
        config["linux"]["readonlyPaths"] = json!(["/secret"]);
        script(config, "ls /secret");
    });
    let rootfs = bundle.join("rootfs");
    fs::create_dir(rootfs.join("secret")).unwrap();
    fs::write(rootfs.join("secret/file"), "secret").unwrap();
    symlink(canary.directory(), rootfs.join("other")).unwrap();
    let exchange = Exchange::begin(rootfs.join("secret"), rootfs.join("other"));
    exchange.meanwhile(|| drop(run(&env, &bundle)));
    drop(exchange);
    canary.sings();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(canary.directory().to_str().unwrap()));
}

/// A container in a bundle's root, for `exec`.
struct Entered {
    env: TestEnv,
    rootfs: PathBuf,
    id: String,
    running: Option<integration::Running>,
}

impl Entered {
    fn start(prepare: impl FnOnce(&TestEnv, &Path)) -> Option<Self> {
        let env = TestEnv::root()?;
        let bundle = env.bundle(|config| config["process"]["args"] = json!(["sleep", "100"]));
        let rootfs = bundle.join("rootfs");
        prepare(&env, &rootfs);
        let id = env.name("entered");
        let running = env.oci_command(["run", "--bundle", bundle.to_str().unwrap(), &id]).start();
        env.eventually("it runs", || env.oci(["exec", &id, "true"]).status.success());
        Some(Self { env, rootfs, id, running: Some(running) })
    }

    fn exec(&self, flags: &[&str], words: &[&str]) -> Option<Finished> {
        let run = self.env.oci_command(["exec"]).args(flags).arg(&self.id).args(words);
        orderly(run.limit(Duration::from_secs(20)).run())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.env.oci(["delete", "--force", &self.id]);
        let _ = self.running.take().map(integration::Running::finish);
    }
}

/// CVE-2024-21626: the working directory of `exec` turns into a link to a descriptor of ours.
#[test]
fn a_working_directory_exchanged_for_a_link_is_no_way_out() {
    let entered = Entered::start(|env, rootfs| {
        Canary::plant(env);
        fs::create_dir(rootfs.join("work")).unwrap();
    });
    let Some(entered) = entered else { return };
    let up = format!("../../../../../../..{}", entered.env.path("canary/file").display());
    for fd in [3, 4, 5, 6, 7, 8] {
        let link = entered.rootfs.join("other");
        let _ = fs::remove_file(&link).or_else(|_| fs::remove_dir(&link));
        symlink(format!("/proc/self/fd/{fd}"), &link).unwrap();
        let exchange = Exchange::begin(entered.rootfs.join("work"), link);
        for _ in 0..20 {
            let read = entered.exec(&["--cwd", "/work"], &["cat", &up]);
            assert!(read.is_none(), "led out: {}", read.unwrap().text());
        }
        while exchange.rounds() < ROUNDS / 4 {
            std::thread::yield_now();
        }
        drop(exchange);
        // Whichever name the directory has now, it must have its own again.
        let work = entered.rootfs.join("work");
        if fs::symlink_metadata(&work).unwrap().is_symlink() {
            let other = entered.rootfs.join("other");
            renameat_with(CWD, &work, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        }
    }
}

/// CVE-2026-47262: the accounts turn into a FIFO, a link to the host and one into procfs, in turn.
#[test]
fn accounts_exchanged_for_something_else_never_make_a_user_root() {
    let entered = Entered::start(|_, _| {});
    let Some(entered) = entered else { return };
    let etc = entered.rootfs.join("etc");
    fs::write(etc.join("evil"), "alice:x:1000:1000::/:/bin/sh\n").unwrap();
    let made: [&dyn Fn(&Path); 4] = [
        &|path| {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        },
        &|path| symlink("/proc/self/fd/3", path).unwrap(),
        &|path| symlink("/proc/kmsg", path).unwrap(),
        &|path| fs::create_dir(path).unwrap(),
    ];
    for make in made {
        let other = etc.join("other");
        make(&other);
        let exchange = Exchange::begin(etc.join("passwd"), other.clone());
        for _ in 0..15 {
            let words = ["sh", "-c", "id -u; id -G"];
            if let Some(run) = entered.exec(&["--user", "alice"], &words) {
                run.stdout("1000\n1000\n");
            }
        }
        while exchange.rounds() < ROUNDS / 4 {
            std::thread::yield_now();
        }
        drop(exchange);
        let passwd = etc.join("passwd");
        if !fs::symlink_metadata(&passwd).unwrap().is_file() {
            renameat_with(CWD, &passwd, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        }
        let _ = fs::remove_file(&other).or_else(|_| fs::remove_dir(&other));
    }
}

/// D-21: between the look at a program and its execution its name turns into a way to a program of the host.
#[test]
fn a_program_exchanged_for_a_link_never_is_one_of_the_host() {
    let getpid = |times| {
        let calls = (0..times).fold(Elf::new(), |elf, _| elf.call(Entrance::Native, 39, &[]));
        calls.build()
    };
    let entered = Entered::start(|env, rootfs| {
        for (path, content) in [(env.path("hosts"), getpid(1)), (rootfs.join("x"), getpid(2))] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
        }
    });
    let Some(entered) = entered else { return };
    let outside = entered.env.path("hosts");
    for fd in [3, 4, 5, 6, 7, 8] {
        let other = entered.rootfs.join("other");
        symlink(format!("/proc/self/fd/{fd}/1/root{}", outside.display()), &other).unwrap();
        let exchange = Exchange::begin(entered.rootfs.join("x"), other.clone());
        for _ in 0..20 {
            if let Some(run) = entered.exec(&[], &["/x"]) {
                assert_eq!(run.stdout.len(), 8, "the host's program ran");
            }
        }
        while exchange.rounds() < ROUNDS / 4 {
            std::thread::yield_now();
        }
        drop(exchange);
        let program = entered.rootfs.join("x");
        if fs::symlink_metadata(&program).unwrap().is_symlink() {
            renameat_with(CWD, &program, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        }
        fs::remove_file(&other).unwrap();
    }
}
