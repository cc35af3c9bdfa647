//! A directory for a test, with stock git at hand.

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Output},
};

pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/var/tmp/krgo-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a test directory");
        Self { path }
    }

    /// Runs git here and returns what it printed; fails the test when git fails.
    #[track_caller]
    pub(crate) fn git<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        self.git_in("", arguments)
    }

    /// Runs git here and returns the bytes it printed.
    #[track_caller]
    pub(crate) fn output<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Vec<u8> {
        self.start("", arguments).stdout
    }

    /// Runs git in a directory below; returns standard output and standard error.
    #[track_caller]
    pub(crate) fn git_in<S: AsRef<OsStr>>(&self, directory: &str, arguments: &[S]) -> String {
        let output = self.start(directory, arguments);
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    #[track_caller]
    #[allow(clippy::disallowed_methods, reason = "the tests ask stock git what it thinks")]
    fn start<S: AsRef<OsStr>>(&self, directory: &str, arguments: &[S]) -> Output {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(self.path.join(directory))
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")])
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b")])
            .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@b")])
            .output()
            .expect("git is installed");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git failed: {error}");
        output
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            log::warn!("{error}");
        }
    }
}
