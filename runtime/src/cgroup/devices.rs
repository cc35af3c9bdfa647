//! Which devices a container may use (D-28): version 1's files, or a program the kernel asks.

use std::path::Path;

use configs::{DeviceKind, DeviceRule};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::Place;
use crate::{Error, Result, error::OrFail, user_namespace};

/// Version 1: a default, and exceptions from it.
pub(super) fn apply_v1(place: &Place, rules: &[DeviceRule]) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let directory = place.legacy_directory("devices").ok_or_else(|| {
        Error::Unsupported("the device policy needs the cgroup controller devices".into())
    })?;
    let policy = Exceptions::of(rules)?;
    let (same, other) = if policy.allow {
        ("devices.allow", "devices.deny")
    } else {
        ("devices.deny", "devices.allow")
    };
    super::file::write(directory, same, "a")?;
    if policy.list.is_empty() {
        return Ok(());
    }
    let path = directory.join(other);
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&path, flags, Mode::empty())
        .or_fail(|| format!("open {}", path.display()))?;
    for rule in &policy.list {
        let line = line(rule);
        // The kernel takes one rule a write.
        rustix::io::write(&file, line.as_bytes())
            .or_fail(|| format!("write {line:?} to {}", path.display()))?;
    }
    Ok(())
}

/// What version 1 can express.
#[derive(Debug, PartialEq)]
struct Exceptions {
    /// The default.
    allow: bool,
    /// The contrary, for these.
    list: Vec<DeviceRule>,
}

impl Exceptions {
    /// Replays the rules. The kernel would silently ignore a rule that takes a part out of an
    /// exception, so that one is an error here (D-37).
    fn of(rules: &[DeviceRule]) -> Result<Self> {
        let mut policy = Self { allow: false, list: Vec::new() };
        for rule in rules {
            if is_everything(rule) {
                policy = Self { allow: rule.allow, list: Vec::new() };
            } else if rule.allow == policy.allow {
                policy.take_back(rule)?;
            } else {
                policy.add(rule);
            }
        }
        Ok(policy)
    }

    fn add(&mut self, rule: &DeviceRule) {
        match self.list.iter_mut().find(|known| same_devices(known, rule)) {
            Some(known) => {
                known.read |= rule.read;
                known.write |= rule.write;
                known.mknod |= rule.mknod;
            }
            None => self.list.push(rule.clone()),
        }
    }

    fn take_back(&mut self, rule: &DeviceRule) -> Result<()> {
        for known in self.list.iter_mut().filter(|known| overlap(known, rule)) {
            if !covers(rule, known) {
                return Err(Error::Unsupported(format!(
                    "cgroup version 1 cannot make an exception ({}) from an exception ({})",
                    line(rule),
                    line(known)
                )));
            }
            known.read &= !rule.read;
            known.write &= !rule.write;
            known.mknod &= !rule.mknod;
        }
        self.list.retain(|known| known.read || known.write || known.mknod);
        Ok(())
    }
}

fn is_everything(rule: &DeviceRule) -> bool {
    let devices = rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none();
    devices && rule.read && rule.write && rule.mknod
}

fn same_devices(left: &DeviceRule, right: &DeviceRule) -> bool {
    (left.kind, left.major, left.minor) == (right.kind, right.major, right.minor)
}

/// Whether some device and access is in both.
fn overlap(left: &DeviceRule, right: &DeviceRule) -> bool {
    fn meet<T: PartialEq>(left: Option<T>, right: Option<T>) -> bool {
        left.is_none() || right.is_none() || left == right
    }
    let access = left.read && right.read || left.write && right.write || left.mknod && right.mknod;
    access
        && meet(left.kind, right.kind)
        && meet(left.major, right.major)
        && meet(left.minor, right.minor)
}

/// Whether every device of `inner` is one of `outer`.
fn covers(outer: &DeviceRule, inner: &DeviceRule) -> bool {
    fn covers<T: PartialEq>(outer: Option<T>, inner: Option<T>) -> bool {
        outer.is_none() || outer == inner
    }
    covers(outer.kind, inner.kind)
        && covers(outer.major, inner.major)
        && covers(outer.minor, inner.minor)
}

/// As `devices.allow` and `devices.list` write it, cgroup-v1/devices.txt.
fn line(rule: &DeviceRule) -> String {
    let kind = match rule.kind {
        None => 'a',
        Some(DeviceKind::Block) => 'b',
        Some(_) => 'c',
    };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let mut line = format!("{kind} {}:{} ", number(rule.major), number(rule.minor));
    for (word, wanted) in [('r', rule.read), ('w', rule.write), ('m', rule.mknod)] {
        line.extend(wanted.then_some(word));
    }
    line
}

/// Version 2: a program of type BPF_PROG_TYPE_CGROUP_DEVICE, attached to the directory.
pub(super) fn apply_v2(directory: &Path, rules: &[DeviceRule]) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let what = || format!("attach the device policy to {}", directory.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let cgroup = rustix::fs::open(directory, flags, Mode::empty()).or_fail(what)?;
    let program = match sys::load_device_program(&program(rules)) {
        // Nor can anybody in a user namespace make a node: a container there has the devices it is shown.
        Err(error) if user_namespace::explains(&error) => return Ok(()),
        other => other.or_fail(what)?,
    };
    let earlier = sys::attached_device_programs(&cgroup).or_fail(what)?;
    sys::attach_device_program(&cgroup, &program).or_fail(what)?;
    // An update: all programs have to agree, so the old policy goes once the new one is there. Ours and
    // systemd's are not told apart; on an update the caller wants this policy.
    for old in earlier {
        match sys::detach_device_program(&cgroup, old) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            Err(error) => return Err(error).or_fail(what),
        }
    }
    Ok(())
}

