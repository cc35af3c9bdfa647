//! What runtimes weigh: memory, system calls, containers per second, many at once, and how little is enough.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::oci::{Runtime, bundle, runtimes};
use crate::{
    measure::{Candidate, Rounds, peak, shell},
    peers,
    stage::Stage,
};

/// Peak memory of `run` and `create`, and the system calls of one `run` with all its processes.
pub(super) fn size(_: &Rounds) -> Result<(), String> {
    let stage = Stage::new()?;
    let bundle = bundle(&stage, "bundle", &["/bin/true"])?;
    println!("| runtime | run KiB | create KiB | system calls |\n|---|--:|--:|--:|");
    for runtime in working(runtimes(&stage), &bundle) {
        let run = runtime.words(&["run", "--bundle", &bundle, "bench"]);
        let create = runtime.line(&["create", "--bundle", &bundle, "bench"]);
        // The container keeps its standard descriptors, and would keep us waiting for their end.
        let create = ["sh", "-c", &format!("exec {create} </dev/null >/dev/null 2>&1")];
        let peaks = [peak(&Candidate::new("", run.clone())), peak(&Candidate::new("", create))];
        let _ = shell(&runtime.line(&["delete", "--force", "bench"]));
        let [run_peak, create_peak] = peaks.map(|kib| kib.map_or("-".into(), |n| n.to_string()));
        let calls = system_calls(&stage, &run).map_or("-".into(), |n| n.to_string());
        println!("| {} | {run_peak} | {create_peak} | {calls} |", runtime.name);
    }
    println!("\ngoal: at most 2048 KiB each, and 350 system calls");
    Ok(())
}

fn system_calls(stage: &Stage, command: &[String]) -> Option<u64> {
    let strace = peers::named("strace")?;
    let report = stage.path("calls");
    let mut counted = Command::new(strace);
    counted.args(["-f", "-c", "-o"]).arg(&report).args(command);
    counted.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    counted.status().ok()?.success().then_some(())?;
    let text = fs::read_to_string(report).ok()?;
    let total = text.lines().find(|line| line.ends_with(" total"))?;
    total.split_whitespace().nth(3)?.parse().ok()
}

/// Eight at a time, the best of three turns.
pub(super) fn parallel(_: &Rounds) -> Result<(), String> {
    const TOGETHER: usize = 8;
    const EACH: usize = 20;
    let stage = Stage::new()?;
    let bundle = bundle(&stage, "bundle", &["/bin/true"])?;
    let runtimes = working(runtimes(&stage), &bundle);
    let mut best = vec![0.0_f64; runtimes.len()];
    for _ in 0..3 {
        for (runtime, best) in runtimes.iter().zip(&mut best) {
            let begin = Instant::now();
            thread::scope(|scope| {
                for row in 0..TOGETHER {
                    let bundle = &bundle;
                    scope.spawn(move || {
                        for number in 0..EACH {
                            let id = format!("bench-{row}-{number}");
                            let words = runtime.words(&["run", "--bundle", bundle, &id]);
                            if !finish(&words) {
                                println!("{id} failed");
                            }
                        }
                    });
                }
            });
            let rate = (TOGETHER * EACH) as f64 / begin.elapsed().as_secs_f64();
            *best = best.max(rate);
        }
    }
    println!("| runtime | containers/s |\n|---|--:|");
    for (runtime, rate) in runtimes.iter().zip(&best) {
        println!("| {} | {rate:.0} |", runtime.name);
    }
    if let Some(crun) = runtimes.iter().position(|runtime| runtime.name == "crun") {
        println!("\ngoal: crun-cargo ≥ 2.5 × crun: {:.2}", best[0] / best[crun]);
    }
    Ok(())
}

