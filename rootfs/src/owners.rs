//! Which owners files can have here: all of them, as root; those its user namespace maps, as root of one;
//! as an ordinary user only oneself.

use std::fs;

/// What this process may make of owners and devices.
#[derive(Clone, Debug)]
pub(crate) struct Owners {
    /// Ranges of ids that can be given: first and size. None for an ordinary user.
    uids: Vec<(u32, u32)>,
    gids: Vec<(u32, u32)>,
}

/// The range of a namespace that maps everything; -1 is nobody's id.
const ALL: (u32, u32) = (0, u32::MAX);

impl Owners {
    /// What holds for this process.
    pub(crate) fn here() -> Self {
        let ranges = |file: &str| match fs::read_to_string(file) {
            Ok(text) => parse(&text),
            // A kernel without user namespaces.
            Err(_) => vec![ALL],
        };
        if !rustix::process::geteuid().is_root() {
            return Self { uids: Vec::new(), gids: Vec::new() };
        }
        Self { uids: ranges("/proc/self/uid_map"), gids: ranges("/proc/self/gid_map") }
    }

    /// Whether this process is root, if only of a user namespace: modes do not hinder it.
    pub(crate) fn are_ours_to_give(&self) -> bool {
        !self.uids.is_empty()
    }

    /// Whether a file can be given to this user and group.
    pub(crate) fn include(&self, uid: u32, gid: u32) -> bool {
        let within = |ranges: &[(u32, u32)], id: u32| {
            ranges.iter().any(|(first, size)| id.checked_sub(*first).is_some_and(|at| at < *size))
        };
        within(&self.uids, uid) && within(&self.gids, gid)
    }

    /// Whether device nodes can be made: in no user namespace but the first.
    pub(crate) fn may_make_devices(&self) -> bool {
        self.uids == [ALL]
    }
}

/// user_namespaces(7): first id inside, first outside, how many.
fn parse(map: &str) -> Vec<(u32, u32)> {
    let row = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        Some((fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?))
    };
    map.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_the_owners_it_maps() {
        let ranges = parse("         0       1000          1\n         1     100000      65536\n");
        let owners = Owners { uids: ranges, gids: vec![(0, 1)] };
        assert!(owners.include(0, 0) && owners.include(65536, 0));
        assert!(!owners.include(65537, 0) && !owners.include(0, 1));
        assert!(!owners.may_make_devices());
        let all = parse("         0          0 4294967295\n");
        assert!(Owners { uids: all.clone(), gids: all }.may_make_devices());
    }
}
