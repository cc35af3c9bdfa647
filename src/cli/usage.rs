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
    let mistake = Mistake { error: &error, command };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.into(),
        ErrorKind::UnknownArgument => mistake.unknown_argument(refused),
        ErrorKind::InvalidSubcommand => mistake.unknown_command(),
        ErrorKind::MissingRequiredArgument => {
            let names = mistake.names(ContextKind::InvalidArg).join(" and ");
            advise(format!("{names} is missing"), mistake.usage())
        }
        ErrorKind::ArgumentConflict => {
            let others = mistake.names(ContextKind::PriorArg).join(", ");
            let message = format!("{} and {others} exclude each other", mistake.name());
            advise(message, mistake.page("lists the flags"))
        }
        _ => mistake.bad_value(),
    }
}

/// What the parser found, and in which command.
struct Mistake<'e> {
    error: &'e clap::Error,
    command: &'e str,
}

impl Mistake<'_> {
    fn unknown_argument(&self, refused: &[Refused]) -> anyhow::Error {
        let name = self.name();
        if !name.starts_with('-') {
            return advise(format!("{name:?} is one word too many"), self.usage());
        }
        Refused::of(refused, &name).unwrap_or_else(|| {
            let hint = self.or_similar(ContextKind::SuggestedArg, "lists the flags");
            advise(format!("there is no flag {name}"), hint)
        })
    }

    fn unknown_command(&self) -> anyhow::Error {
        let typed = self.texts(ContextKind::InvalidSubcommand).join(" ");
        let hint = self.or_similar(ContextKind::SuggestedSubcommand, "lists the commands");
        advise(format!("there is no command {typed:?}"), hint)
    }

    fn bad_value(&self) -> anyhow::Error {
        let name = self.name();
        let page = self.page("says what it takes");
        // A value of ours that does not parse: its own error says why.
        if let Some(cause) = std::error::Error::source(self.error) {
            let hint = report::advice(cause).unwrap_or(page);
            return advise(format!("{name}: {}", report::chain(cause)), hint);
        }
        match self.texts(ContextKind::InvalidValue).first() {
            Some(value) if !value.is_empty() => {
                let choices = self.texts(ContextKind::ValidValue).join(", ");
                advise(format!("{name}: {value:?} is none of {choices}"), page)
            }
            _ => advise(format!("{name} needs a value"), page),
        }
    }

    /// The hint that points to `--help`.
    fn page(&self, what: &str) -> String {
        format!("`{} --help` {what}", self.command)
    }

    /// The same behind the most similar word there is, which the parser lists last.
    fn or_similar(&self, kind: ContextKind, what: &str) -> String {
        match self.texts(kind).last() {
            Some(similar) => format!("did you mean {similar}? {}", self.page(what)),
            None => self.page(what),
        }
    }

    fn usage(&self) -> String {
        let usage = self.error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
        match usage.lines().next() {
            Some(first) => first.replace("Usage", "usage"),
            None => self.page("shows how it is used"),
        }
    }

    fn name(&self) -> String {
        self.names(ContextKind::InvalidArg).into_iter().next().unwrap_or_default()
    }

    fn names(&self, kind: ContextKind) -> Vec<String> {
        self.texts(kind).iter().map(|argument| name(argument).to_owned()).collect()
    }

    /// What the parser knows of one kind.
    fn texts(&self, kind: ContextKind) -> Vec<String> {
        match self.error.get(kind) {
            Some(ContextValue::String(text)) => vec![text.clone()],
            Some(ContextValue::Strings(texts)) => texts.clone(),
            _ => Vec::new(),
        }
    }
}

/// An argument as it is typed, without its value: `--volume <SOURCE>` is `--volume`, `<ID>...` is `ID`.
fn name(argument: &str) -> &str {
    if argument.starts_with('-') {
        return argument.split([' ', '=', '[']).next().unwrap_or(argument);
    }
    argument.trim_matches(['<', '>', '[', ']', '.'])
}
