//! What a pull or push shows while it works: bars on a terminal, lines elsewhere, JSON for programs.
//!
//! Everything goes to standard error, so that the result on standard output stays clean.

use std::{
    io::{self, IsTerminal},
    sync::atomic::{AtomicU64, Ordering},
};

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::output;

/// `--progress`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Bars on a terminal, plain lines otherwise
    #[default]
    Auto,
    /// Bars
    Tty,
    /// A line when something begins and ends
    Plain,
    /// A JSON object per line
    Json,
    /// Nothing
    None,
}

/// The display of one operation.
#[derive(Debug)]
pub(crate) enum Progress {
    Bars(MultiProgress),
    Plain,
    Json,
    Silent,
}

/// One layer's or blob's part of the display.
#[derive(Debug)]
pub(crate) struct Item<'p> {
    progress: &'p Progress,
    name: String,
    total: u64,
    bar: Option<ProgressBar>,
    /// Bytes so far, for JSON.
    passed: AtomicU64,
}

impl Progress {
    /// The display for a mode; `quiet` wins.
    pub(crate) fn new(mode: Mode, quiet: bool) -> Self {
        let mode = if quiet { Mode::None } else { mode };
        match mode {
            Mode::Auto if io::stderr().is_terminal() => Self::Bars(MultiProgress::new()),
            // Asked for by name: even where the library would hide them.
            Mode::Tty => Self::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            Mode::Auto | Mode::Plain => Self::Plain,
            Mode::Json => Self::Json,
            Mode::None => Self::Silent,
        }
    }

    /// Says something about the whole.
    pub(crate) fn say(&self, text: &str) {
        match self {
            // Without a terminal the library swallows this; nobody looks then.
            Self::Bars(bars) => drop(bars.println(text)),
            Self::Plain => output::note(text),
            Self::Json => output::note(json!({ "status": text })),
            Self::Silent => {}
        }
    }

    /// Starts a part of `total` bytes.
    pub(crate) fn item(&self, name: &str, total: u64) -> Item<'_> {
        let bar = match self {
            Self::Bars(bars) => {
                let bar = bars.add(ProgressBar::new(total));
                bar.set_style(style("{prefix} {msg:10} {bar:30} {decimal_bytes:>10} of {decimal_total_bytes:<10} {decimal_bytes_per_sec:>12}"));
                bar.set_prefix(name.to_owned());
                bar.set_message("waiting");
                Some(bar)
            }
            _ => None,
        };
        Item { progress: self, name: name.to_owned(), total, bar, passed: AtomicU64::new(0) }
    }
}

impl Item<'_> {
    /// Work on it begins.
    pub(crate) fn begin(&self, what: &'static str) {
        match (&self.bar, self.progress) {
            (Some(bar), _) => bar.set_message(what),
            (None, Progress::Plain) => {
                output::note(format_args!("{}: {what} {}", self.name, bytes(self.total)));
            }
            (None, Progress::Json) => self.tell(what, None),
            _ => {}
        }
    }

    /// So many more bytes have passed.
    pub(crate) fn advance(&self, count: u64) {
        match (&self.bar, self.progress) {
            (Some(bar), _) => bar.inc(count),
            (None, Progress::Json) => {
                let before = self.passed.fetch_add(count, Ordering::Relaxed);
                // One line per megabyte: a program wants to see movement, not every block.
                if before >> 20 != (before + count) >> 20 {
                    self.tell("progress", Some(before + count));
                }
            }
            _ => {}
        }
    }

    /// So many bytes have passed, all in all: less than before when something broke and starts again.
    pub(crate) fn at(&self, position: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(position),
            None => {
                let before = self.passed.load(Ordering::Relaxed);
                self.advance(position.saturating_sub(before));
            }
        }
    }

    /// It is finished.
    pub(crate) fn end(&self, what: &'static str) {
        match (&self.bar, self.progress) {
            (Some(bar), _) => {
                bar.set_style(style("{prefix} {msg}"));
                bar.finish_with_message(format!("{what} ({})", bytes(self.total)));
            }
            (None, Progress::Plain) => output::note(format_args!("{}: {what}", self.name)),
            (None, Progress::Json) => self.tell(what, Some(self.total)),
            _ => {}
        }
    }

    fn tell(&self, status: &str, current: Option<u64>) {
        output::note(json!({
            "id": self.name, "status": status, "current": current, "total": self.total,
        }));
    }
}

/// A number of bytes as people say it, in thousands as on a disk's box: `49.2MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut whole, mut rest, mut unit) = (count, 0, 0);
    while whole >= 1000 && unit + 1 < UNITS.len() {
        (whole, rest, unit) = (whole / 1000, whole % 1000, unit + 1);
    }
    let name = UNITS.get(unit).copied().unwrap_or("B");
    // Three digits at most: more are noise.
    match whole {
        _ if unit == 0 => format!("{whole}{name}"),
        0..10 => format!("{whole}.{:02}{name}", rest / 10),
        10..100 => format!("{whole}.{}{name}", rest / 100),
        _ => format!("{whole}{name}"),
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours, and the tests try them.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (count, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (49_213_000, "49.2MB"),
            (1_068_000_000, "1.06GB"),
            (123_456, "123kB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
