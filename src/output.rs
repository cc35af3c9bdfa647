//! Standard output: data for people and scripts, and nothing else.
//!
//! `println!` panics when the reader has gone away (`crun-cargo images | head -1`); these return the
//! error, and `report` ends the program quietly.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes one line.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes text that brings its own line ends.
pub(crate) fn text(text: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{text}")?;
    stdout.flush()
}

/// Writes a note for the person at the terminal, to standard error, where it cannot spoil a pipe.
pub(crate) fn note(text: impl Display) {
    // Nobody to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes a question, and stays on its line for the answer.
pub(crate) fn ask(question: impl Display) {
    // Whoever cannot read the question will not answer it.
    let _ = write!(io::stderr().lock(), "{question}");
}

/// Writes bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}
