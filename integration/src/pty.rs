//! A person at a terminal: a pseudo-terminal the program runs on, typed into and read from.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, Termios, tcgetattr},
    },
    unistd::Pid,
};

/// A program on a terminal of its own.
pub struct Terminal {
    child: Child,
    keyboard: File,
    /// Kept open so that the settings can be read after the program ended.
    screen: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
    /// How much of `shown` was expected already.
    seen: usize,
}

impl Terminal {
    /// Starts a command with a controlling terminal of 24 rows and 80 columns.
    ///
    /// `arrange` receives `setsid --ctty PROGRAM`, to which arguments and variables are added.
    pub fn start(command: &Command) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("a pseudo-terminal");
        let side = || Stdio::from(pair.slave.try_clone().expect("a descriptor"));
        // Making a terminal the controlling one needs a step between fork and exec: setsid(1) has it.
        let mut wrapped = Command::new("setsid");
        wrapped.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                wrapped.env(name, value);
            }
        }
        if let Some(directory) = command.get_current_dir() {
            wrapped.current_dir(directory);
        }
        wrapped.env("TERM", "xterm").stdin(side()).stdout(side()).stderr(side());
        let child = wrapped.spawn().expect("setsid is installed");
        let keyboard = File::from(pair.master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, log) = (keyboard.try_clone().expect("a descriptor"), shown.clone());
        thread::spawn(move || {
            let mut block = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut block) {
                log.lock().expect("no holder panics").extend(&block[..count]);
            }
        });
        Self { child, keyboard, screen: pair.slave, shown, seen: 0 }
    }

    /// Types something; `\r` is the return key.
    pub fn send(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a terminal takes input");
    }

    /// Waits until this text is shown, after what was expected before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            let shown = self.shown.lock().expect("no holder panics").clone();
            let rest = &shown[self.seen..];
            if let Some(place) = find(rest, text.as_bytes()) {
                self.seen += place + text.len();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{text:?} is not shown; the terminal says:\n{}", self.screen_text());
    }

    /// Everything shown so far.
    pub fn screen_text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no holder panics")).into_owned()
    }

    /// Changes the window's size, as dragging its corner does.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size =
            rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.screen, size).expect("a terminal has a size");
    }

    /// The terminal's settings now.
    pub fn settings(&self) -> Termios {
        tcgetattr(self.screen.as_fd()).expect("a terminal has settings")
    }

    /// Does the terminal echo and edit lines, as it does between programs?
    pub fn is_cooked(&self) -> bool {
        self.settings().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    /// The program's process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a child not waited for can be signalled");
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the program does not end; the terminal says:\n{}", self.screen_text());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
