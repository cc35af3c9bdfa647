//! What the older version's `exec --func` could do in a running container, and the names it gave itself
//! for that: `nsenter-exec`, `nsenter-mknod`, `nsenter-ip`.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use configs::{
    Device, DeviceKind,
    nsinit::{self, ProcessFlags},
};
use runtime::{
    Container, Containers, ExecOptions, Stdio,
    foreground::{self, Keyboard},
    network::Link,
};

use crate::{
    cli::{Globals, Verb},
    output,
    report::advise,
};

/// A function of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Function {
    /// Run a program
    #[default]
    Exec,
    /// Make a device node
    Mknod,
    /// Show the network interfaces
    Ip,
}

impl Function {
    /// In the order of the alphabet.
    const ALL: [(Self, &str, &str); 3] = [
        (Self::Exec, "exec", "run a command: COMMAND [ARG]..."),
        (Self::Ip, "ip", "show the network interfaces"),
        (Self::Mknod, "mknod", "make a device node: PATH TYPE MAJOR MINOR"),
    ];

    /// Prints the functions.
    pub(super) fn list() -> anyhow::Result<()> {
        let rows = Self::ALL.map(|(_, name, usage)| vec![name.to_owned(), usage.to_owned()]);
        print(&[&[vec!["NAME".to_owned(), "USAGE".to_owned()]], &rows[..]].concat())
    }

