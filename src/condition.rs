//! What a container is doing, from its record and from the runtime.

use std::fmt;

use runtime::{Containers, Status};

use crate::{record::Container, timestamp};

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Made, and not started yet.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its program has ended, with this code if anybody was there to see it.
    Exited(Option<u8>),
}

/// Looks.
pub(crate) fn of(containers: &Containers, container: &Container) -> anyhow::Result<Condition> {
    let status = match containers.load(&container.id()?) {
        Ok(running) => Some(running.status()?),
        Err(runtime::Error::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(match status {
        Some(Status::Creating | Status::Created) => Condition::Created,
        Some(Status::Running) => Condition::Running,
        Some(Status::Paused) => Condition::Paused,
        Some(Status::Stopped) | None => match container.exit_code() {
            None if container.is_attended() => Condition::Created,
            code => Condition::Exited(code),
        },
    })
}

impl Condition {
    /// docker's word for it, as filters take it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited(_) => "exited",
        }
    }

    /// Whether it has processes.
    pub(crate) fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// `Up 3 minutes`, `Exited (1) 2 hours ago`.
    pub(crate) fn sentence(self, container: &Container) -> String {
        let (started, finished) = container.times();
        let since = |moment: Option<&str>| moment.and_then(timestamp::parse);
        let up = || match since(started) {
            Some(moment) => format!("Up {}", timestamp::span(moment.elapsed().unwrap_or_default())),
            None => "Up".to_owned(),
        };
        match self {
            Self::Created => "Created".to_owned(),
            Self::Running => up(),
            Self::Paused => format!("{} (Paused)", up()),
            Self::Exited(code) => {
                // Nobody was there to see it: the machine or whoever ran it was killed.
                let code = code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
                match since(finished) {
                    Some(moment) => format!("Exited ({code}) {}", timestamp::ago(moment)),
                    None => format!("Exited ({code})"),
                }
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}
