//! Times commands with hyperfine, in turn, and reads their peak memory from time(1).

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

/// A command to time, with what has to happen before each of its runs.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    /// A shell line run before every timed run, untimed.
    pub(crate) prepare: Option<String>,
}

impl Candidate {
    pub(crate) fn new(
        name: impl Into<String>,
        command: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self { name: name.into(), command, prepare: None }
    }

    pub(crate) fn prepare(mut self, line: impl Into<String>) -> Self {
        self.prepare = Some(line.into());
        self
    }

    /// Runs it once, untimed: whether it works here at all, and what it said if it does not.
    fn try_once(&self) -> Result<(), String> {
        if let Some(line) = &self.prepare {
            shell(line)?;
        }
        let output = Command::new(&self.command[0])
            .args(&self.command[1..])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", self.command[0]))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        Err(format!("{}: {}", output.status, last.unwrap_or("no message")))
    }
}

/// How often each command runs.
pub(crate) struct Rounds {
    pub(crate) count: usize,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { count: 20 }
    }
}

/// What one command took.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) name: String,
    /// Wall seconds, sorted.
    pub(crate) seconds: Vec<f64>,
    /// Largest resident set of any of its processes, in KiB; none where time(1) is missing.
    pub(crate) peak_kib: Option<u64>,
    /// What all its threads computed, in its median run.
    pub(crate) cpu_seconds: f64,
}

/// One run of one command.
#[derive(Clone, Copy, Debug)]
struct Timed {
    wall: f64,
    cpu: f64,
}

impl Measured {
    pub(crate) fn min(&self) -> f64 {
        self.seconds.first().copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.seconds.get(self.seconds.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl Rounds {
    /// Fewer rounds, for commands that take seconds.
    pub(crate) fn slow(&self) -> Self {
        Self { count: self.count.div_ceil(6).max(3) }
    }

    /// Times every candidate that works; says which do not.
    pub(crate) fn measure(&self, candidates: &[Candidate]) -> Result<Vec<Measured>, String> {
        let mut working = Vec::new();
        for candidate in candidates {
            match candidate.try_once() {
                Ok(()) => working.push(candidate.clone()),
                Err(reason) => println!("left out: {}: {reason}", candidate.name),
            }
        }
        let mut measured: Vec<Measured> = working
            .iter()
            .map(|c| Measured {
                name: c.name.clone(),
                seconds: Vec::new(),
                peak_kib: peak(c),
                cpu_seconds: f64::NAN,
            })
            .collect();
        let mut runs: Vec<Vec<Timed>> = vec![Vec::new(); working.len()];
        for round in 0..self.count {
            let mut order: Vec<usize> = (0..working.len()).collect();
            order.rotate_left(round % working.len().max(1));
            for (index, timed) in order.iter().zip(hyperfine(&working, &order)?) {
                runs[*index].push(timed);
            }
        }
        for (one, mut runs) in measured.iter_mut().zip(runs) {
            runs.sort_by(|one, other| one.wall.total_cmp(&other.wall));
            one.cpu_seconds = runs.get(runs.len() / 2).map_or(f64::NAN, |run| run.cpu);
            one.seconds = runs.iter().map(|run| run.wall).collect();
        }
        Ok(measured)
    }
}

/// One round: each command once, in this order.
fn hyperfine(candidates: &[Candidate], order: &[usize]) -> Result<Vec<Timed>, String> {
    let export = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let mut command = Command::new("hyperfine");
    command.args(["-N", "--runs", "1", "--style", "none", "--export-json"]).arg(export.path());
    for &index in order {
        let line = candidates[index].prepare.as_deref().unwrap_or("true");
        // hyperfine is told to do without a shell, here too.
        command.arg("--prepare").arg(join(&["sh", "-c", line].map(str::to_owned)));
    }
    for &index in order {
        command.arg(join(&candidates[index].command));
    }
    let output = command.output().map_err(|error| format!("hyperfine: {error}"))?;
    if !output.status.success() {
        return Err(format!("hyperfine: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    times(export.path())
}

fn times(export: &Path) -> Result<Vec<Timed>, String> {
    let text = fs::read(export).map_err(|error| error.to_string())?;
    let document: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let results = document["results"].as_array().ok_or("hyperfine exported no results")?;
    let number = |result: &Value, name: &str| result[name].as_f64().ok_or("a time is missing");
    let timed = |result| -> Result<Timed, &str> {
        let cpu = number(result, "user")? + number(result, "system")?;
        Ok(Timed { wall: number(result, "mean")?, cpu })
    };
    Ok(results.iter().map(timed).collect::<Result<_, _>>()?)
}

/// The command as one line that hyperfine splits back into the same words.
fn join(words: &[String]) -> String {
    let quoted: Vec<String> =
        words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    quoted.join(" ")
}

/// Peak memory in KiB, of the command and what it waits for.
pub(crate) fn peak(candidate: &Candidate) -> Option<u64> {
    if let Some(line) = &candidate.prepare {
        shell(line).ok()?;
    }
    let report = tempfile::NamedTempFile::new().ok()?;
    let status = Command::new("/usr/bin/time")
        .args(["-f", "%M", "-o"])
        .arg(report.path())
        .args(&candidate.command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    let text = status.success().then(|| fs::read_to_string(report.path()).ok())??;
    text.trim().parse().ok()
}

/// Runs a line of shell to its end.
pub(crate) fn shell(line: &str) -> Result<(), String> {
    let output = Command::new("sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
