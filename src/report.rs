//! The one place that prints a failure: `crun-cargo: what: why: errno`, then any hint.

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Write},
    io::{self, IsTerminal},
    process::ExitCode,
};

use crate::{cli::Personality, logger, output, record};

/// A failure the program itself knows advice for; the libraries' errors bring their own.
#[derive(Debug)]
pub(crate) struct Advised {
    message: String,
    hint: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for Advised {}

impl Advised {
    /// A failure with advice.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// A failure with advice, ready to be returned.
pub(crate) fn advise(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Advised::new(message, hint))
}

/// docker's exit codes for a program that cannot be run; everything else is ours.
pub(crate) fn code(error: &anyhow::Error, ours: u8) -> u8 {
    let runtime = causes(error.as_ref()).find_map(|cause| cause.downcast_ref::<runtime::Error>());
    match runtime.map(runtime::Error::innermost) {
        Some(runtime::Error::ProgramNotFound { .. }) => 127,
        Some(runtime::Error::CannotExecute { .. }) => 126,
        _ => ours,
    }
}

/// Prints a failure and gives the exit code that says it was ours.
pub(crate) fn failure(program: &str, error: &anyhow::Error, code: u8) -> ExitCode {
    // Help is no failure; what is wrong with a command line comes here in our own words.
    if let Some(help) = error.downcast_ref::<clap::Error>() {
        return help.print().map_or(ExitCode::from(code), |()| ExitCode::SUCCESS);
    }
    if is_closed_pipe(error) {
        return ExitCode::from(code);
    }
    let message = chain(error.as_ref());
    output::note(format_args!("{program}: {message}"));
    if let Some(hint) = advice(error.as_ref()) {
        output::note(format_args!("hint: {}", printable(&hint)));
    }
    logger::record_failure(&message);
    ExitCode::from(code)
}

/// Does something to each of several things: goes on past failures, prints the names of those that went
/// well, and fails if any did.
pub(crate) fn each(
    names: &[String],
    personality: &Personality,
    verb: impl Fn(&String) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    each_quietly(names, personality, |name| {
        verb(name)?;
        Ok(output::line(name)?)
    })
}

/// The same, for what prints something of its own.
pub(crate) fn each_quietly(
    names: &[String],
    personality: &Personality,
    verb: impl Fn(&String) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        if let Err(error) = verb(name) {
            // docker's 1, not 125: the request was understood.
            code = failure(personality.name, &error, 1);
        }
    }
    Ok(code)
}

/// Tells of a failure that does not matter.
pub(crate) fn warn(error: &anyhow::Error) {
    log::warn!("{}", chain(error.as_ref()));
}

/// Asks before something cannot be undone. Without a person to ask, nothing is done.
pub(crate) fn confirm(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(advise(format!("{question} There is nobody to ask"), "use --force"));
    }
    output::ask(format_args!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Text with its control characters made visible: names from an image or a registry's message must not
/// drive the operator's terminal (D-15). Bidirectional overrides can make a name read as another.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_unsafe = |letter: char| {
        letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_unsafe(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// The first advice that an error or its causes carry; else what the system's own answer suggests.
pub(crate) fn advice(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).find_map(hint).or_else(|| causes(error).find_map(system_hint).map(str::to_owned))
}

/// What usually helps against an answer of the system's.
fn system_hint(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    match cause.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::NotFound => Some("check the path"),
        io::ErrorKind::NotADirectory => Some("a part of the path is no directory"),
        io::ErrorKind::IsADirectory => Some("a file is wanted there"),
        io::ErrorKind::AlreadyExists => Some("choose another path, or remove what is there"),
        io::ErrorKind::PermissionDenied => {
            Some("check who may do that; containers need root so far")
        }
        io::ErrorKind::StorageFull => {
            Some("`crun-cargo image prune` frees room; --root chooses another disk")
        }
        _ => None,
    }
}

/// The advice an error of ours carries.
fn hint(cause: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<Advised>() {
        return Some(error.hint.clone());
    }
    if let Some(error) = cause.downcast_ref::<record::Missing>() {
        return Some(error.hint().to_owned());
    }
    if let Some(error) = cause.downcast_ref::<registry::Error>() {
        return error.hint();
    }
    if let Some(error) = cause.downcast_ref::<rootfs::Error>() {
        return error.hint().map(str::to_owned);
    }
    if let Some(error) = cause.downcast_ref::<rootfs::git::Error>() {
        return error.hint().map(str::to_owned);
    }
    // An error that came through a reader is wrapped, and its chain starts behind it.
    if let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        let inner: &(dyn Error + 'static) = inner;
        return hint(inner);
    }
    cause.downcast_ref::<runtime::Error>()?.hint().map(str::to_owned)
}

/// The error and its causes, as `what: why: errno`.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut message = String::new();
    for cause in causes(error) {
        let text = cause.to_string();
        // Some errors already end with their source's text.
        if message.ends_with(&text) {
            continue;
        }
        let separator = if message.is_empty() { "" } else { ": " };
        // Writing to a String cannot fail.
        let _ = write!(message, "{separator}{text}");
    }
    printable(&message).into_owned()
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_made_visible() {
        assert_eq!(printable("plain ünïcode"), "plain ünïcode");
        assert_eq!(printable("a\x1b[31mb\nc"), "a\\u{1b}[31mb\\nc");
        assert_eq!(printable("\u{202e}gpj"), "\\u{202e}gpj");
    }

    #[test]
    fn a_chain_is_one_line_without_repetition() {
        let cause = io::Error::other("no space");
        let error = anyhow::Error::new(cause).context("cannot write `a\nb`");
        assert_eq!(chain(error.as_ref()), "cannot write `a\\nb`: no space");
    }
}
