//! Amounts: bytes, processors, tasks, and `--ulimit`.

use std::str::FromStr;

use super::{BadValue, bad};
use crate::{Resource, Rlimit};

/// A number of bytes, as `512`, `64k`, `1.5g`, `2GiB`: docker's binary multiples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || BadValue(format!("{text:?} is no size, such as 512k, 64m or 1.5g"));
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = unit.trim_start().to_ascii_lowercase();
        let shift = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            "p" => 50,
            _ => return Err(refuse()),
        };
        let (whole, fraction) = decimal(number).ok_or_else(refuse)?;
        let bytes = (u128::from(whole) << shift) + ((u128::from(fraction) << shift) / BILLION_WIDE);
        u64::try_from(bytes)
            .ok()
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(Self)
            .ok_or_else(refuse)
    }
}

const BILLION: u64 = 1_000_000_000;
const BILLION_WIDE: u128 = 1_000_000_000;

/// The parts before and after the point, the latter in billionths. No floating point, so that
/// `--cpus 0.1` is exactly a tenth.
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { digits(whole)? };
    let fraction = if fraction.is_empty() { 0 } else { digits(&format!("{fraction:0<9}"))? };
    Some((whole, fraction))
}

/// Digits and nothing else: `parse` alone would take a sign.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `--memory-swap`: an amount, or -1 for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit(pub i64);

impl FromStr for MemoryLimit {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-1" {
            return Ok(Self(-1));
        }
        let Bytes(bytes) = text.parse()?;
        i64::try_from(bytes).map(Self).or_else(|_| bad(format!("{text:?} is too much")))
    }
}

/// `--pids-limit`: a number of tasks; 0 and -1 are no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLimit(pub i64);

impl FromStr for TaskLimit {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(0 | -1) => Ok(Self(-1)),
            Ok(limit @ 1..) => Ok(Self(limit)),
            _ => bad(format!("{text:?} is no number of tasks (-1 is no limit)")),
        }
    }
}

/// `--cpus`: processors' worth of time, in billionths: `0.5` is half of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus(pub u64);

impl FromStr for Cpus {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decimal(text)
            .and_then(|(whole, fraction)| whole.checked_mul(BILLION)?.checked_add(fraction))
            .map(Self)
            .ok_or_else(|| BadValue(format!("{text:?} is no number of processors, such as 1.5")))
    }
}

impl FromStr for Rlimit {
    type Err = BadValue;

    /// docker's `NAME=SOFT[:HARD]`; -1 is infinity.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((name, limits)) = text.split_once('=') else {
            return bad(format!("{text:?} is not NAME=SOFT[:HARD]"));
        };
        let Some(resource) = Resource::from_docker(name) else {
            return bad(format!("no such limit {name:?}"));
        };
        let amount = |amount: &str| match amount {
            "-1" => Ok(u64::MAX),
            _ => digits(amount).ok_or_else(|| BadValue(format!("{amount:?} is no limit"))),
        };
        let (soft, hard) = match limits.split_once(':') {
            Some((soft, hard)) => (amount(soft)?, amount(hard)?),
            None => (amount(limits)?, amount(limits)?),
        };
        if soft > hard {
            return bad(format!("the soft limit {soft} is above the hard limit {hard}"));
        }
        Ok(Self { resource, soft, hard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_multiples() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("64k", 65536),
            ("64KB", 65536),
            ("2GiB", 2 << 30),
            ("1.5g", 3 << 29),
            (".5m", 1 << 19),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "k", "-1", "1x", "1.2.3", "+5", "99999999999999999999", "9000p", "1 k k"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_limits_may_be_unlimited() {
        assert_eq!("-1".parse(), Ok(MemoryLimit(-1)));
        assert_eq!("1k".parse(), Ok(MemoryLimit(1024)));
        assert!("-2".parse::<MemoryLimit>().is_err());
        assert_eq!("0".parse(), Ok(TaskLimit(-1)));
        assert_eq!("7".parse(), Ok(TaskLimit(7)));
        assert!("-7".parse::<TaskLimit>().is_err());
    }

    #[test]
    fn processors_are_exact() {
        assert_eq!("0.1".parse(), Ok(Cpus(100_000_000)));
        assert_eq!("2".parse(), Ok(Cpus(2_000_000_000)));
        for text in ["", ".", "-1", "1e3", "99999999999999"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_ulimit_has_one_or_two_amounts() {
        let limit = |text: &str| text.parse::<Rlimit>().map(|it| (it.resource.0, it.soft, it.hard));
        assert_eq!(limit("nofile=1024"), Ok((7, 1024, 1024)));
        assert_eq!(limit("core=0:-1"), Ok((4, 0, u64::MAX)));
        for text in ["nofile", "files=1", "nofile=2:1", "nofile=+1", "nofile=", "nofile=1:2:3"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}
