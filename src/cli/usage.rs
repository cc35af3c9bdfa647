//! What is wrong with a command line, as one line and a hint.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::report::{self, advise};

/// Something people know from elsewhere that is not here, and what to do instead.
pub(crate) struct Refused {
    /// Commands (`network`, `system prune`) or flags (`--restart`), as they are typed.
    pub(crate) names: &'static [&'static str],
    /// Why, after the name and a colon.
    pub(crate) problem: &'static str,
    /// The hint.
    pub(crate) advice: &'static str,
}

impl Refused {
    /// The refusal of what was typed, if the table has it.
    pub(super) fn of(table: &[Self], typed: &str) -> Option<anyhow::Error> {
        let row = table.iter().find(|row| row.names.contains(&typed))?;
        Some(advise(format!("{typed}: {}", row.problem), row.advice))
    }
}

/// The parser's error in our words. Help, which it calls an error too, stays what it is.
pub(super) fn explain(error: clap::Error, command: &str, refused: &[Refused]) -> anyhow::Error {
    let all_flags = || format!("`{command} --help` lists the flags");
    let page = || format!("`{command} --help` says what it takes");
    let argument = texts(&error, ContextKind::InvalidArg).into_iter().next().unwrap_or_default();
    let name = name(&argument);
    let usage = || match error.get(ContextKind::Usage) {
        Some(usage) => {
            usage.to_string().lines().next().unwrap_or_default().replace("Usage", "usage")
        }
        None => all_flags(),
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.into(),
        ErrorKind::UnknownArgument if name.starts_with('-') => Refused::of(refused, name)
            .unwrap_or_else(|| {
                let similar = texts(&error, ContextKind::SuggestedArg);
                let hint = match similar.first() {
                    Some(similar) => format!("did you mean {similar}? {}", all_flags()),
                    None => all_flags(),
                };
                advise(format!("there is no flag {name}"), hint)
            }),
        ErrorKind::UnknownArgument => advise(format!("{name:?} is one word too many"), usage()),
        ErrorKind::InvalidSubcommand => {
            let typed = texts(&error, ContextKind::InvalidSubcommand).join(" ");
            let similar = texts(&error, ContextKind::SuggestedSubcommand);
            let all = format!("`{command} --help` lists the commands");
            let hint = match similar.last() {
                // The parser lists the most similar last.
                Some(similar) => format!("did you mean {similar}? {all}"),
                None => all,
            };
            advise(format!("there is no command {typed:?}"), hint)
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = texts(&error, ContextKind::InvalidArg);
            let names: Vec<&str> = missing.iter().map(|argument| self::name(argument)).collect();
            advise(format!("{} is missing", names.join(" and ")), usage())
        }
        ErrorKind::ArgumentConflict => {
            let others = texts(&error, ContextKind::PriorArg);
            let others: Vec<&str> = others.iter().map(|argument| self::name(argument)).collect();
            let message = format!("{name} and {} exclude each other", others.join(", "));
            advise(message, all_flags())
        }
        _ => match (
            std::error::Error::source(&error),
            texts(&error, ContextKind::InvalidValue).first(),
        ) {
            // A value of ours that does not parse: its own error says why.
            (Some(cause), _) => {
                let hint = report::advice(cause).unwrap_or_else(page);
                advise(format!("{name}: {}", report::chain(cause)), hint)
            }
            (None, Some(value)) if !value.is_empty() => {
                let choices = texts(&error, ContextKind::ValidValue);
                let message = format!("{name}: {value:?} is none of {}", choices.join(", "));
                advise(message, page())
            }
            _ => advise(format!("{name} needs a value"), page()),
        },
    }
}

/// What the parser knows of one kind.
fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// An argument as it is typed, without its value: `--volume <SOURCE>` is `--volume`, `<ID>...` is `ID`.
fn name(argument: &str) -> &str {
    if argument.starts_with('-') {
        return argument.split([' ', '=', '[']).next().unwrap_or(argument);
    }
    argument.trim_matches(['<', '>', '[', ']', '.'])
}
