//! On the running kernel, in cgroups of our own; needs root.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test may panic, and says why it skips"
)]

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

use configs::{Cpu, DeviceKind, DeviceRule, HugepageLimit, Memory};

use super::*;
use crate::ContainerId;

/// A cgroup that goes away with the test, and a process in it.
struct Inhabited {
    cgroup: Cgroup,
    child: Child,
}

impl Drop for Inhabited {
    fn drop(&mut self) {
        let _ = self.cgroup.kill();
        let _ = self.child.wait();
        if let Err(error) = self.cgroup.remove() {
            eprintln!("left behind: {error}");
        }
        for directory in self.cgroup.place.directories() {
            // Shared by the tests of this process; the last one succeeds.
            let _ = directory.path.parent().map(std::fs::remove_dir);
        }
    }
}

fn place(path: &str) -> Place {
    let id: ContainerId = "test".parse().unwrap();
    let path = PathBuf::from(path);
    Place::choose(&configs::Cgroup { path, ..configs::Cgroup::default() }, &id).unwrap()
}

/// `None`, loudly, where cgroups cannot be made.
fn inhabited(name: &str) -> Option<Inhabited> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    let name = format!("/crun-cargo-test-{}/{name}", std::process::id());
    let cgroup = Cgroup::create(place(&name), &Resources::default()).unwrap();
    // Starts another program once it is in, so that memory is charged.
    let mut child = Command::new("sh")
        .args(["-c", "read go; /bin/true; echo in; sleep 1000; true"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cgroup.add(pid(&child)).unwrap();
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    Some(Inhabited { cgroup, child })
}

/// Whether a version 2 cgroup has these controllers; version 1 has all where this is run.
fn lacks(this: &Inhabited, controllers: &[&str]) -> bool {
    if !this.cgroup.place.is_unified() {
        return false;
    }
    let path = this.cgroup.place.unified_directory().unwrap();
    let text = file::read(path, "cgroup.controllers").unwrap();
    let lacks = !controllers.iter().all(|name| text.split_whitespace().any(|each| each == *name));
    if lacks {
        eprintln!("skipped: needs the controllers {controllers:?}, there are {text:?}");
    }
    lacks
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

#[test]
fn a_process_is_found_stopped_and_killed() {
    let Some(mut this) = inhabited("control") else { return };
    let pid = pid(&this.child);
    assert!(this.cgroup.processes().unwrap().contains(&pid));

    assert!(!this.cgroup.is_frozen().unwrap());
    this.cgroup.freeze().unwrap();
    assert!(this.cgroup.is_frozen().unwrap());
    this.cgroup.thaw().unwrap();
    assert!(!this.cgroup.is_frozen().unwrap());

    this.cgroup.freeze().unwrap();
    this.cgroup.kill().unwrap();
    this.child.wait().unwrap();
    this.cgroup.remove().unwrap();
    assert!(this.cgroup.processes().unwrap().is_empty());
    assert!(this.cgroup.place.directories().all(|each| !each.path.exists()));
    this.cgroup.remove().unwrap();
}

#[test]
fn removing_waits_for_the_dying_and_takes_what_is_below() {
    let Some(mut this) = inhabited("nested") else { return };
    for directory in this.cgroup.place.directories() {
        std::fs::create_dir_all(directory.path.join("a/b")).unwrap();
    }
    this.cgroup.kill().unwrap();
    let reaper = std::thread::spawn({
        let mut child = std::mem::replace(&mut this.child, Command::new("true").spawn().unwrap());
        move || child.wait()
    });
    this.cgroup.remove().unwrap();
    reaper.join().unwrap().unwrap();
    assert!(this.cgroup.place.directories().all(|each| !each.path.exists()));
}

#[test]
fn a_cgroup_of_others_is_refused() {
    let Some(this) = inhabited("taken") else { return };
    let error = Cgroup::create(this.cgroup.place.clone(), &Resources::default()).unwrap_err();
    assert!(error.to_string().contains("has processes already"), "{error}");
    this.cgroup.processes().unwrap();
}

#[test]
fn paths_cannot_lead_out() {
    let id: ContainerId = "test".parse().unwrap();
    let path = PathBuf::from("/a/../../b");
    let cgroup = configs::Cgroup { path, ..configs::Cgroup::default() };
    assert!(Place::choose(&cgroup, &id).is_err());
}

#[test]
fn without_a_path_the_name_is_unique() {
    let (first, second) = (place(""), place(""));
    assert_ne!(first, second);
    let (_, path) = first.paths().next().unwrap();
    assert!(path.to_string_lossy().contains("/crun-cargo/test-"), "{path:?}");
}

#[test]
fn limits_are_what_was_asked_for() {
    let Some(this) = inhabited("limits") else { return };
    if lacks(&this, &["memory", "cpu", "cpuset", "pids"]) {
        return;
    }
    let resources = Resources {
        memory: Memory { limit: Some(64 << 20), reservation: Some(32 << 20), ..Memory::default() },
        cpu: Cpu {
            shares: Some(512),
            quota: Some(20_000),
            period: Some(50_000),
            cpus: Some("0".into()),
            ..Cpu::default()
        },
        pids: Some(17),
        ..Resources::default()
    };
    let (v1, v2) = if this.cgroup.place.is_unified() { (false, true) } else { (true, false) };
    this.cgroup.apply(&resources).unwrap();
    let check = |version: bool, controller: &str, file: &str, expected: &str| {
        if version {
            let place = &this.cgroup.place;
            let directory =
                if v2 { place.unified_directory() } else { place.legacy_directory(controller) };
            assert_eq!(file::read(directory.unwrap(), file).unwrap().trim(), expected, "{file}");
        }
    };
    check(v1, "memory", "memory.limit_in_bytes", "67108864");
    check(v1, "memory", "memory.soft_limit_in_bytes", "33554432");
    check(v1, "cpu", "cpu.shares", "512");
    check(v1, "cpu", "cpu.cfs_quota_us", "20000");
    check(v1, "cpu", "cpu.cfs_period_us", "50000");
    check(v1, "cpuset", "cpuset.cpus", "0");
    check(v1, "pids", "pids.max", "17");
    check(v2, "memory", "memory.max", "67108864");
    check(v2, "memory", "memory.low", "33554432");
    check(v2, "cpu", "cpu.weight", "59");
    check(v2, "cpu", "cpu.max", "20000 50000");
    check(v2, "pids", "pids.max", "17");

    // Growing and shrinking both, whatever the order of limit and sum has to be.
    for limit in [128 << 20, 32 << 20] {
        let memory = Memory { limit: Some(limit), swap: Some(limit * 2), ..Memory::default() };
        this.cgroup.apply(&Resources { memory, ..Resources::default() }).unwrap();
    }
}

#[test]
fn what_cannot_be_limited_is_an_error() {
    let Some(this) = inhabited("impossible") else { return };
    let check = |resources: Resources, expected: &str| {
        let error = this.cgroup.apply(&resources).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let hugepages = vec![HugepageLimit { page_size: "3MB".into(), limit: 1 }];
    check(Resources { hugepages, ..Resources::default() }, "hugetlb");
    if !this.cgroup.place.is_unified() {
        let unified = [("memory.high".to_owned(), "1".to_owned())].into();
        check(Resources { unified, ..Resources::default() }, "version 2");
    }
}

#[test]
fn devices_are_denied_but_for_the_list() {
    let Some(this) = inhabited("devices") else { return };
    let rule = |allow, major: Option<u32>, minor| DeviceRule {
        allow,
        kind: major.map(|_| DeviceKind::Character),
        major,
        minor,
        read: true,
        write: true,
        mknod: true,
    };
    let devices = vec![rule(false, None, None), rule(true, Some(1), Some(3))];
    this.cgroup.apply(&Resources { devices, ..Resources::default() }).unwrap();
    let probe = |device: &str| {
        let mut shell = Command::new("sh")
            .args(["-c", "read go; exec true < \"$0\"", device])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        this.cgroup.add(pid(&shell)).unwrap();
        shell.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        shell.wait().unwrap().success()
    };
    assert!(probe("/dev/null"));
    assert!(!probe("/dev/zero"));
}

#[test]
fn a_lone_thread_enters_by_the_door() {
    let Some(this) = inhabited("door") else { return };
    let door = this.cgroup.door().unwrap();
    // The writing thread moves, alone: the test's process stays where it is.
    let inside = std::thread::spawn(move || {
        door.enter().unwrap();
        std::fs::read_to_string("/proc/thread-self/cgroup").unwrap()
    })
    .join()
    .unwrap();
    let count = inside.lines().filter(|line| line.ends_with("/door")).count();
    assert_eq!(count, this.cgroup.place.legacy.len(), "{inside}");
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_when_asked_to() {
    let Some(this) = inhabited("usage") else { return };
    let (mount, file) = match this.cgroup.place.legacy.iter().find(|each| each.has("memory")) {
        Some(directory) => (&directory.mount, "memory.usage_in_bytes"),
        // The root has no `memory.current`, its children do.
        None => return,
    };
    assert!(v1::refuse_below_usage(mount, file, 1).is_err());
    assert!(v1::refuse_below_usage(mount, file, i64::MAX).is_ok());
    assert!(v1::refuse_below_usage(mount, file, -1).is_ok());
}

#[test]
fn use_is_counted() {
    let Some(this) = inhabited("statistics") else { return };
    if lacks(&this, &["memory", "pids"]) {
        return;
    }
    this.cgroup.apply(&Resources { pids: Some(9), ..Resources::default() }).unwrap();
    let statistics = this.cgroup.statistics().unwrap();
    assert!(statistics.cpu.total > 0, "{:?}", statistics.cpu);
    assert!((1..=3).contains(&statistics.pids.current), "{:?}", statistics.pids);
    assert_eq!(statistics.pids.limit, 9);
    assert!(statistics.memory.usage.current > 0, "{:?}", statistics.memory);
    assert!(statistics.memory.without_inactive_files() <= statistics.memory.usage.current);
    assert!(!statistics.memory.raw.is_empty());
}

#[test]
fn the_oom_killer_is_heard_and_so_is_the_end() {
    let Some(mut this) = inhabited("oom") else { return };
    if lacks(&this, &["memory"]) {
        return;
    }
    let memory = Memory { limit: Some(8 << 20), swap: Some(8 << 20), ..Memory::default() };
    this.cgroup.apply(&Resources { memory, ..Resources::default() }).unwrap();
    let mut watch = this.cgroup.watch_oom().unwrap();
    assert_eq!(watch.next(Duration::from_millis(1)).unwrap(), OomEvent::Nothing);

    let mut eater = Command::new("sh")
        .args(["-c", "read go; exec head -c 64m /dev/zero | tail"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    this.cgroup.add(pid(&eater)).unwrap();
    eater.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(watch.next(Duration::from_secs(10)).unwrap(), OomEvent::OutOfMemory);
    eater.wait().unwrap();

    this.cgroup.kill().unwrap();
    this.child.wait().unwrap();
    this.cgroup.remove().unwrap();
    assert_eq!(watch.next(Duration::from_secs(10)).unwrap(), OomEvent::Ended);
}

#[test]
fn another_process_goes_where_the_first_has_gone() {
    let Some(this) = inhabited("beside") else { return };
    let door = this.cgroup.door_beside(pid(&this.child)).unwrap();
    assert_eq!(door.tasks.len(), this.cgroup.place.legacy.len());
    if !this.cgroup.place.is_unified() {
        return;
    }
    let below = this.cgroup.place.unified_directory().unwrap().join("init.scope");
    std::fs::create_dir(&below).unwrap();
    let processes: Vec<_> = this.cgroup.processes().unwrap();
    for pid in processes {
        file::write(&below, "cgroup.procs", pid.as_raw_nonzero().to_string()).unwrap();
    }
    let door = this.cgroup.door_beside(pid(&this.child)).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&door.directory().unwrap());
    assert_eq!(std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap(), below);
}
