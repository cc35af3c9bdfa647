//! What stat(2) said of a file when we last knew its content.

use rustix::fs::Stat;

use super::inode::Time;

/// Enough of stat(2) to notice that a file was changed, replaced or re-labelled since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) number: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) modified: Time,
    /// The kernel sets it at every change of content, mode, owner, xattrs and names, and nobody can set
    /// it back: equal stamps mean an untouched file.
    pub(crate) changed: Time,
}

impl Stamp {
    pub(crate) fn new(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            number: stat.st_ino,
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: Time::modified(stat),
            changed: Time::new(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Whether the file may have been written again within the same tick of the kernel's clock, so that
    /// the stamp would not tell. A tick is 10 ms at most (CONFIG_HZ=100).
    pub(crate) fn is_racy(&self, taken: Time) -> bool {
        let Time { seconds, nanos } = self.changed;
        let tick_later = match nanos + 10_000_000 {
            nanos if nanos >= 1_000_000_000 => {
                Time { seconds: seconds.saturating_add(1), nanos: nanos - 1_000_000_000 }
            }
            nanos => Time { seconds, nanos },
        };
        tick_later >= taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_of_the_last_tick_are_racy() {
        let stamp = |seconds, nanos| Stamp {
            device: 1,
            number: 1,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            modified: Time::default(),
            changed: Time { seconds, nanos },
        };
        let taken = Time { seconds: 5, nanos: 5_000_000 };
        assert!(stamp(5, 4_000_000).is_racy(taken));
        assert!(stamp(4, 996_000_000).is_racy(taken));
        assert!(!stamp(4, 900_000_000).is_racy(taken));
        assert!(stamp(6, 0).is_racy(taken));
    }
}
