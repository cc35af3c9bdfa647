//! What old files meant, and the traps that are not to be walked into again.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;

use super::*;
use crate::{
    Action, AttrFlags, Capability, Comparison, DeviceKind, Hook, IdMap, MountSource, Process,
    Propagation, Seccomp, UserId,
};

fn invocation() -> Invocation {
    Invocation {
        directory: "/here".into(),
        unique_name: "unique".to_owned(),
        caller: (1000, 1001),
        process: ProcessFlags { args: vec!["sh".to_owned()], ..ProcessFlags::default() },
        ..Invocation::default()
    }
}

#[track_caller]
fn lowered(text: &str) -> Lowered<Spec> {
    parse(text, &invocation()).unwrap()
}

#[track_caller]
fn spec(text: &str) -> Spec {
    lowered(text).value
}

#[track_caller]
fn process(text: &str) -> Process {
    spec(text).process.unwrap()
}

#[track_caller]
fn refused(text: &str, says: &str) {
    let problems = parse(text, &invocation()).unwrap_err().to_string();
    assert!(problems.contains(says), "{problems}");
}

/// A nested document with these fields.
fn nested(fields: &str) -> String {
    format!(r#"{{"mount_config": {{}}, "namespaces": [{{"type": "NEWNS"}}], {fields} }}"#)
        .replace(",  }", "}")
}

/// A flat document with these fields.
fn flat(fields: &str) -> String {
    let text = format!(r#"{{"rootfs": "/r", "namespaces": [{{"type": "NEWNS"}}], {fields} }}"#);
    text.replace(",  }", "}")
}

#[test]
fn generations_are_told_apart_by_their_keys() {
    assert_eq!(spec(&nested("")).parent_death_signal, 9);
    assert_eq!(spec(&flat("")).parent_death_signal, 0);
    assert_eq!(spec(r#"{"namespaces": {"NEWNS": true, "NEWPID": false}}"#).parent_death_signal, 9);
    let switches = r#"{"namespaces": [{"key": "NEWNS", "enabled": true}, {"key": "NEWPID", "enabled": false}]}"#;
    assert!(!spec(switches).namespaces.creates(NamespaceKind::Pid));
    assert!(spec(switches).namespaces.creates(NamespaceKind::Mount));
    refused(
        r#"{"tty": true, "readonlyfs": true}"#,
        r#""tty" and "readonlyfs" belong to different"#,
    );
    let oci =
        r#"{"ociVersion": "1.0.0", "root": {"path": "r"}, "process": {"args": ["x"], "cwd": "/"}}"#;
    assert_eq!(spec(oci).root.path, Path::new("/here/r"));
    assert_eq!(process(oci).args, ["sh"], "the command line says what runs");
}

#[test]
fn a_file_that_decides_nothing_is_flat() {
    refused("{}", "is not an absolute path or is a symlink");
}

#[test]
fn keys_are_read_in_any_case_and_unknown_ones_are_told() {
    let lowered = lowered(
        &nested(r#""HostName": "box", "workin_dir": "/x", "TTY": true"#)
            .replace("NEWNS\"}", "NEWNS\"}, {\"type\": \"NEWUTS\"}"),
    );
    assert_eq!(lowered.value.hostname.as_deref(), Some("box"));
    assert!(lowered.value.process.unwrap().terminal);
    let warnings: Vec<String> = lowered.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, [r#"workin_dir: unknown key, did you mean "working_dir"?"#]);
}

/// TRAP: an absent mount_config crashed the old program.
#[test]
fn mount_config_may_be_absent() {
    let spec = spec(r#"{"tty": false, "namespaces": [{"type": "NEWNS"}]}"#);
    assert_eq!(spec.root.path, Path::new("/here/"));
    assert_eq!(spec.mounts.len(), 6);
}

#[test]
fn the_nested_generation_implies_the_systems_mounts() {
    let plain = spec(&nested(""));
    let places: Vec<_> = plain.mounts.iter().map(|it| it.destination.to_str().unwrap()).collect();
    assert_eq!(places, ["/proc", "/dev", "/dev/shm", "/dev/mqueue", "/dev/pts", "/sys"]);
    assert!(!plain.mounts[5].set.contains(AttrFlags::RDONLY));
    let restricted = spec(&nested(r#""restrict_sys": true"#));
    assert!(restricted.mounts[5].set.contains(AttrFlags::RDONLY));
    assert_eq!(restricted.masked_paths, [Path::new("/proc/kcore")]);
    assert_eq!(restricted.read_only_paths.len(), 4);
}

#[test]
fn without_a_mount_namespace_nothing_is_mounted() {
    let spec = spec(r#"{"mount_config": {}, "restrict_sys": true, "namespaces": []}"#);
    assert!(spec.mounts.is_empty() && spec.devices.is_empty() && spec.masked_paths.is_empty());
}

#[test]
fn the_nested_process_is_in_the_file() {
    let process = process(&nested(
        r#""environment": ["A=1"], "user": "www-data:staff", "working_dir": "/srv",
           "additional_groups": [5, 6], "capabilities": ["CHOWN", "FLY"]"#,
    ));
    assert_eq!(process.env, ["A=1"], "the whole environment");
    assert_eq!(process.user.uid, UserId::Name("www-data".to_owned()));
    assert!(!process.user.groups.from_files);
    assert_eq!(process.user.groups.additional, [UserId::Number(5), UserId::Number(6)]);
    assert_eq!(process.cwd, Path::new("/srv"));
    assert_eq!(process.capabilities, crate::Capabilities::usable(1), "and nothing inheritable");
    refused(&nested(r#""environment": ["A"]"#), "invalid environment 'A'");
}

/// TRAP: an empty list drops everything.
#[test]
fn no_capabilities_are_none() {
    assert_eq!(process(&nested("")).capabilities.bounding, 0);
    assert_eq!(process(&flat(r#""capabilities": []"#)).capabilities.bounding, 0);
    refused(&flat(r#""capabilities": ["FLY"]"#), r#"unknown capability "FLY""#);
    let mask = r#"{"capabilities_mask": [{"key": "CHOWN", "enabled": true}, {"key": "KILL", "enabled": false}],
        "namespaces": []}"#;
    assert_eq!(process(mask).capabilities.bounding, Capability(0).bit());
}

/// TRAP: a user namespace without maps never worked.
#[test]
fn a_user_namespace_without_maps_maps_the_caller() {
    let spec = spec(&nested("").replace("NEWNS\"}", "NEWNS\"}, {\"type\": \"NEWUSER\"}"));
    assert_eq!(spec.id_maps.uids, [IdMap { container: 0, host: 1000, size: 1 }]);
    assert_eq!(spec.id_maps.gids, [IdMap { container: 0, host: 1001, size: 1 }]);
    let flat = flat("").replace("NEWNS\"}", "NEWNS\"}, {\"type\": \"NEWUSER\"}");
    refused(&flat, "linux.uidMappings");
}

/// TRAP: without a name and a parent, process 1's own cgroup was changed for the whole machine.
#[test]
fn a_cgroup_without_a_name_is_a_private_one() {
    let path = |group: &str| {
        let spec = spec(&nested(&format!(r#""cgroups": {group}"#)));
        spec.cgroup.map(|group| group.path)
    };
    assert_eq!(path("{}"), Some("/unique".into()));
    assert_eq!(path(r#"{"name": "a", "parent": "p"}"#), Some("/p/a".into()));
    assert_eq!(path(r#"{"parent": "p"}"#), Some("/p/unique".into()));
    assert_eq!(path("null"), None, "absent: none is made at all");
    refused(&nested(r#""cgroups": {"name": "../x"}"#), "may not contain");
}

#[test]
fn memory_and_swap_follow_each_generations_rule() {
    let swap = |text: &str| spec(text).cgroup.unwrap().resources.memory.swap;
    assert_eq!(swap(&nested(r#""cgroups": {"memory": 100}"#)), Some(200));
    assert_eq!(swap(&nested(r#""cgroups": {"memory": 100, "memory_swap": -1}"#)), None);
    assert_eq!(swap(&nested(r#""cgroups": {"memory": 100, "memory_swap": 150}"#)), Some(150));
    assert_eq!(swap(&flat(r#""cgroups": {"memory": 100}"#)), None);
}

/// TRAP: Go dropped quota and period, because their names were taken twice; and an absent swappiness
/// meant 0.
#[test]
fn what_go_lost_by_accident_is_honoured() {
    let resources =
        |group: &str| spec(&flat(&format!(r#""cgroups": {group}"#))).cgroup.unwrap().resources;
    let cpu = resources(r#"{"cpu_quota": 5000, "cpu_period": 10000, "cpu_rt_runtime": 7}"#).cpu;
    assert_eq!((cpu.quota, cpu.period, cpu.realtime_runtime), (Some(5000), Some(10000), Some(7)));
    assert_eq!(resources("{}").memory.swappiness, None);
    assert_eq!(resources(r#"{"memory_swappiness": 0}"#).memory.swappiness, Some(0));
    assert_eq!(resources(r#"{"memory_swappiness": -1}"#).memory.swappiness, None);
}

#[test]
fn devices_have_letters_as_numbers_and_modes_in_decimal() {
    let devices = |device: &str| {
        spec(&nested("").replace("{},", &format!(r#"{{"device_nodes": [{device}]}},"#))).devices
    };
    // The sample leaves out the minor number of /dev/tty.
    let tty =
        &devices(r#"{"type": 99, "path": "/dev/tty", "major_number": 5, "file_mode": 438}"#)[0];
    assert_eq!((tty.kind, tty.major, tty.minor, tty.mode), (DeviceKind::Character, 5, 0, 0o666));
    let tty =
        &devices(r#"{"type": "b", "path": "/dev/a", "major_number": 8, "file_mode": "0600"}"#)[0];
    assert_eq!((tty.kind, tty.mode), (DeviceKind::Block, 0o600));
    let rules = spec(&flat(
        r#""cgroups": {"allowed_devices": [{"type": 99, "major": 136, "minor": -1, "permissions": "rw"}]}"#,
    ));
    let rules = rules.cgroup.unwrap().resources.devices;
    assert_eq!(rules.len(), 2);
    assert!(!rules[0].allow && rules[1].minor.is_none() && !rules[1].mknod);
    let all = spec(&flat(
        r#""cgroups": {"allow_all_devices": true,
           "denied_devices": [{"type": 98, "major": 8, "minor": 0, "permissions": "rwm"}]}"#,
    ));
    let rules = all.cgroup.unwrap().resources.devices;
    assert!(rules[0].allow && !rules[1].allow);
}

#[test]
fn nested_binds_are_read_only_and_recursive() {
    let mount = |mount: &str| {
        let text = nested("").replace("{},", &format!(r#"{{"mounts": [{mount}]}},"#));
        spec(&text).mounts.pop().unwrap()
    };
    let bind = mount(r#"{"type": "bind", "source": "/a", "destination": "/b"}"#);
    assert_eq!(bind.source, MountSource::Bind { path: "/a".into(), recursive: true });
    assert!(bind.set.contains(AttrFlags::RDONLY));
    let bind = mount(
        r#"{"type": "bind", "source": "/a", "destination": "b", "writable": true, "slave": true}"#,
    );
    assert!(bind.set.is_empty());
    assert_eq!(bind.destination, Path::new("/b"));
    assert_eq!(bind.propagation, Some((Propagation::Slave, true)));
    let text = |kind: &str, to: &str| {
        let mount = format!(
            r#"{{"mounts": [{{"type": "{kind}", "source": "/a", "destination": "{to}"}}]}},"#
        );
        nested("").replace("{},", &mount)
    };
    refused(&text("nfs", "/b"), "unsupported mount type nfs for /b");
    refused(&text("bind", "/"), "mounting into / is prohibited");
    refused(&text("bind", "/proc/x"), r#"located inside "/proc""#);
}

#[test]
fn flat_mounts_have_raw_flags() {
    let fields = r#""mounts": [
        {"device": "proc", "destination": "/proc", "source": "proc", "flags": 14},
        {"device": "bind", "destination": "/r/data", "source": "/data", "flags": 20481,
         "premount_cmds": [{"path": "/bin/a", "args": ["b"], "dir": "/c"}]},
        {"device": "tmpfs", "destination": "/t", "source": "tmpfs", "flags": ["nosuid"], "data": "mode=755"},
        {"device": "cgroup", "destination": "/sys/fs/cgroup"}]"#;
    let mounts = spec(&flat(fields)).mounts;
    assert_eq!(mounts[0].set, AttrFlags(14));
    assert_eq!(mounts[1].destination, Path::new("/data"), "the root may be written in front");
    assert_eq!(mounts[1].source, MountSource::Bind { path: "/data".into(), recursive: true });
    assert!(mounts[1].set.contains(AttrFlags::RDONLY));
    let hook = Hook {
        path: "/bin/a".into(),
        args: vec!["/bin/a".to_owned(), "b".to_owned()],
        env: Some(Vec::new()),
        dir: Some("/c".into()),
        ..Hook::default()
    };
    assert_eq!(mounts[1].before, [hook]);
    assert_eq!(mounts[2].set, AttrFlags::NOSUID);
    assert_eq!(mounts[3].source, MountSource::Cgroup);
    let odd = r#""mounts": [{"device": "zfs", "destination": "/z"}]"#;
    refused(&flat(odd), r#"unknown mount device "zfs" to "/z""#);
    refused(
        &flat(r#""mounts": [{"device": "proc", "destination": "/proc", "flags": 512}]"#),
        "unknown bits",
    );
}

/// TRAP: nothing is implied any more, and the samples of 2.0 do not know it.
#[test]
fn a_flat_file_without_proc_gets_the_systems_mounts() {
    let text = flat(r#""mounts": [{"device": "tmpfs", "destination": "/dev/shm"}]"#);
    let lowered = lowered(&text);
    assert_eq!(lowered.value.mounts.len(), 6);
    assert_eq!(lowered.warnings.len(), 1);
    let strict = Invocation { strict: true, ..invocation() };
    assert_eq!(parse(&text, &strict).unwrap().value.mounts.len(), 1);
}

#[test]
fn networks_become_interfaces_and_loopback_is_decoration() {
    let with_network = |text: String| text.replace("NEWNS\"}", "NEWNS\"}, {\"type\": \"NEWNET\"}");
    let networks = r#""networks": [
        {"type": "loopback", "address": "127.0.0.1/0", "gateway": "localhost", "mtu": 1500},
        {"type": "veth", "bridge": "br0", "veth_prefix": "v", "address": "10.0.0.2/24",
         "gateway": "10.0.0.1", "mtu": 0, "mac_address": "02:42:ac:11:00:02"}],
        "routes": [{"destination": "10.1.0.0/16", "source": "10.0.0.2/24", "interface_name": "eth0"}]"#;
    let spec = spec(&with_network(nested(networks)));
    let [veth] = &spec.interfaces[..] else { panic!("one interface") };
    assert_eq!((veth.name.as_str(), veth.host_name.as_str()), ("eth0", "v"));
    assert!(veth.host_name_is_prefix);
    assert_eq!(veth.mtu, None, "TRAP: 0 means leave");
    assert_eq!(veth.mac, Some([2, 0x42, 0xac, 0x11, 0, 2]));
    assert_eq!(spec.routes[0].source, Some("10.0.0.2".parse().unwrap()));
    let veth = r#""networks": [{"type": "veth", "address": "10.0.0.2/24", "veth_prefix": "v"}]"#;
    refused(&with_network(nested(veth)), "bridge is not specified");
    refused(
        &with_network(nested(r#""networks": [{"type": "ring"}]"#)),
        "not a valid network strategy type",
    );
    let flat_veth = r#""networks": [{"type": "veth", "bridge": "b", "name": "eth1",
        "host_interface_name": "h", "address": "10.0.0.2/24"}]"#;
    refused(&flat(flat_veth), "needs a network namespace");
    refused(&with_network(flat(r#""routes": [{"interface_name": "eth0"}]"#)), "a route needs");
}

#[test]
fn the_oldest_spellings_mean_the_same() {
    let text = r#"{"readonly_fs": true, "no_pivot_root": true, "device_nodes": [], "namespaces": {"NEWNS": true},
        "ipc": "/proc/7/ns/ipc", "mounts": [{"type": "tmpfs", "destination": "/t"}],
        "context": {"apparmor_profile": "p", "process_label": "l", "mount_label": "m", "restrictions": "true"},
        "networks": [{"type": "netns", "context": {"nspath": "/var/run/netns/x"}}]}"#;
    let lowered = lowered(text);
    assert_eq!(lowered.warnings, []);
    let spec = lowered.value;
    assert!(spec.root.read_only && spec.no_pivot);
    assert_eq!(spec.mounts.len(), 7);
    assert_eq!(
        spec.namespaces.get(NamespaceKind::Ipc).unwrap().join.as_deref(),
        Some(Path::new("/proc/7/ns/ipc"))
    );
    assert_eq!(
        spec.namespaces.get(NamespaceKind::Network).unwrap().join.as_deref(),
        Some(Path::new("/var/run/netns/x"))
    );
    let process = spec.process.unwrap();
    assert_eq!(
        (process.apparmor_profile.as_deref(), process.selinux_label.as_deref()),
        (Some("p"), Some("l"))
    );
    assert_eq!(spec.mount_label.as_deref(), Some("m"));
    assert_eq!(spec.masked_paths.len(), 1);
}

#[test]
fn filters_have_names_and_their_own_arguments() {
    let fields = r#""seccomp": {"syscalls": [
        {"value": 57, "action": 1},
        {"value": 56, "action": -3, "args": [{"index": 0, "value": 268435456, "op": 4},
                                              {"index": 2, "value": 7, "op": 2}]}]}"#;
    let spec = spec(&flat(fields));
    assert!(spec.process.unwrap().no_new_privileges);
    let Some(Seccomp::Policy(policy)) = spec.seccomp else { panic!("a policy") };
    let names: Vec<_> = policy.rules.iter().map(|rule| rule.names[0].as_str()).collect();
    assert_eq!(names, ["fork", "clone", "clone"], "any of a rule's arguments decides");
    assert_eq!(policy.rules[0].action, Action::Errno(1));
    assert_eq!(
        policy.rules[1].conditions[0].comparison,
        Comparison::Masked { mask: 0xffff_ffff_1000_0000 }
    );
    assert_eq!(policy.rules[2].conditions[0].index, 2);
    refused(
        &flat(r#""seccomp": {"syscalls": [{"value": 9999, "action": 1}]}"#),
        "no system call 9999",
    );
}

#[test]
fn the_command_line_has_the_last_word() {
    let mut invocation = invocation();
    invocation.process = ProcessFlags {
        args: vec!["id".to_owned()],
        user: Some("7".to_owned()),
        cwd: Some("/w".to_owned()),
        env: vec!["TERM=vt100".to_owned()],
        tty: true,
    };
    let process = parse(&flat(""), &invocation).unwrap().value.process.unwrap();
    assert_eq!(process.env.last().map(String::as_str), Some("TERM=vt100"));
    assert_eq!(process.env.len(), 3);
    assert_eq!((process.user.uid, process.terminal), (UserId::Number(7), true));
    invocation.root = Some("/image".into());
    let spec = parse(r#"{"namespaces": [], "hostname": ""}"#, &invocation).unwrap().value;
    assert_eq!(spec.root.path, Path::new("/image"));
}

#[test]
fn the_template_lowers_and_survives_writing() {
    let document = template("/var/lib/box", &CreateFlags::default()).unwrap();
    let text = document.print().unwrap();
    assert!(text.starts_with("{\n\t\"no_pivot_root\": false,\n\t\"parent_death_signal\": 9,"));
    let first = lowered(&text);
    assert_eq!(first.warnings, []);
    assert_eq!(first.value.cgroup.as_ref().unwrap().path, Path::new("/nsinit/box"));
    let again = write(&first.value).unwrap().value.print().unwrap();
    assert_eq!(lowered(&again).value, first.value);
}

/// TRAP: flags nobody gave overrode swappiness and the parent-death signal with zero.
#[test]
fn flags_change_the_template_only_when_given() {
    let text = |flags: &CreateFlags| template("/box", flags).unwrap().print().unwrap();
    let plain = text(&CreateFlags::default());
    assert!(
        plain.contains("\"memory_swappiness\": -1") && plain.contains("\"parent_death_signal\": 9")
    );
    let flags = CreateFlags {
        read_only: true,
        memory_limit: Some(1000),
        userns_root_uid: Some(5000),
        uts: NamespaceFlag::Host,
        pid: "/proc/9/ns/pid".parse().unwrap(),
        binds: vec!["/a:/b:ro".to_owned()],
        tmpfs: vec!["/t".to_owned()],
        sysctls: vec!["net.core.somaxconn=9".to_owned()],
        cgroup: true,
        security: Some(Level::High),
        veth: VethFlags {
            bridge: Some("br0".to_owned()),
            address: Some("10.0.0.2/24".to_owned()),
            ..VethFlags::default()
        },
        ..CreateFlags::default()
    };
    let spec = spec(&text(&flags));
    assert!(spec.root.read_only && spec.hostname.is_none());
    assert_eq!(spec.mounts.len(), 9);
    assert_eq!(spec.interfaces.len(), 1);
    assert_eq!(spec.devices[0].uid, 0, "5000 outside is root inside");
    assert_eq!(spec.id_maps.uids[0].host, 5000);
    let Some(Seccomp::Policy(policy)) = spec.seccomp else { panic!("a policy") };
    let has = |name: &str| policy.rules.iter().any(|rule| rule.names[0] == name);
    assert!(has("mount") && has("fsopen") && has("clone3") && has("fchmodat"));
    let bad = CreateFlags { binds: vec!["/a:/b:rx".to_owned()], ..CreateFlags::default() };
    assert!(template("/", &bad).unwrap_err().to_string().contains("invalid bind mount mode rx"));
}

#[test]
fn a_loaded_file_is_printed_without_what_is_zero() {
    let text =
        r#"{"tty": false, "hostname": "b", "cgroups": {"name": "", "memory": 5}, "networks": []}"#;
    assert_eq!(
        print(text).unwrap(),
        "{\n\t\"hostname\": \"b\",\n\t\"cgroups\": {\n\t\t\"memory\": 5\n\t}\n}"
    );
}
