//! Signals by name, signal(7).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A signal by its number on Linux' common architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal(pub i32);

/// A word that names no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such signal {0:?}")]
pub struct UnknownSignal(pub String);

/// Number 1 first.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

const ALIASES: [(&str, i32); 5] =
    [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31), ("EXIT", 0)];

/// As libc and the shells count: the kernel's 32 and 33 are the C library's own.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

impl Signal {
    /// SIGKILL
    pub const KILL: Self = Self(9);
    /// SIGTERM
    pub const TERM: Self = Self(15);
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// A number or a name, with or without `SIG`, in any case: `9`, `KILL`, `sigrtmin+3`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownSignal(text.to_owned());
        if let Ok(number) = text.parse::<u8>() {
            let number = i32::from(number);
            return if number <= *REAL_TIME.end() { Ok(Self(number)) } else { Err(unknown()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        (1..)
            .zip(NAMES)
            .find(|(_, known)| *known == name)
            .map(|(number, _)| number)
            .or_else(|| ALIASES.iter().find(|(known, _)| *known == name).map(|alias| alias.1))
            .or_else(|| real_time(name))
            .map(Self)
            .ok_or_else(unknown)
    }
}

/// `RTMIN`, `RTMIN+n`, `RTMAX`, `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let distance = |rest: &str, sign: char| match rest {
        "" => Some(0),
        _ => rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        REAL_TIME.start() + distance(rest, '+')?
    } else {
        REAL_TIME.end() - distance(name.strip_prefix("RTMAX")?, '-')?
    };
    REAL_TIME.contains(&number).then_some(number)
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = usize::try_from(self.0 - 1).ok().and_then(|index| NAMES.get(index));
        match name {
            Some(name) => write!(formatter, "SIG{name}"),
            None if REAL_TIME.contains(&self.0) => {
                write!(formatter, "SIGRTMIN+{}", self.0 - REAL_TIME.start())
            }
            None => write!(formatter, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, number: i32, shown: &str) {
        assert_eq!(text.parse(), Ok(Signal(number)));
        assert_eq!(Signal(number).to_string(), shown);
    }

    #[test]
    fn names_and_numbers_are_signals() {
        check("9", 9, "SIGKILL");
        check("term", 15, "SIGTERM");
        check("SIGSYS", 31, "SIGSYS");
        check("SIGRTMIN+3", 37, "SIGRTMIN+3");
        check("RTMAX-14", 50, "SIGRTMIN+16");
        check("CLD", 17, "SIGCHLD");
    }

    #[test]
    fn other_words_are_not() {
        for text in ["", "SIG", "65", "-1", "RTMIN+31", "RTMIN-1", "SIGNAL"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }
}
