//! A command that ended, and what a test may say about it.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

/// What a command did. The checks panic with everything a reader needs to see.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub took: Duration,
    /// It had to be killed because it did not end in time.
    pub late: bool,
}

/// What a pull says without a terminal: `NAME: sha256:…`, `39b5c011e967: pulling 3.08MB`.
fn is_progress(line: &str) -> bool {
    let Some((what, rest)) = line.rsplit_once(": ") else { return false };
    let is_layer = what.len() == 12 && what.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_layer || rest.starts_with("sha256:") && rest.len() == 71
}

impl Finished {
    /// The exit status is zero.
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// The exit status is this one.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        if self.status.code() != Some(expected) || self.late {
            self.complain(&format!("exit status {expected}"));
        }
        self
    }

    /// The exit status is not zero, no signal killed it, and it did not panic (S7).
    #[track_caller]
    pub fn failure(self) -> Self {
        let panicked = self.error().contains("panicked at");
        if self.late || panicked || self.status.code().is_none_or(|code| code == 0) {
            self.complain("an orderly failure");
        }
        self
    }

    /// Standard output is exactly this.
    #[track_caller]
    pub fn stdout(self, expected: &str) -> Self {
        if self.stdout != expected.as_bytes() {
            self.complain(&format!("standard output {expected:?}"));
        }
        self
    }

    /// Standard output contains this.
    #[track_caller]
    pub fn stdout_has(self, expected: &str) -> Self {
        if !self.text().contains(expected) {
            self.complain(&format!("standard output containing {expected:?}"));
        }
        self
    }

    /// Standard output does not contain this.
    #[track_caller]
    pub fn stdout_lacks(self, unexpected: &str) -> Self {
        if self.text().contains(unexpected) {
            self.complain(&format!("standard output without {unexpected:?}"));
        }
        self
    }

    /// Standard error contains this; capitals do not matter.
    #[track_caller]
    pub fn stderr_has(self, expected: &str) -> Self {
        if !self.error().to_lowercase().contains(&expected.to_lowercase()) {
            self.complain(&format!("standard error containing {expected:?}"));
        }
        self
    }

    /// Standard error does not contain this.
    #[track_caller]
    pub fn stderr_lacks(self, unexpected: &str) -> Self {
        if self.error().contains(unexpected) {
            self.complain(&format!("standard error without {unexpected:?}"));
        }
        self
    }

    /// The failure is told in one line, followed at most by a hint or the usage.
    #[track_caller]
    pub fn one_clear_line(self) -> Self {
        let error = self.error();
        let aside = |line: &&str| {
            let start = ["hint: ", "crun-cargo: warning: "];
            is_progress(line) || start.iter().any(|start| line.starts_with(start))
        };
        let lines = error.lines().filter(|line| !aside(line)).count();
        if lines != 1 {
            self.complain("one clear line on standard error");
        }
        self
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as text without white space around it.
    pub fn word(&self) -> String {
        self.text().trim().to_owned()
    }

    /// Standard error as text.
    pub fn error(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as a JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| self.complain(&format!("JSON on standard output ({error})")))
    }

    /// Panics with what was expected and all that is known.
    #[track_caller]
    pub fn complain(&self, expected: &str) -> ! {
        let ending = match (self.late, self.status.code(), self.status.signal()) {
            (true, ..) => "killed: it did not end in time".to_owned(),
            (_, Some(code), _) => format!("exit status {code}"),
            (_, _, signal) => format!("signal {}", signal.unwrap_or_default()),
        };
        panic!(
            "expected {expected} from\n  {}\nbut: {ending} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.what,
            self.took,
            self.text(),
            self.error()
        );
    }
}