/// Two hundred that stay.
pub(super) fn fleet(_: &Rounds) -> Result<(), String> {
    const MANY: usize = 200;
    let stage = Stage::new()?;
    let bundle = bundle(&stage, "bundle", &["/bin/sleep", "1000"])?;
    println!("| runtime | KiB each | ms to start | ms to delete | processes besides |");
    println!("|---|--:|--:|--:|--:|");
    for runtime in working(runtimes(&stage), &bundle) {
        let (before, others) = (available()?, processes_of(&runtime));
        let begin = Instant::now();
        for number in 0..MANY {
            detach(&runtime, &bundle, &format!("fleet-{number}"))?;
        }
        let started = begin.elapsed();
        let (after, left) = (available()?, processes_of(&runtime).saturating_sub(others));
        let begin = Instant::now();
        for number in 0..MANY {
            let id = format!("fleet-{number}");
            finish(&runtime.words(&["delete", "--force", &id]));
        }
        let each = |time: Duration| time.as_secs_f64() * 1e3 / MANY as f64;
        println!(
            "| {} | {} | {:.1} | {:.1} | {left} |",
            runtime.name,
            before.saturating_sub(after) / MANY as u64,
            each(started),
            each(begin.elapsed()),
        );
    }
    println!("\ngoal: no more KiB each than crun leaves, and no process besides the containers'");
    Ok(())
}

fn available() -> Result<u64, String> {
    thread::sleep(Duration::from_millis(500));
    let text = fs::read_to_string("/proc/meminfo").map_err(|error| error.to_string())?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| "/proc/meminfo has no MemAvailable".into())
}

/// How many processes run the runtime's own program.
fn processes_of(runtime: &Runtime) -> usize {
    let program = fs::canonicalize(&runtime.command[0]).ok();
    let runs = |entry: fs::DirEntry| fs::read_link(entry.path().join("exe")).ok() == program;
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|_| program.is_some())
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .filter_map(|entry| runs(entry).then_some(()))
        .count()
}

/// The smallest memory limit under which the program starts, three times of three.
pub(super) fn limit(_: &Rounds) -> Result<(), String> {
    let stage = Stage::new()?;
    println!("| runtime | KiB |\n|---|--:|");
    for runtime in working(runtimes(&stage), &bundle(&stage, "bundle", &["/bin/true"])?) {
        let starts = |kib: u64| {
            let place = bundle(&stage, "limited", &["/bin/true"])?;
            set_limit(Path::new(&place), kib)?;
            let words = runtime.words(&["run", "--bundle", &place, "bench"]);
            let patient = [&["timeout".to_owned(), "10".to_owned()], &words[..]].concat();
            Ok::<bool, String>((0..3).all(|_| finish(&patient)))
        };
        let (mut below, mut enough) = (0, 64);
        while enough <= 65_536 && !starts(enough)? {
            (below, enough) = (enough, enough * 2);
        }
        while enough - below > (enough / 16).max(16) {
            let middle = u64::midpoint(below, enough) / 4 * 4;
            if starts(middle)? { enough = middle } else { below = middle }
        }
        println!("| {} | {enough} |", runtime.name);
        let _ = shell(&runtime.line(&["delete", "--force", "bench"]));
    }
    println!("\ngoal: crun-cargo with 512 KiB, and where crun does");
    Ok(())
}

fn set_limit(bundle: &Path, kib: u64) -> Result<(), String> {
    let path = bundle.join("config.json");
    let text = fs::read(&path).map_err(|error| error.to_string())?;
    let mut document: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    document["linux"]["resources"]["memory"] = json!({"limit": kib * 1024});
    fs::write(&path, document.to_string()).map_err(|error| error.to_string())
}

/// Those that can run the bundle here; says why others cannot.
fn working(all: Vec<Runtime>, bundle: &str) -> Vec<Runtime> {
    let works = |runtime: &Runtime| match detach(runtime, bundle, "bench") {
        Ok(()) => shell(&runtime.line(&["delete", "--force", "bench"])).is_ok(),
        Err(reason) => {
            println!("left out: {}: {reason}", runtime.name);
            false
        }
    };
    all.into_iter().filter(works).collect()
}

/// Not kept waiting by a container that holds our pipes.
fn detach(runtime: &Runtime, bundle: &str, id: &str) -> Result<(), String> {
    let line = runtime.line(&["run", "--detach", "--bundle", bundle, id]);
    shell(&format!("{line} </dev/null >/dev/null 2>&1"))
}

fn finish(words: &[String]) -> bool {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
