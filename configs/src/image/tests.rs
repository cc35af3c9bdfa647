//! What docker's users rely on.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;

use super::*;
use crate::{
    AttrFlags, MountSource, Process, Seccomp, UserId,
    flags::{TmpfsFlag, VolumeFlag},
};

const IMAGE: &str = r#"{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
    "config": {"User": "www-data", "Env": ["PATH=/bin", "A=1", "broken"], "Entrypoint": ["/entry"],
               "Cmd": ["serve"], "WorkingDir": "/srv", "StopSignal": "SIGQUIT",
               "Labels": {"io.example": "1"}, "Volumes": {"/data": {}}}}"#;

fn image() -> ImageConfiguration {
    serde_json::from_str(IMAGE).unwrap()
}

fn asked() -> Overrides {
    Overrides { cgroup: Some(("/test".into(), CgroupDriver::Cgroupfs)), ..Overrides::default() }
}

#[track_caller]
fn container(asked: &Overrides) -> Container {
    lower(Some(&image()), asked).unwrap().value
}

#[track_caller]
fn process(asked: &Overrides) -> Process {
    container(asked).spec.process.unwrap()
}

#[track_caller]
fn refused(asked: &Overrides, place: &str) {
    let problems = lower(Some(&image()), asked).unwrap_err();
    assert!(problems.0.iter().any(|problem| problem.place.contains(place)), "{problems}");
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn the_image_says_what_runs_unless_the_command_line_does() {
    assert_eq!(process(&asked()).args, ["/entry", "serve"]);
    let args = words(&["other"]);
    assert_eq!(process(&Overrides { args: args.clone(), ..asked() }).args, ["/entry", "other"]);
    let entrypoint = Some(words(&["sh"]));
    assert_eq!(process(&Overrides { entrypoint, ..asked() }).args, ["sh"]);
    let entrypoint = Some(words(&[""]));
    assert_eq!(
        process(&Overrides { args, entrypoint: entrypoint.clone(), ..asked() }).args,
        ["other"]
    );
    refused(&Overrides { entrypoint, ..asked() }, "command");
}

#[test]
fn a_later_variable_replaces_an_earlier_one_in_its_place() {
    let env = words(&["A=2", "B=", "PATH"]);
    let hostname = Some("box".to_owned());
    let process = process(&Overrides { env, hostname, terminal: true, ..asked() });
    assert_eq!(process.env, ["HOSTNAME=box", "TERM=xterm", "A=2", "B="]);
    let warnings = lower(Some(&image()), &asked()).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "the image's entry without a value");
}

#[test]
fn the_image_says_who_and_where() {
    let process = process(&asked());
    assert_eq!(process.user.uid, UserId::Name("www-data".to_owned()));
    assert_eq!(process.cwd, Path::new("/srv"));
    let container = container(&asked());
    assert_eq!(container.stop_signal, Signal(3));
    assert_eq!(container.labels.get("io.example").map(String::as_str), Some("1"));
    assert!(container.spec.annotations.is_empty(), "labels have no authority");
}

#[test]
fn capabilities_follow_dockers_rule() {
    let bounding = |add: &[&str], drop: &[&str]| {
        let asked = Overrides { cap_add: words(add), cap_drop: words(drop), ..asked() };
        process(&asked).capabilities.bounding
    };
    assert_eq!(bounding(&[], &[]), 0xa804_25fb, "as docker's");
    assert_eq!(bounding(&["net_admin"], &["ALL"]), 1 << 12);
    assert_eq!(bounding(&["ALL"], &["CAP_CHOWN"]), 0x1ff_ffff_fffe);
    assert_eq!(bounding(&["CAP_CHOWN"], &["CHOWN"]), 0xa804_25fb);
    refused(&Overrides { cap_add: words(&["SYS_ADMN"]), ..asked() }, "--cap-add");
}

