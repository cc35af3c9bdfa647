//! Users and groups, as `--user`, an image and container.json write them.

use super::{BadValue, bad};
use crate::{Groups, User, UserId};

/// `USER[:GROUP]`; empty is root. Without a group, the container's own files name the groups.
pub(crate) fn parse_user(text: &str) -> Result<User, BadValue> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let uid = if user.is_empty() { UserId::Number(0) } else { parse_id(user)? };
    let gid = if group.is_empty() { None } else { Some(parse_id(group)?) };
    let groups = Groups { from_files: gid.is_none(), additional: Vec::new() };
    Ok(User { uid, gid, groups, umask: None })
}

/// A string of digits is a number and nothing else: an entry of the container's passwd file named
/// `1000` cannot stand for root (D-13, CVE-2024-40635).
pub(crate) fn parse_id(text: &str) -> Result<UserId, BadValue> {
    if text.is_empty() || text.contains([':', '\n', '\0']) {
        return bad(format!("{text:?} is no user or group"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(UserId::Name(text.to_owned()));
    }
    match text.parse() {
        // 2^32-1 means "no change" to setuid(2) and its kin.
        Ok(number) if number < u32::MAX => Ok(UserId::Number(number)),
        _ => bad(format!("id {text} is out of range")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]
    use super::*;

    #[test]
    fn digits_are_a_number_and_nothing_else() {
        assert_eq!(parse_id("1000"), Ok(UserId::Number(1000)));
        assert_eq!(parse_id("4294967294"), Ok(UserId::Number(u32::MAX - 1)));
        assert!(parse_id("4294967295").is_err());
        assert!(parse_id("99999999999999999999").is_err());
        assert_eq!(parse_id("+1"), Ok(UserId::Name("+1".to_owned())));
        assert!(parse_id("").is_err());
    }

    #[test]
    fn a_named_group_excludes_the_groups_of_the_files() {
        assert!(parse_user("").unwrap().groups.from_files);
        assert!(parse_user("www-data").unwrap().groups.from_files);
        assert!(parse_user("1:").unwrap().groups.from_files);
        assert!(!parse_user("1:staff").unwrap().groups.from_files);
        assert!(parse_user("a:b:c").is_err());
    }
}
