//! Names to ids, from the container's own files (D-13).

use std::{io::Read, path::Path};

use configs::{Groups, User, UserId};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use sys::Root;

use crate::{Error, Result, error::OrFail};

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Exactly these, sorted.
    pub(crate) groups: Vec<u32>,
    /// From the passwd entry, `/` without one.
    pub(crate) home: Option<String>,
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const MAX_FILE: u64 = 4 << 20;
const MAX_LINE: usize = 64 << 10;
/// Not an id: the kernel takes it as "leave unchanged".
const NO_ID: u32 = u32::MAX;

/// Resolves a user in the container's files, reading only those that are needed.
pub(crate) fn resolve(root: &Root, user: &User, needs_home: bool) -> Result<Identity> {
    let needs_entry = needs_home
        || user.gid.is_none()
        || matches!(user.uid, UserId::Name(_))
        || user.groups.from_files;
    let passwd = match &user.uid {
        _ if !needs_entry => String::new(),
        UserId::Name(_) => read(root, PASSWD)?,
        // A number needs no file: one that cannot be read only costs the home directory and groups in it.
        UserId::Number(_) => read(root, PASSWD).unwrap_or_default(),
    };
    let entry = find_user(&passwd, &user.uid);
    let uid = match (&user.uid, &entry) {
        (UserId::Number(number), _) => *number,
        (UserId::Name(_), Some(entry)) => entry.uid,
        (UserId::Name(name), None) => return Err(unknown("user", name, PASSWD)),
    };
    let mut groups = GroupFile::new(root);
    let gid = match &user.gid {
        Some(gid) => groups.resolve(gid)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let supplementary = supplementary(&mut groups, &user.groups, entry.as_ref())?;
    if uid == NO_ID || gid == NO_ID {
        return Err(Error::Unsupported("4294967295 is not an id".into()));
    }
    Ok(Identity { uid, gid, groups: supplementary, home: entry.map(|entry| entry.home) })
}

fn supplementary(
    files: &mut GroupFile<'_>,
    groups: &Groups,
    entry: Option<&Entry>,
) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for group in &groups.additional {
        ids.push(files.resolve(group)?);
    }
    if groups.from_files
        && let Some(entry) = entry
    {
        ids.extend(files.memberships(&entry.name)?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

fn find_user(passwd: &str, wanted: &UserId) -> Option<Entry> {
    lines(passwd).find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
        let is_wanted = match wanted {
            UserId::Number(number) => *number == uid,
            UserId::Name(wanted) => wanted == name,
        };
        is_wanted.then(|| Entry { name: name.into(), uid, gid, home: home.into() })
    })
}

/// `/etc/group`, read when first asked.
struct GroupFile<'r> {
    root: &'r Root,
    text: Option<String>,
}

impl<'r> GroupFile<'r> {
    fn new(root: &'r Root) -> Self {
        Self { root, text: None }
    }

    fn text(&mut self) -> Result<&str> {
        let text = match self.text.take() {
            Some(text) => text,
            None => read(self.root, GROUP)?,
        };
        Ok(self.text.insert(text))
    }

    fn resolve(&mut self, group: &UserId) -> Result<u32> {
        let name = match group {
            UserId::Number(number) => return Ok(*number),
            UserId::Name(name) => name,
        };
        let found = lines(self.text()?).find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then(|| number(fields.nth(1)?))?
        });
        found.ok_or_else(|| unknown("group", name, GROUP))
    }

    fn memberships(&mut self, user: &str) -> Result<Vec<u32>> {
        let of = |line: &str| {
            let mut fields = line.split(':');
            let gid = number(fields.nth(2)?)?;
            fields.next()?.split(',').any(|member| member == user).then_some(gid)
        };
        Ok(lines(self.text()?).filter_map(of).collect())
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#') && line.len() <= MAX_LINE)
}

/// Digits only: no sign, space or suffix makes a number (CVE-2024-40635).
fn number(field: &str) -> Option<u32> {
    let digits = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| field.parse().ok())?.filter(|number| *number != NO_ID)
}

/// A missing file is an empty one; anything but a regular file of sane size is refused.
fn read(root: &Root, name: &str) -> Result<String> {
    // Non-blocking: a FIFO in its place would make us wait for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match root.open_at(Path::new(name), flags, Mode::empty()) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            return Ok(String::new());
        }
        other => other.or_fail(|| format!("open the container's {name}"))?,
    };
    let found = fstat(&file).or_fail(|| format!("stat the container's {name}"))?;
    let size = u64::try_from(found.st_size).unwrap_or(u64::MAX);
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || size > MAX_FILE {
        return Err(Error::Unsafe(format!("the container's {name} is no plain small file")));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .or_fail(|| format!("read the container's {name}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unknown(kind: &str, name: &str, file: &str) -> Error {
    Error::UnknownUser { kind: kind.into(), name: name.into(), file: file.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use std::{fs, path::PathBuf};

    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("user-{}-{name}", std::process::id()));
            fs::create_dir_all(path.join("etc")).unwrap();
            let passwd = "root:x:0:0::/root:/bin/sh\n#no:x:1:1::/:\nweb:x:33:34::/var/www:/bin/sh\n\
                          odd:x:+5:5::/:\nlast:x:4294967295:0::/:\nempty:x:7:7:::\n";
            fs::write(path.join("etc/passwd"), passwd).unwrap();
            fs::write(path.join("etc/group"), "www:x:34:\nadm:x:4:web,root\nlog:x:5:web\n")
                .unwrap();
            Self(path)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn named(uid: &str, gid: Option<&str>, from_files: bool) -> User {
        let id = |name: &str| match name.parse() {
            Ok(number) => UserId::Number(number),
            Err(_) => UserId::Name(name.into()),
        };
        User {
            uid: id(uid),
            gid: gid.map(id),
            groups: Groups { from_files, additional: Vec::new() },
            umask: None,
        }
    }

    #[test]
    fn names_become_ids() {
        let tree = Tree::new("names");
        let root = Root::open(&tree.0).unwrap();
        let web = resolve(&root, &named("web", None, true), true).unwrap();
        assert_eq!((web.uid, web.gid, web.groups), (33, 34, vec![4, 5]));
        assert_eq!(web.home.as_deref(), Some("/var/www"));
        let web = resolve(&root, &named("33", Some("adm"), false), false).unwrap();
        assert_eq!((web.uid, web.gid, web.groups), (33, 4, vec![]));
        let nobody = resolve(&root, &named("9999", None, true), true).unwrap();
        assert_eq!((nobody.uid, nobody.gid, nobody.home), (9999, 0, None));
    }

    #[test]
    fn an_unknown_or_odd_name_is_never_root() {
        let tree = Tree::new("odd");
        let root = Root::open(&tree.0).unwrap();
        for name in ["nobody", "odd", "last", "", "#no"] {
            assert!(resolve(&root, &named(name, None, false), false).is_err(), "{name}");
        }
        assert!(resolve(&root, &named("0", Some("nogroup"), false), false).is_err());
        assert!(resolve(&root, &named("4294967295", Some("0"), false), false).is_err());
    }

    #[test]
    fn a_fifo_or_link_to_procfs_is_no_passwd_file() {
        let tree = Tree::new("fifo");
        let path = tree.0.join("etc/passwd");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let root = Root::open(&tree.0).unwrap();
        assert!(resolve(&root, &named("web", None, false), false).is_err());
    }
}