#[test]
fn limits_are_dockers() {
    let limits = Limits {
        memory: Some(Bytes(1 << 20)),
        cpus: Some("1.5".parse().unwrap()),
        pids: Some("10".parse().unwrap()),
        ..Limits::default()
    };
    let resources =
        container(&Overrides { limits: limits.clone(), ..asked() }).spec.cgroup.unwrap().resources;
    assert_eq!((resources.memory.limit, resources.memory.swap), (Some(1 << 20), Some(2 << 20)));
    assert_eq!((resources.cpu.quota, resources.cpu.period), (Some(150_000), Some(100_000)));
    assert_eq!(resources.pids, Some(10));
    refused(&Overrides { limits: limits.clone(), cgroup: None, ..asked() }, "limits");
    let clash = Limits { cpu_quota: Some(5000), ..limits.clone() };
    refused(&Overrides { limits: clash, ..asked() }, "--cpus");
    let small = Limits { memory_swap: Some(MemoryLimit(1)), ..limits };
    refused(&Overrides { limits: small, ..asked() }, "--memory-swap");
}

#[test]
fn what_was_asked_for_replaces_a_default_mount() {
    let volume: VolumeFlag = "/tmp/shm:/dev/shm/:ro".parse().unwrap();
    let deep: VolumeFlag = "data:/srv/a/b".parse::<VolumeFlag>().unwrap();
    let deep = VolumeFlag(crate::flags::Volume {
        source: crate::flags::VolumeSource::Path("data".into()),
        ..deep.0
    });
    let shallow: TmpfsFlag = "/srv:exec,size=1m".parse().unwrap();
    let mounts = vec![
        MountFlag::Volume(deep.0),
        MountFlag::Volume(volume.0.clone()),
        MountFlag::Tmpfs(shallow.0),
    ];
    let asked = Overrides { mounts, host_directory: "/home".into(), ..asked() };
    let mounts = container(&asked).spec.mounts;
    let places: Vec<_> =
        mounts.iter().map(|mount| mount.destination.display().to_string()).collect();
    assert_eq!(
        places,
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/mqueue",
            "/srv",
            "/dev/shm/",
            "/srv/a/b"
        ]
    );
    let bind = mounts.last().unwrap();
    let source = MountSource::Bind { path: "/home/data".into(), recursive: true };
    assert_eq!((&bind.source, bind.set.is_empty()), (&source, true));
    let tmpfs = mounts.get(6).unwrap();
    assert!(!tmpfs.set.contains(AttrFlags::NOEXEC) && tmpfs.set.contains(AttrFlags::NODEV));
    let twice = vec![MountFlag::Volume(volume.0.clone()), MountFlag::Volume(volume.0)];
    refused(&Overrides { mounts: twice, ..asked }, "--mount");
}

#[test]
fn a_declared_volume_is_writable_in_a_read_only_root() {
    let places = |read_only| {
        let mounts = container(&Overrides { read_only, ..asked() }).spec.mounts;
        mounts.iter().any(|mount| mount.destination == Path::new("/data"))
    };
    assert!(places(true));
    assert!(!places(false));
}

#[test]
fn privileged_takes_everything_off() {
    let spec = container(&Overrides { privileged: true, ..asked() }).spec;
    assert_eq!((spec.seccomp, spec.masked_paths.len()), (None, 0));
    assert_eq!(spec.cgroup.unwrap().resources.devices.len(), 1);
    assert!(!spec.mounts.iter().any(|mount| mount.set.contains(AttrFlags::RDONLY)));
    assert_eq!(container(&asked()).spec.seccomp, Some(Seccomp::Default));
}

#[test]
fn every_problem_is_reported_at_once() {
    let asked = Overrides {
        user: Some("99999999999".to_owned()),
        workdir: Some("relative".into()),
        sysctls: words(&["kernel.core_pattern=|/x", "nothing"]),
        cap_drop: words(&["X"]),
        uts: NamespaceChoice::Host,
        hostname: Some("box".to_owned()),
        ..asked()
    };
    let problems = lower(Some(&image()), &asked).unwrap_err();
    assert_eq!(problems.0.len(), 6, "{problems}");
}
