//! `--debug`, `--log`, `--log-format`: where the libraries' log lines go.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::PathBuf,
    sync::OnceLock,
    time::SystemTime,
};

use anyhow::Context;
use clap::ValueEnum;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::{report, timestamp};

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// `time="…" level=warning msg="…"`
    #[default]
    Text,
    /// One JSON object per line, as container engines read it.
    Json,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Tell everything.
    pub(crate) debug: bool,
    /// Append to this file instead of standard error.
    pub(crate) file: Option<PathBuf>,
    /// The file's format.
    pub(crate) format: Format,
}

struct Logger {
    file: Option<File>,
    format: Format,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Starts logging; without settings, warnings reach standard error.
pub(crate) fn start(settings: &Settings) -> anyhow::Result<()> {
    let file = match &settings.file {
        Some(path) => Some(
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .with_context(|| format!("cannot write the log file {}", path.display()))?,
        ),
        None => None,
    };
    let logger = LOGGER.get_or_init(|| Logger { file, format: settings.format });
    // A second start (there is none) would keep the first logger, which is as good.
    let _ = log::set_logger(logger);
    log::set_max_level(if settings.debug { LevelFilter::Debug } else { LevelFilter::Warn });
    Ok(())
}

/// Also puts a failure into the log file, where engines look for it; standard error has it anyway.
pub(crate) fn record_failure(message: &str) {
    if let Some(logger) = LOGGER.get()
        && logger.file.is_some()
    {
        logger.write(Level::Error, message);
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        // The HTTP libraries tell of every byte; our own crates are what --debug is about.
        let is_ours = ["crun_cargo", "configs", "registry", "rootfs", "runtime", "sys"]
            .iter()
            .any(|name| record.target().split("::").next() == Some(name));
        if self.enabled(record.metadata()) && (is_ours || record.level() <= Level::Warn) {
            self.write(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

impl Logger {
    fn write(&self, level: Level, message: &str) {
        let word = match level {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let message = report::printable(message);
        let time = || timestamp::rfc3339(SystemTime::now());
        let line = match (&self.file, self.format) {
            (_, Format::Json) => {
                serde_json::json!({ "time": time(), "level": word, "msg": message }).to_string()
            }
            (None, Format::Text) => format!("crun-cargo: {word}: {message}"),
            (Some(_), Format::Text) => format!("time=\"{}\" level={word} msg={message:?}", time()),
        };
        // A log that cannot be written must not stop a container.
        let _ = match self.file.as_ref() {
            Some(mut file) => writeln!(file, "{line}"),
            None => writeln!(std::io::stderr().lock(), "{line}"),
        };
    }
}
