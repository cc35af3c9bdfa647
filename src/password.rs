//! Asking for a password without showing it.

use std::io::{self, BufRead, IsTerminal};

use anyhow::Context;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::{output, report::advise};

/// The terminal's settings, put back when this is dropped (D-34).
struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that refuses its own settings.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// Asks at the terminal.
pub(crate) fn ask(question: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(advise("there is nobody to ask for the password", "use --password-stdin"));
    }
    let before = tcgetattr(&stdin).context("cannot use the terminal")?;
    let mut silent = before.clone();
    // ISIG goes too: Ctrl-C would end us before the echo is back. It arrives as a character instead.
    silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
    let _restore = Restore(before);
    tcsetattr(&stdin, SetArg::TCSADRAIN, &silent).context("cannot use the terminal")?;
    output::ask(question);
    let mut text = String::new();
    stdin.lock().read_line(&mut text).context("cannot read the password")?;
    output::note("");
    if text.contains('\u{3}') {
        anyhow::bail!("interrupted");
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