// linux/bpf.h: registers and the fields of struct bpf_cgroup_dev_ctx.
const R0: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;
const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const JUMP_IF_EQUAL: u8 = 0x16;
const EXIT: u8 = 0x95;
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// Later rules win, so they come first; each takes the accesses it allows out of those asked for, until
/// none is left or one is denied. What no rule allows is denied.
fn program(rules: &[DeviceRule]) -> Vec<u64> {
    let mut code = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        code.extend(block(rule));
        if is_everything(rule) {
            break;
        }
    }
    code.push(instruction(MOVE, R0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

fn block(rule: &DeviceRule) -> Vec<u64> {
    let accesses = [(MKNOD, rule.mknod), (READ, rule.read), (WRITE, rule.write)];
    let access = accesses.iter().filter(|row| row.1).fold(0, |mask, row| mask | row.0);
    // The last three instructions answer, unless some access is still undecided.
    let mut verdict = if rule.allow {
        vec![
            instruction(AND, ACCESS, 0, 0, !access),
            instruction(JUMP_UNLESS_EQUAL, ACCESS, 0, 2, 0),
        ]
    } else {
        vec![
            instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0),
            instruction(AND, SCRATCH, 0, 0, access),
            instruction(JUMP_IF_EQUAL, SCRATCH, 0, 2, 0),
        ]
    };
    verdict.push(instruction(MOVE, R0, 0, 0, i32::from(rule.allow)));
    verdict.push(instruction(EXIT, 0, 0, 0, 0));

    let kind = rule.kind.map(|kind| if kind == DeviceKind::Block { BLOCK } else { CHARACTER });
    let tests = [
        (KIND, kind),
        (MAJOR, rule.major.map(u32::cast_signed)),
        (MINOR, rule.minor.map(u32::cast_signed)),
    ];
    let mut code = Vec::with_capacity(8);
    let mut left = tests.iter().filter(|test| test.1.is_some()).count() + verdict.len();
    for (register, value) in tests {
        let Some(value) = value else { continue };
        left -= 1;
        // At most eight.
        let distance = i16::try_from(left).unwrap_or(i16::MAX);
        code.push(instruction(JUMP_UNLESS_EQUAL, register, 0, distance, value));
    }
    code.extend(verdict);
    code
}

/// struct bpf_insn.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> u64 {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = value.to_ne_bytes();
    let registers = if cfg!(target_endian = "little") {
        source << 4 | destination
    } else {
        destination << 4 | source
    };
    u64::from_ne_bytes([code, registers, low, high, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+c 1:3 rw` allows, `-…` denies.
    fn rule(text: &str) -> DeviceRule {
        let mut fields = text.split([' ', ':']);
        let mut field = || fields.next().unwrap_or_default();
        let (kind, major, minor, access) = (field(), field(), field(), field());
        DeviceRule {
            allow: kind.starts_with('+'),
            kind: match &kind[1..] {
                "a" => None,
                "b" => Some(DeviceKind::Block),
                _ => Some(DeviceKind::Character),
            },
            major: major.parse().ok(),
            minor: minor.parse().ok(),
            read: access.contains('r'),
            write: access.contains('w'),
            mknod: access.contains('m'),
        }
    }

    fn rules(texts: &[&str]) -> Vec<DeviceRule> {
        texts.iter().map(|text| rule(text)).collect()
    }

    #[test]
    fn rules_become_a_default_and_exceptions() {
        let check = |texts: &[&str], expected: &[&str]| {
            let got = Exceptions::of(&rules(texts)).map(|policy| {
                let sign = if policy.allow { '-' } else { '+' };
                policy.list.iter().map(|rule| format!("{sign}{}", line(rule))).collect::<Vec<_>>()
            });
            assert_eq!(got.ok().as_deref(), Some(expected.map(str::to_owned).as_slice()));
        };
        trait Map {
            fn map(&self, to: fn(&str) -> String) -> Vec<String>;
        }
        impl Map for &[&str] {
            fn map(&self, to: fn(&str) -> String) -> Vec<String> {
                self.iter().map(|text| to(text)).collect()
            }
        }
        check(&["-a *:* rwm", "+c 1:3 r", "+c 1:3 w"], &["+c 1:3 rw"]);
        check(&["+c 1:3 rwm", "-c 1:3 m"], &["+c 1:3 rw"]);
        check(&["+c 1:3 rwm", "-c 1:* rwm", "+b 8:0 r"], &["+b 8:0 r"]);
        check(&["+c 1:3 rwm", "+a *:* rwm", "-b *:* m"], &["-b *:* m"]);
    }

    #[test]
    fn what_version_1_would_ignore_is_refused() {
        assert!(Exceptions::of(&rules(&["+c 1:* rwm", "-c 1:3 rwm"])).is_err());
        assert!(Exceptions::of(&rules(&["+a *:* rwm", "-c 1:* rwm", "+c 1:3 r"])).is_err());
    }
}
