//! The option words of a mount: one table for every dialect, read in both directions.

use crate::{AttrFlags, Propagation};

/// Superblock flags of mount(2) that have a word.
pub(crate) const MS_RDONLY: u64 = 1;
const MS_SYNCHRONOUS: u64 = 1 << 4;
const MS_MANDLOCK: u64 = 1 << 6;
const MS_DIRSYNC: u64 = 1 << 7;
const MS_SILENT: u64 = 1 << 15;
const MS_I_VERSION: u64 = 1 << 23;
const MS_LAZYTIME: u64 = 1 << 25;

/// What a word does.
#[derive(Clone, Copy)]
enum Effect {
    /// Nothing; the word states a default.
    Nothing,
    /// Sets attributes, after clearing the field they belong to.
    Set(AttrFlags),
    Clear(AttrFlags),
    SetSuperblock(u64),
    ClearSuperblock(u64),
    Propagate(Propagation),
    Bind,
    Remount,
    CopyUp(bool),
    NoFollow,
    IdMap,
}

use Effect::{Clear, ClearSuperblock, Set, SetSuperblock};

/// Each word, and what it does; an `r` before one of the first part makes it recursive.
const RECURSIVE: &[(&str, Effect)] = &[
    ("ro", Set(AttrFlags::RDONLY)),
    ("rw", Clear(AttrFlags::RDONLY)),
    ("nosuid", Set(AttrFlags::NOSUID)),
    ("suid", Clear(AttrFlags::NOSUID)),
    ("nodev", Set(AttrFlags::NODEV)),
    ("dev", Clear(AttrFlags::NODEV)),
    ("noexec", Set(AttrFlags::NOEXEC)),
    ("exec", Clear(AttrFlags::NOEXEC)),
    ("nodiratime", Set(AttrFlags::NODIRATIME)),
    ("diratime", Clear(AttrFlags::NODIRATIME)),
    ("nosymfollow", Set(AttrFlags::NOSYMFOLLOW)),
    ("symfollow", Clear(AttrFlags::NOSYMFOLLOW)),
    // Access times are one field of three values, whose zero is relatime: clearing it says so.
    ("noatime", Set(AttrFlags::NOATIME)),
    ("strictatime", Set(AttrFlags::STRICTATIME)),
    ("relatime", Clear(AttrFlags::ATIME)),
    ("atime", Clear(AttrFlags::ATIME)),
    ("nostrictatime", Clear(AttrFlags::ATIME)),
    ("norelatime", Set(AttrFlags::STRICTATIME)),
    ("private", Effect::Propagate(Propagation::Private)),
    ("slave", Effect::Propagate(Propagation::Slave)),
    ("shared", Effect::Propagate(Propagation::Shared)),
    ("unbindable", Effect::Propagate(Propagation::Unbindable)),
    ("bind", Effect::Bind),
    ("idmap", Effect::IdMap),
];

const PLAIN: &[(&str, Effect)] = &[
    ("defaults", Effect::Nothing),
    ("sync", SetSuperblock(MS_SYNCHRONOUS)),
    ("async", ClearSuperblock(MS_SYNCHRONOUS)),
    ("dirsync", SetSuperblock(MS_DIRSYNC)),
    ("lazytime", SetSuperblock(MS_LAZYTIME)),
    ("nolazytime", ClearSuperblock(MS_LAZYTIME)),
    ("mand", SetSuperblock(MS_MANDLOCK)),
    ("nomand", ClearSuperblock(MS_MANDLOCK)),
    ("silent", SetSuperblock(MS_SILENT)),
    ("loud", ClearSuperblock(MS_SILENT)),
    ("iversion", SetSuperblock(MS_I_VERSION)),
    ("noiversion", ClearSuperblock(MS_I_VERSION)),
    ("remount", Effect::Remount),
    ("tmpcopyup", Effect::CopyUp(true)),
    ("notmpcopyup", Effect::CopyUp(false)),
    ("dest-nofollow", Effect::NoFollow),
];

