//! Runs a command with chosen system calls answering ENOSYS, as on an older kernel.
//!
//! `without openat2,mount_setattr COMMAND…`

use std::{collections::BTreeMap, env, os::unix::process::CommandExt, process::Command};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

const CALLS: &[(&str, i64)] = &[
    ("openat2", 437),
    ("close_range", 436),
    ("clone3", 435),
    ("pidfd_open", 434),
    ("pidfd_send_signal", 424),
    ("pidfd_getfd", 438),
    ("open_tree", 428),
    ("move_mount", 429),
    ("fsopen", 430),
    ("fsconfig", 431),
    ("fsmount", 432),
    ("fspick", 433),
    ("mount_setattr", 442),
    ("faccessat2", 439),
    ("execveat", 322),
    ("memfd_create", 319),
    ("statx", 332),
    ("copy_file_range", 326),
    ("fchmodat2", 452),
    ("renameat2", 316),
    ("listmount", 458),
    ("statmount", 457),
    ("landlock_create_ruleset", 444),
];

fn main() {
    let mut arguments = env::args_os().skip(1);
    let names = arguments.next().expect("usage: without CALL,CALL… COMMAND…");
    let program = arguments.next().expect("usage: without CALL,CALL… COMMAND…");
    let rules: BTreeMap<_, _> = names
        .to_str()
        .expect("names of system calls")
        .split(',')
        .map(|name| {
            let known = CALLS.iter().find(|call| call.0 == name);
            (known.unwrap_or_else(|| panic!("{name} is not in the table")).1, vec![])
        })
        .collect();
    let refuse = SeccompAction::Errno(38); // ENOSYS
    let arch = env::consts::ARCH.try_into().expect("an architecture seccompiler knows");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).expect("a filter");
    let program_of_filter: BpfProgram = filter.try_into().expect("a filter that compiles");
    seccompiler::apply_filter(&program_of_filter).expect("the kernel takes filters");
    let error = Command::new(&program).args(arguments).exec();
    panic!("{}: {error}", program.display());
}
