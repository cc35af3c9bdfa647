//! Devices: kinds as letters' code points, modes in decimal, and how people wrote them instead.

use super::{fields::Fields, json::Json};
use crate::{Device, DeviceKind, DeviceRule, problems::Findings};

/// The names of a device's fields in one generation.
#[derive(Clone, Copy)]
pub(super) struct Names {
    major: &'static str,
    minor: &'static str,
    permissions: &'static str,
}

pub(super) const NESTED: Names =
    Names { major: "major_number", minor: "minor_number", permissions: "cgroup_permissions" };
pub(super) const FLAT: Names = Names { major: "major", minor: "minor", permissions: "permissions" };

/// A row of a device list, which can be a node or a rule.
struct Row {
    kind: Option<DeviceKind>,
    path: String,
    major: Option<u32>,
    minor: Option<u32>,
    permissions: String,
    mode: u32,
    uid: u32,
    gid: u32,
}

fn row(row: &mut Fields, names: Names, findings: &mut Findings) -> Row {
    Row {
        kind: kind(row, findings),
        path: row.text("path", findings),
        major: number(row, names.major, findings),
        minor: number(row, names.minor, findings),
        permissions: row.text(names.permissions, findings),
        mode: mode(row, findings),
        uid: row.narrow("uid", findings),
        gid: row.narrow("gid", findings),
    }
}

/// 99 is `c` and 98 is `b`; `a` is any.
fn kind(row: &mut Fields, findings: &mut Findings) -> Option<DeviceKind> {
    let letter = match row.value("type") {
        Some(Json::Text(text)) if text.chars().count() == 1 => text.chars().next(),
        Some(Json::Number(number)) => {
            number.as_u64().and_then(|code| u32::try_from(code).ok()).and_then(char::from_u32)
        }
        _ => None,
    };
    match letter {
        Some('c' | 'u') => Some(DeviceKind::Character),
        Some('b') => Some(DeviceKind::Block),
        Some('p') => Some(DeviceKind::Fifo),
        Some('a') => None,
        _ => {
            findings.problem(row.place("type"), "is neither c (99), b (98), p (112) nor a (97)");
            None
        }
    }
}

/// -1 is any; absent is 0, as samples leave out the minor number of /dev/tty.
fn number(row: &mut Fields, name: &'static str, findings: &mut Findings) -> Option<u32> {
    match row.number(name, findings).unwrap_or_default() {
        -1 => None,
        number => match u32::try_from(number) {
            Ok(number) => Some(number),
            Err(_) => {
                findings.problem(row.place(name), format_args!("{number} is no device number"));
                None
            }
        },
    }
}

/// Decimal 438 is 0666; as a string it is octal. Old versions wrote Go's own bits into the upper half.
fn mode(row: &mut Fields, findings: &mut Findings) -> u32 {
    let mode = match row.value("file_mode") {
        None => Some(0),
        Some(Json::Number(number)) => number.as_u64().and_then(|mode| u32::try_from(mode).ok()),
        Some(Json::Text(text)) => u32::from_str_radix(&text, 8).ok(),
        Some(_) => None,
    };
    mode.map(|mode| mode & 0o7777).unwrap_or_else(|| {
        findings.problem(row.place("file_mode"), "is no mode such as 438 or \"0666\"");
        0
    })
}

/// Nodes to make; `None` when the file has no such list.
pub(super) fn nodes(
    fields: &mut Fields,
    name: &'static str,
    names: Names,
    findings: &mut Findings,
) -> Option<Vec<Device>> {
    fields.objects(name, findings, |fields, findings| {
        let row = row(fields, names, findings);
        let (Some(kind), Some(major), Some(minor)) = (row.kind, row.major, row.minor) else {
            findings.problem(fields.place(names.major), "a node has one kind and one number");
            return None;
        };
        let Row { path, mode, uid, gid, .. } = row;
        Some(Device { path: path.into(), kind, major, minor, mode, uid, gid })
    })
}

/// Rules for the cgroup; `None` when the file has no such list.
pub(super) fn rules(
    fields: &mut Fields,
    name: &'static str,
    names: Names,
    allow: bool,
    findings: &mut Findings,
) -> Option<Vec<DeviceRule>> {
    fields.objects(name, findings, |fields, findings| {
        let row = row(fields, names, findings);
        if let Some(letter) = row.permissions.chars().find(|letter| !"rwm".contains(*letter)) {
            let place = fields.place(names.permissions);
            findings.problem(place, format_args!("no such access {letter:?}"));
        }
        Some(DeviceRule {
            allow,
            kind: row.kind,
            major: row.major,
            minor: row.minor,
            read: row.permissions.contains('r'),
            write: row.permissions.contains('w'),
            mknod: row.permissions.contains('m'),
        })
    })
}
