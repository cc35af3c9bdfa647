//! What engines write, and what they must not.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use crate::{
    Action, AttrFlags, DeviceKind, MountSource, NamespaceKind, Personality, Propagation, Seccomp,
};

fn bundle() -> Bundle<'static> {
    Bundle { directory: Path::new("/bundle"), id: "box", driver: CgroupDriver::Cgroupfs }
}

/// A document with this in it, beside the least a document needs.
fn with(fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    format!(r#"{{"ociVersion": "1.3.0", "root": {{"path": "rootfs"}}{comma}{fields}}}"#)
}

#[track_caller]
fn spec(fields: &str) -> Spec {
    parse(&with(fields), bundle()).unwrap().value
}

#[track_caller]
fn refused(fields: &str, place: &str) {
    let problems = parse(&with(fields), bundle()).unwrap_err();
    assert!(problems.0.iter().any(|problem| problem.place == place), "{problems}");
}

#[test]
fn little_is_needed() {
    let spec = spec("");
    assert_eq!(spec.root.path, Path::new("/bundle/rootfs"));
    assert_eq!(spec.process, None);
    assert_eq!(spec.cgroup.unwrap().path, Path::new("/box"));
    assert_eq!(spec.devices.len(), 6);
}

#[test]
fn null_is_absent_and_unknown_keys_are_ignored() {
    let fields = r#""process": {"args": ["sh"], "cwd": "/", "env": null, "capabilities": null,
        "rlimits": null, "user": {"uid": 1, "gid": 2, "additionalGids": null}},
        "mounts": null, "hooks": null, "windows": {"x": [1]}, "linux": {"resources": null, "new": 1}"#;
    let process = spec(fields).process.unwrap();
    assert_eq!(process.capabilities, crate::Capabilities::default());
    assert_eq!(process.user.uid, crate::UserId::Number(1));
}

#[test]
fn an_unknown_capability_is_a_warning_and_widens_nothing() {
    let fields = r#""process": {"args": ["sh"], "cwd": "/",
        "capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_ADMN", "KILL"]}}"#;
    let lowered = parse(&with(fields), bundle()).unwrap();
    assert_eq!(lowered.value.process.unwrap().capabilities.bounding, 1);
    let places: Vec<_> = lowered.warnings.iter().map(|it| it.place.as_str()).collect();
    assert_eq!(places, ["process.capabilities.bounding[1]", "process.capabilities.bounding[2]"]);
}