/// What a list of words amounts to.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) set: AttrFlags,
    pub(crate) clear: AttrFlags,
    pub(crate) set_recursive: AttrFlags,
    pub(crate) clear_recursive: AttrFlags,
    pub(crate) superblock: u64,
    pub(crate) propagation: Option<(Propagation, bool)>,
    /// `bind` or, with true, `rbind`.
    pub(crate) bind: Option<bool>,
    pub(crate) remount: bool,
    pub(crate) copy_up: bool,
    pub(crate) no_follow: bool,
    /// `idmap` or, with true, `ridmap`.
    pub(crate) id_map: Option<bool>,
    /// Words of the filesystem's own.
    pub(crate) parameters: Vec<(String, Option<String>)>,
}

impl Options {
    /// Reads words in order; a later one wins over an earlier one.
    pub(crate) fn read<'w>(words: impl IntoIterator<Item = &'w str>) -> Self {
        let mut options = Self::default();
        words.into_iter().for_each(|word| options.apply(word));
        options
    }

    /// Adds one word.
    pub(crate) fn apply(&mut self, word: &str) {
        let find = |table: &[(&str, Effect)], word: &str| {
            table.iter().find(|(known, _)| *known == word).map(|row| row.1)
        };
        // `ro` and `rw` themselves begin with r, so the plain reading is tried first.
        let (effect, recursive) = if let Some(effect) = find(RECURSIVE, word) {
            (effect, false)
        } else if let Some(effect) = find(PLAIN, word) {
            (effect, false)
        } else if let Some(effect) = word.strip_prefix('r').and_then(|word| find(RECURSIVE, word)) {
            (effect, true)
        } else {
            return self.parameter(word);
        };
        match effect {
            Effect::Nothing => (),
            Set(flags) => self.attribute(flags, true, recursive),
            Clear(flags) => self.attribute(flags, false, recursive),
            SetSuperblock(flag) => self.superblock |= flag,
            ClearSuperblock(flag) => self.superblock &= !flag,
            Effect::Propagate(kind) => self.propagation = Some((kind, recursive)),
            Effect::Bind => self.bind = Some(recursive || self.bind == Some(true)),
            Effect::Remount => self.remount = true,
            Effect::CopyUp(wanted) => self.copy_up = wanted,
            Effect::NoFollow => self.no_follow = true,
            Effect::IdMap => self.id_map = Some(recursive),
        }
    }

    /// A new filesystem's mount has no attribute that would have to be cleared first.
    pub(crate) fn clear_nothing(&mut self) {
        self.clear = AttrFlags::default();
    }

    fn attribute(&mut self, flags: AttrFlags, wanted: bool, recursive: bool) {
        let (set, clear) = if recursive {
            (&mut self.set_recursive, &mut self.clear_recursive)
        } else {
            (&mut self.set, &mut self.clear)
        };
        let in_time_field = AttrFlags::ATIME.contains(flags);
        let field = if in_time_field { AttrFlags::ATIME } else { flags };
        *set = AttrFlags(set.0 & !field.0);
        *clear = AttrFlags(clear.0 & !field.0);
        if wanted {
            *set = set.union(flags);
        }
        // mount_setattr(2) wants the whole field cleared when any value of it is set.
        if !wanted || in_time_field {
            *clear = clear.union(field);
        }
    }

    fn parameter(&mut self, word: &str) {
        if word.is_empty() {
            return;
        }
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word, None),
        };
        self.parameters.push((key.to_owned(), value));
    }
}

