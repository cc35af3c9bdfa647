//! An ordinary user with subordinate ids, to run the program as.
//!
//! The machine's own accounts stay as they are: the user exists in a mount namespace, where edited copies
//! cover `/etc/passwd` and its kin. Where the tests themselves run as an ordinary user, it is that one.

use std::{ffi::OsStr, fs, os::unix::fs::chown, path::PathBuf};

use crate::{Finished, Invocation, Need, TestEnv, program};

/// Whoever that is elsewhere, it is nobody here.
const ID: u32 = 61_000;
const NAME: &str = "cctuser";

/// Covers the files, then becomes the user; `$1` holds the copies.
const BECOME: &str = "etc=$1; shift; \
    for file in $etc/*; do mount --bind $file /etc/${file##*/} || exit 99; done; \
    exec setpriv --reuid 61000 --regid 61000 --clear-groups \"$@\"";

/// What these tests need of the machine.
pub const NEEDS: [Need; 3] = [
    Need::UserNamespaces,
    Need::Program("newuidmap", "uidmap"),
    Need::Program("setpriv", "util-linux"),
];

/// The user, in one test's environment.
pub struct Ordinary<'e> {
    env: &'e TestEnv,
    program: PathBuf,
    etc: PathBuf,
}

impl<'e> Ordinary<'e> {
    /// One with 65536 subordinate ids.
    pub fn new(env: &'e TestEnv) -> Self {
        Self::granted(env, &format!("{NAME}:2000000:65536\n"))
    }

    /// One without any.
    pub fn without_grants(env: &'e TestEnv) -> Self {
        Self::granted(env, "")
    }

    fn granted(env: &'e TestEnv, grants: &str) -> Self {
        if !nix::unistd::geteuid().is_root() {
            return Self { env, program: program(), etc: PathBuf::new() };
        }
        let accounts = fs::read_to_string("/etc/passwd").expect("accounts");
        let own = format!("{accounts}{NAME}:x:{ID}:{ID}::/nonexistent:/bin/sh\n");
        env.file("etc/passwd", own);
        env.file("etc/subuid", grants);
        env.file("etc/subgid", grants);
        // The build may lie where only its owner can look.
        let copy = env.path("crun-cargo");
        fs::copy(program(), &copy).expect("a file of ours");
        let home = env.directory().join("home");
        for place in [&env.store(), &env.runroot(), &home, &env.path("")] {
            chown(place, Some(ID), Some(ID)).expect("a directory of ours");
        }
        Self { env, program: copy, etc: env.path("etc") }
    }

    /// A command as this user.
    pub fn other<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Invocation {
        if self.etc.as_os_str().is_empty() {
            return self.env.other(&program.as_ref().to_string_lossy(), arguments);
        }
        let become_user = ["-m", "sh", "-c", BECOME, "sh"];
        self.env.other("unshare", become_user).arg(&self.etc).arg(program).args(arguments)
    }

    /// The program as this user, with the test's own directories.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Invocation {
        let none: [&str; 0] = [];
        let (root, runroot) = (self.env.store(), self.env.runroot());
        let command = self.other(&self.program, none).arg("--root").arg(root);
        command.arg("--runroot").arg(runroot).args(arguments)
    }

    /// Runs that to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Finished {
        self.command(arguments).run()
    }

    /// Where this user finds the program.
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// Gives a tree the test made to this user.
    pub fn give(&self, tree: &std::path::Path) {
        if self.etc.as_os_str().is_empty() {
            return;
        }
        let owner = format!("{ID}:{ID}");
        self.env.other("chown", ["-R", &owner]).arg(tree).run().success();
    }
}