#[test]
fn a_problem_names_its_place() {
    refused(r#""process": {"args": [], "cwd": "/"}"#, "process.args");
    refused(r#""process": {"args": ["a"], "cwd": "x"}"#, "process.cwd");
    let process = |field: &str| format!(r#""process": {{"args": ["a"], "cwd": "/", {field}}}"#);
    refused(&process(r#""rlimits": [{"type": "RLIMIT_X"}]"#), "process.rlimits[0].type");
    refused(&process(r#""oomScoreAdj": 2000"#), "process.oomScoreAdj");
    refused(&process(r#""scheduler": {"policy": "FAST"}"#), "process.scheduler.policy");
    refused(
        &process(r#""ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}"#),
        "process.ioPriority.priority",
    );
    refused(&process(r#""execCPUAffinity": {"final": "x"}"#), "process.execCPUAffinity.final");
    refused(r#""mounts": [{"type": "bind", "source": "/a"}]"#, "mounts[0].destination");
    refused(r#""mounts": [{"type": "bind", "destination": "/a"}]"#, "mounts[0].source");
    refused(r#""mounts": [{"destination": "/a"}]"#, "mounts[0].type");
    refused(
        r#""mounts": [{"destination": "/a", "source": "/b", "options": ["bind", "szie"]}]"#,
        "mounts[0].options",
    );
    refused(r#""hooks": {"prestart": [{"path": "x"}]}"#, "hooks.prestart[0].path");
    refused(
        r#""hooks": {"poststop": [{"path": "/x", "timeout": 0}]}"#,
        "hooks.poststop[0].timeout",
    );
    refused(r#""linux": {"namespaces": [{"type": "net"}]}"#, "linux.namespaces[0]");
    refused(
        r#""linux": {"namespaces": [{"type": "pid"}, {"type": "pid"}]}"#,
        "linux.namespaces[1]",
    );
    refused(r#""linux": {"namespaces": [{"type": "user"}]}"#, "linux.uidMappings");
    refused(r#""linux": {"devices": [{"path": "/dev/x", "type": "z"}]}"#, "linux.devices[0]");
    refused(r#""linux": {"devices": [{"path": "/dev/../x", "type": "p"}]}"#, "linux.devices[6]");
    refused(r#""linux": {"cgroupsPath": "/a/../../b"}"#, "linux.cgroupsPath");
    refused(r#""linux": {"rootfsPropagation": "loud"}"#, "linux.rootfsPropagation");
    refused(
        r#""linux": {"seccomp": {"defaultAction": "SCMP_ACT_PERMIT"}}"#,
        "linux.seccomp.defaultAction",
    );
    refused(
        r#""linux": {"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY"}}"#,
        "linux.seccomp.listenerPath",
    );
    refused(r#""linux": {"resources": {"unified": {"../x.y": "1"}}}"#, "linux.resources.unified");
    refused(
        r#""linux": {"sysctl": {"kernel.core_pattern": "x"}}"#,
        "linux.sysctl.kernel.core_pattern",
    );
    refused(
        r#""linux": {"sysctl": {"net.ipv4.ip_forward": "1"}}"#,
        "linux.sysctl.net.ipv4.ip_forward",
    );
    refused(r#""linux": {"personality": {"domain": "BSD"}}"#, "linux.personality.domain");
    refused(r#""linux": {"memoryPolicy": {"mode": "MPOL_X"}}"#, "linux.memoryPolicy.mode");
    refused(r#""hostname": "box""#, "hostname");
    assert_eq!(parse("{}", bundle()).unwrap_err().0.len(), 2, "version and root");
    assert!(parse("[", bundle()).unwrap_err().to_string().contains("line 1"));
}

#[test]
fn a_filesystems_options_do_nothing_to_a_bind_mount() {
    let fields =
        r#""mounts": [{"destination": "/a", "source": "/b", "options": ["bind", "size=1"]}]"#;
    let lowered = parse(&with(fields), bundle()).unwrap();
    assert_eq!(lowered.warnings.len(), 1, "{:?}", lowered.warnings);
}

#[test]
fn mounts_are_told_apart() {
    let fields = r#""mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "data", "source": "data", "options": ["rbind", "rro", "rslave"]},
        {"destination": "/t", "type": "tmpfs", "options": ["size=1m", "tmpcopyup", "nosuid"]},
        {"destination": "/c", "type": "cgroup2", "options": ["ro"]},
        {"destination": "/d", "type": "ext4", "source": "/dev/x", "options": ["ro"]}],
        "linux": {"rootfsPropagation": "rslave"}"#;
    let spec = spec(fields);
    let [proc, data, tmpfs, cgroup, disk] = &spec.mounts[..] else { panic!("five mounts") };
    assert!(matches!(&proc.source, MountSource::Filesystem(it) if it.kind == "proc"));
    assert_eq!(data.destination, Path::new("/data"));
    assert_eq!(data.source, MountSource::Bind { path: "/bundle/data".into(), recursive: true });
    assert_eq!(data.set_recursive, AttrFlags::RDONLY);
    assert_eq!(data.propagation, Some((Propagation::Slave, true)));
    assert!(tmpfs.copy_up);
    assert_eq!(cgroup.source, MountSource::Cgroup);
    assert!(matches!(&disk.source, MountSource::Filesystem(it) if it.flags == 1));
    assert_eq!(spec.root.propagation, Some(Propagation::Slave));
}

#[test]
fn the_device_policy_starts_with_nothing() {
    let rules = |rules: &str| {
        let spec = spec(&format!(r#""linux": {{"resources": {{"devices": [{rules}]}}}}"#));
        spec.cgroup.unwrap().resources.devices
    };
    let deny = r#"{"allow": false, "access": "rwm"}"#;
    let tape = r#"{"allow": true, "type": "c", "major": 9, "minor": -1, "access": "r"}"#;
    assert_eq!(rules(""), rules(deny));
    assert!(!rules("").first().unwrap().allow);
    let policy = rules(tape);
    let tape = policy.get(1).unwrap();
    assert_eq!((tape.kind, tape.major, tape.minor), (Some(DeviceKind::Character), Some(9), None));
    assert_eq!(rules(r#"{"allow": true, "access": "rwm"}"#).len(), 1);
}

#[test]
fn a_bind_of_the_hosts_dev_is_left_alone() {
    let spec = spec(r#""mounts": [{"destination": "/dev/", "type": "bind", "source": "/dev"}]"#);
    assert!(spec.devices.is_empty() && !spec.dev_links);
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let fields = r#""linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": [
            {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
            {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}]}}"#;
    let Some(Seccomp::Policy(policy)) = spec(fields).seccomp else { panic!("a policy") };
    assert_eq!(policy.rules.len(), 2);
    assert_eq!(policy.rules.first().unwrap().action, Action::Errno(13));
}

#[test]
fn resources_alone_get_no_defaults() {
    let resources = parse_resources(r#"{"memory": {"limit": 5}, "pids": {"limit": 0}}"#).unwrap();
    assert_eq!(resources.value.memory.limit, Some(5));
    assert_eq!(resources.value.pids, Some(1), "the least that lets the first process in");
    assert!(resources.value.devices.is_empty());
}

/// Everything the format has.
const FULL: &str = include_str!("../../samples/oci-full.json");

#[test]
fn every_field_survives_a_round_trip() {
    let first = parse(FULL, bundle()).unwrap();
    assert_eq!(first.warnings, []);
    assert_eq!(first.value.personality, Some(Personality(8)));
    assert!(first.value.namespaces.creates(NamespaceKind::Time));
    let written = write(&first.value).unwrap();
    assert_eq!(written.warnings, []);
    let second = parse(&written.value, bundle()).unwrap();
    assert_eq!(first.value, second.value);
    let unused: Vec<&str> = FULL
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|word| !written.value.contains(&format!("\"{word}\"")))
        .collect();
    // Each is said in another way: relative paths, defaults, words with the same meaning.
    assert_eq!(unused, ["rootfs", "defaults", "relatime"]);
}