/// The words that set these attributes.
pub(crate) fn attribute_words(
    set: AttrFlags,
    clear: AttrFlags,
    recursive: bool,
) -> impl Iterator<Item = String> {
    let time_cleared = clear.contains(AttrFlags::ATIME);
    let time_set = set.0 & AttrFlags::ATIME.0 != 0;
    RECURSIVE
        .iter()
        .filter(move |(word, effect)| match effect {
            Set(flags) if *word != "norelatime" => set.contains(*flags),
            Clear(AttrFlags::ATIME) => *word == "relatime" && time_cleared && !time_set,
            Clear(flags) => clear.contains(*flags),
            _ => false,
        })
        .map(move |(word, _)| prefixed(word, recursive))
}

/// The words that set these superblock flags; read-only has one that attributes already say.
pub(crate) fn superblock_words(flags: u64) -> impl Iterator<Item = &'static str> {
    PLAIN.iter().filter_map(move |(word, effect)| match effect {
        SetSuperblock(flag) if flags & flag != 0 => Some(*word),
        _ => None,
    })
}

/// The word for a propagation.
pub(crate) fn propagation_word(kind: Propagation, recursive: bool) -> String {
    let row = RECURSIVE.iter().find(|row| matches!(row.1, Effect::Propagate(it) if it == kind));
    prefixed(row.map_or("private", |row| row.0), recursive)
}

/// The propagation a word names, and whether recursively.
pub(crate) fn propagation(word: &str) -> Option<(Propagation, bool)> {
    Options::read([word]).propagation
}

/// Every word of the tables.
pub(crate) fn words() -> Vec<String> {
    let plain = RECURSIVE.iter().chain(PLAIN).map(|row| row.0.to_owned());
    plain.chain(RECURSIVE.iter().map(|row| prefixed(row.0, true))).collect()
}

fn prefixed(word: &str, recursive: bool) -> String {
    format!("{}{word}", if recursive { "r" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_word_wins() {
        let options = Options::read(["ro", "rw", "nodev", "dev", "nodev"]);
        assert_eq!(options.set, AttrFlags::NODEV);
        assert_eq!(options.clear, AttrFlags::RDONLY);
    }

    #[test]
    fn an_r_makes_a_word_recursive() {
        let options = Options::read(["rro", "rnosuid", "rbind", "rslave", "ridmap", "ro"]);
        assert_eq!(options.set_recursive, AttrFlags::RDONLY.union(AttrFlags::NOSUID));
        assert_eq!(options.set, AttrFlags::RDONLY);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.propagation, Some((Propagation::Slave, true)));
        assert_eq!(options.id_map, Some(true));
        // "relatime" is itself, not a recursive "elatime"; "rrelatime" is the recursive one.
        assert_eq!(Options::read(["relatime"]).clear, AttrFlags::ATIME);
        assert_eq!(Options::read(["rrelatime"]).clear_recursive, AttrFlags::ATIME);
    }

    #[test]
    fn access_times_are_one_field() {
        let options = Options::read(["noatime", "strictatime"]);
        assert_eq!((options.set, options.clear), (AttrFlags::STRICTATIME, AttrFlags::ATIME));
    }

    #[test]
    fn other_words_are_the_filesystems() {
        let options = Options::read(["size=1m", "newinstance", "lowerdir=/a:/b=c", "sync"]);
        let parameters: Vec<_> =
            options.parameters.iter().map(|it| (it.0.as_str(), it.1.as_deref())).collect();
        assert_eq!(
            parameters,
            [("size", Some("1m")), ("newinstance", None), ("lowerdir", Some("/a:/b=c"))]
        );
        assert_eq!(options.superblock, MS_SYNCHRONOUS);
    }

    #[test]
    fn words_survive_a_round_trip() {
        for words in [
            &["ro", "nosuid", "noexec"][..],
            &["rw", "strictatime"],
            &["nodev", "relatime", "nosymfollow"],
        ] {
            let options = Options::read(words.iter().copied());
            let mut again: Vec<String> =
                attribute_words(options.set, options.clear, false).collect();
            let mut words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            again.sort();
            words.sort();
            assert_eq!(again, words);
        }
    }
}