    /// Does what needs no program inside: all but `exec`.
    pub(super) fn run(self, container: &Container, words: &[String]) -> anyhow::Result<ExitCode> {
        match self {
            Self::Exec => bail!("exec is run by its caller"),
            Self::Mknod => container.make_node(&device(words)?)?,
            Self::Ip => show(&container.links()?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `PATH TYPE MAJOR MINOR`, as mknod(1) has them, with its mode.
fn device(words: &[String]) -> anyhow::Result<Device> {
    let [path, kind, major, minor] = words else {
        bail!("expected mknod to have 4 arguments not {}", words.len());
    };
    let kind = match kind.as_str() {
        "c" | "u" => DeviceKind::Character,
        "b" => DeviceKind::Block,
        "p" => DeviceKind::Fifo,
        other => bail!("mknod: {other:?} is no type of device: c, b or p"),
    };
    let number = |text: &String| {
        text.parse::<u32>().with_context(|| format!("mknod: {text:?} is no device number"))
    };
    let (major, minor) = (number(major)?, number(minor)?);
    Ok(Device { path: PathBuf::from(path), kind, major, minor, mode: 0o666, uid: 0, gid: 0 })
}

/// `NAME MTU MAC FLAG ADDRS`
fn show(links: &[Link]) -> anyhow::Result<()> {
    let heading = ["NAME", "MTU", "MAC", "FLAG", "ADDRS"].map(str::to_owned).to_vec();
    let row = |link: &Link| {
        let mac: Vec<String> = link.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let addresses: Vec<String> =
            link.addresses.iter().map(|it| format!("{}/{}", it.address, it.prefix)).collect();
        vec![
            link.name.clone(),
            link.mtu.to_string(),
            mac.join(":"),
            flags(link.flags),
            addresses.join(","),
        ]
    };
    print(&[vec![heading], links.iter().map(row).collect()].concat())
}

/// The words the old program had for them; netdevice(7) has the numbers.
fn flags(bits: u32) -> String {
    const WORDS: [(u32, &str); 5] = [
        (0x1, "up"),
        (0x2, "broadcast"),
        (0x8, "loopback"),
        (0x10, "pointtopoint"),
        (0x1000, "multicast"),
    ];
    let set: Vec<&str> = WORDS.iter().filter(|row| bits & row.0 != 0).map(|row| row.1).collect();
    if set.is_empty() { "0".to_owned() } else { set.join("|") }
}

/// Columns are ten wide, or three more than what is widest in them.
fn print(rows: &[Vec<String>]) -> anyhow::Result<()> {
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == row.len() {
                line.push_str(cell);
                break;
            }
            let cells = rows.iter().filter_map(|row| row.get(column));
            let width = cells.map(|cell| cell.chars().count() + 3).max().unwrap_or(0).max(10);
            line.push_str(&format!("{cell:width$}"));
        }
        output::line(crate::report::printable(&line))?;
    }
    Ok(())
}

/// A running container by its first process, and what to do in it.
#[derive(Args, Debug)]
struct Nsenter {
    /// First process of the container
    #[arg(long, value_name = "PID")]
    nspid: i32,

    /// Terminal for the program, instead of this one
    #[arg(long, value_name = "PTY")]
    console: Option<PathBuf>,

    /// What the function takes
    #[arg(value_name = "ARGS", trailing_var_arg = true)]
    args: Vec<String>,
}

impl Nsenter {
    fn run(self, globals: &Globals, function: Function) -> anyhow::Result<ExitCode> {
        if function == Function::Exec {
            // Before anything else, since it begins anew (CVE-2019-5736).
            runtime::self_exe::protect()?;
        }
        let containers = Containers::open(&globals.home.runroot)?.list()?;
        let is_meant = |container: &Container| {
            container.state().is_ok_and(|state| state.pid == Some(self.nspid))
        };
        let Some(container) = containers.iter().find(|container| is_meant(container)) else {
            return Err(advise(
                format!("process {} is not the first one of a container of ours", self.nspid),
                "`nsinit state`, or init_pid in state.json, tells it",
            ));
        };
        if function != Function::Exec {
            return function.run(container, &self.args);
        }
        if self.args.is_empty() {
            bail!("no command: say what to run in the container");
        }
        let first = container.spec()?.process.clone().unwrap_or_default();
        let flags = ProcessFlags { args: self.args, ..ProcessFlags::default() };
        let mut process = nsinit::another_process(first, &flags)?;
        let stdio = match &self.console {
            // The terminal is the caller's; the program only gets its end.
            Some(console) => {
                process.terminal = false;
                console_of(console)?
            }
            None => Stdio::Inherit,
        };
        let options = ExecOptions { stdio, ..ExecOptions::default() };
        Ok(ExitCode::from(
            foreground::exec(container, &process, options, Keyboard::Attached)?.code(),
        ))
    }
}

/// open(2): it does not become our controlling terminal.
const O_NOCTTY: i32 = 0o400;

fn console_of(path: &Path) -> anyhow::Result<Stdio> {
    let doing = || format!("cannot open the console {}", path.display());
    let open = || -> std::io::Result<Stdio> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(O_NOCTTY).open(path)?;
        Ok(Stdio::Fds([file.try_clone()?.into(), file.try_clone()?.into(), file.into()]))
    };
    open().with_context(doing)
}

/// A command for each of the names.
macro_rules! nsenter {
    ($name:ident, $function:expr) => {
        #[derive(Args, Debug)]
        pub(super) struct $name {
            #[command(flatten)]
            target: Nsenter,
        }

        impl Verb for $name {
            fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
                self.target.run(globals, $function)
            }
        }
    };
}

nsenter!(NsenterExec, Function::Exec);
nsenter!(NsenterMknod, Function::Mknod);
nsenter!(NsenterIp, Function::Ip);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[test]
    fn mknod_takes_exactly_four_words() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let made = device(&words("/dev/x c 1 3")).unwrap();
        assert_eq!((made.kind, made.major, made.minor), (DeviceKind::Character, 1, 3));
        for (text, reason) in [
            ("/dev/x c 1", "expected mknod to have 4 arguments not 3"),
            ("/dev/x z 1 3", "no type of device"),
            ("/dev/x c 1 -3", "no device number"),
        ] {
            assert!(device(&words(text)).unwrap_err().to_string().contains(reason), "{text}");
        }
    }

    #[test]
    fn flags_have_the_old_names() {
        assert_eq!(flags(0x1 | 0x8), "up|loopback");
        assert_eq!(flags(0), "0");
    }
}
