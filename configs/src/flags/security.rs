//! `--security-opt`.

use std::{path::PathBuf, str::FromStr};

use super::{BadValue, bad};

/// One `--security-opt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecurityOption {
    /// `seccomp=FILE`: the caller reads it.
    SeccompFile(PathBuf),
    /// `seccomp=unconfined`
    SeccompUnconfined,
    /// `seccomp=builtin`
    SeccompDefault,
    /// `no-new-privileges[=BOOL]`
    NoNewPrivileges(bool),
    /// `apparmor=PROFILE`; `None` is `unconfined`.
    AppArmor(Option<String>),
    /// `label=disable`
    LabelDisable,
    /// `label=user:USER`, `role`, `type`, `level`.
    Label {
        /// Which part of the context.
        part: LabelPart,
        /// Its value.
        value: String,
    },
    /// `systempaths=unconfined`: nothing masked, nothing read-only.
    SystemPathsUnconfined,
}

/// A part of an SELinux context, in the order they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "SELinux' own words")]
pub enum LabelPart {
    User,
    Role,
    Type,
    Level,
}

impl FromStr for SecurityOption {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // docker accepted a colon before it settled on `=`.
        let Some((key, value)) = text.split_once(['=', ':']) else {
            return match text {
                "no-new-privileges" => Ok(Self::NoNewPrivileges(true)),
                _ => bad(format!("{text:?} is no security option")),
            };
        };
        match (key, value) {
            (_, "") => bad(format!("{text:?} has no value")),
            ("seccomp", "unconfined") => Ok(Self::SeccompUnconfined),
            ("seccomp", "builtin") => Ok(Self::SeccompDefault),
            ("seccomp", file) => Ok(Self::SeccompFile(file.into())),
            ("no-new-privileges", value) => match value {
                "true" | "1" => Ok(Self::NoNewPrivileges(true)),
                "false" | "0" => Ok(Self::NoNewPrivileges(false)),
                _ => bad(format!("{value:?} is neither true nor false")),
            },
            ("apparmor", "unconfined") => Ok(Self::AppArmor(None)),
            ("apparmor", profile) => Ok(Self::AppArmor(Some(profile.to_owned()))),
            ("systempaths", "unconfined") => Ok(Self::SystemPathsUnconfined),
            ("label", "disable") => Ok(Self::LabelDisable),
            ("label", label) => label_part(label),
            _ => bad(format!("no such security option {key:?}")),
        }
    }
}

fn label_part(label: &str) -> Result<SecurityOption, BadValue> {
    let (part, value) = label.split_once(':').unwrap_or((label, ""));
    let part = match part {
        _ if value.is_empty() => return bad(format!("{label:?} is not disable or PART:VALUE")),
        "user" => LabelPart::User,
        "role" => LabelPart::Role,
        "type" => LabelPart::Type,
        "level" => LabelPart::Level,
        _ => return bad(format!("an SELinux context has no {part:?}")),
    };
    Ok(SecurityOption::Label { part, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_a_key_and_a_value() {
        let parse = str::parse::<SecurityOption>;
        assert_eq!(parse("seccomp=unconfined"), Ok(SecurityOption::SeccompUnconfined));
        assert_eq!(parse("seccomp:p.json"), Ok(SecurityOption::SeccompFile("p.json".into())));
        assert_eq!(parse("no-new-privileges"), Ok(SecurityOption::NoNewPrivileges(true)));
        assert_eq!(parse("no-new-privileges:false"), Ok(SecurityOption::NoNewPrivileges(false)));
        assert_eq!(parse("apparmor=unconfined"), Ok(SecurityOption::AppArmor(None)));
        let label = SecurityOption::Label { part: LabelPart::Level, value: "s0:c1".to_owned() };
        assert_eq!(parse("label=level:s0:c1"), Ok(label));
        for text in ["", "seccomp", "seccomp=", "no-new-privileges=maybe", "label=x", "what=ever"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
