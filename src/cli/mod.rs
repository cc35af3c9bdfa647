//! Command lines: the personalities, and the rule that picks one.
//!
//! A personality is a table of commands. Only the chosen command's parser is built: building all of
//! them would cost more than starting a container's process may.

pub(crate) mod docker;
pub(crate) mod krgo;
pub(crate) mod nsinit;
pub(crate) mod oci;
mod usage;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Arg, ArgAction, ArgMatches, Args, ValueEnum};
use rootfs::{Settings, Store};

use crate::{home::Home, logger, ordinary, output, report};

pub(crate) use usage::Refused;

/// What every command gets to know.
#[derive(Debug)]
pub(crate) struct Globals {
    /// Where everything is kept.
    pub(crate) home: Home,
    /// Who makes cgroups, if anybody.
    pub(crate) cgroup_manager: CgroupManager,
    /// Where log lines go.
    pub(crate) log: logger::Settings,
    /// The personality in use, for the commands that describe it.
    pub(crate) personality: &'static Personality,
    /// The program that dumps and restores, if it is not the installed one.
    pub(crate) criu: Option<PathBuf>,
}

impl Globals {
    /// The store, with the right to the files in it: before the first of them is touched, and after
    /// everything that needs the user outside (see `ordinary`).
    pub(crate) fn store(&self) -> anyhow::Result<Store> {
        self.store_with(Settings::default())
    }

    /// The same with other limits.
    pub(crate) fn store_with(&self, settings: Settings) -> anyhow::Result<Store> {
        ordinary::become_owner()?;
        Ok(Store::with_settings(&self.home.root, settings)?)
    }
}

/// Who makes a container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CgroupManager {
    /// We write the file system.
    #[default]
    Cgroupfs,
    /// The same, but without limits there need be none: a user without privileges may not make any.
    #[value(skip)]
    IfAllowed,
    /// systemd, asked over D-Bus.
    Systemd,
    /// Nobody: containers stay in the caller's cgroup, without limits.
    Disabled,
}

/// A command line of its own.
pub(crate) struct Personality {
    /// What its messages start with, and its usage lines.
    pub(crate) name: &'static str,
    /// One sentence for `--help`.
    pub(crate) about: &'static str,
    /// The exit code of a failure of ours.
    pub(crate) failure: u8,
    /// A second line for `--version`.
    pub(crate) version_note: Option<&'static str>,
    /// Adds the arguments that come before the command.
    pub(crate) augment: fn(clap::Command) -> clap::Command,
    /// Whether those may also come after it.
    pub(crate) globals_anywhere: bool,
    /// Decides what the global arguments mean; later matches win over earlier ones.
    pub(crate) globals: fn(&'static Self, Vec<ArgMatches>) -> anyhow::Result<Globals>,
    /// The personality that a command belongs to after all, by its first word and those after it.
    pub(crate) hand_over: fn(&str, &[OsString]) -> Option<&'static Self>,
    /// What it can do, in the order of `--help`.
    pub(crate) commands: &'static [Command],
    /// Headings in `--help`, each with the first command below it; without any, one list.
    pub(crate) headings: &'static [(&'static str, &'static str)],
    /// What people expect it to do, and why it does not.
    pub(crate) refused: &'static [Refused],
}

impl std::fmt::Debug for Personality {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// One row of a personality's table.
pub(crate) struct Command {
    /// What is typed: one word, or two (`image prune`).
    pub(crate) name: &'static str,
    /// Other spellings.
    pub(crate) aliases: &'static [&'static str],
    /// One line for the list of commands.
    pub(crate) about: &'static str,
    /// Adds its arguments.
    pub(crate) augment: fn(clap::Command) -> clap::Command,
    /// Parses them and does the work.
    pub(crate) run: fn(&ArgMatches, &Globals) -> anyhow::Result<ExitCode>,
    /// Flags people expect it to take, and why it does not.
    pub(crate) refused: &'static [Refused],
}

/// The arguments of a command, and what it does with them.
pub(crate) trait Verb: Args {
    /// Does it.
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode>;
}

impl Command {
    /// A row for a command.
    pub(crate) const fn new<V: Verb>(name: &'static str, about: &'static str) -> Self {
        Self { name, aliases: &[], about, augment: V::augment_args, run: run::<V>, refused: &[] }
    }

    /// The row with other spellings.
    pub(crate) const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The row with flags it refuses by name.
    pub(crate) const fn refusing(mut self, flags: &'static [Refused]) -> Self {
        self.refused = flags;
        self
    }

    /// Whether these words name it.
    pub(crate) fn answers_to(&self, words: &str) -> bool {
        self.name == words || self.aliases.contains(&words)
    }
}

fn run<V: Verb>(matches: &ArgMatches, globals: &Globals) -> anyhow::Result<ExitCode> {
    V::from_arg_matches(matches)?.run(globals)
}

/// Runs the command line.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let (personality, arguments) = choose(arguments);
    run_as(personality, arguments)
}

/// Runs a command line as one personality, whose exit code a failure gets.
fn run_as(personality: &'static Personality, arguments: Vec<OsString>) -> ExitCode {
    match dispatch(personality, arguments) {
        Ok(code) => code,
        Err(error) => {
            let ours = personality.failure;
            let code = if ours == 125 { report::code(&error, ours) } else { ours };
            report::failure(personality.name, &error, code)
        }
    }
}

/// The personality by the name we were called as, or by the first word; and the words left.
fn choose(mut arguments: Vec<OsString>) -> (&'static Personality, Vec<OsString>) {
    if arguments.is_empty() {
        return (&docker::PERSONALITY, arguments);
    }
    let called = arguments.remove(0);
    let name = Path::new(&called).file_name().and_then(OsStr::to_str);
    if let Some(name) = name.filter(|name| name.starts_with("nsenter-")) {
        // Names that nsinit gave itself are commands of it.
        arguments.insert(0, name.into());
        return (&nsinit::PERSONALITY, arguments);
    }
    let by_name = match name {
        Some("runc" | "crun" | "crun-cargo-oci") => Some(&oci::PERSONALITY),
        Some("nsinit") => Some(&nsinit::PERSONALITY),
        Some("krgo") => Some(&krgo::PERSONALITY),
        _ => None,
    };
    if let Some(personality) = by_name {
        return (personality, arguments);
    }
    let by_word = match arguments.first().and_then(|word| word.to_str()) {
        Some("oci") => Some(&oci::PERSONALITY),
        Some("nsinit") => Some(&nsinit::PERSONALITY),
        Some("krgo") => Some(&krgo::PERSONALITY),
        _ => None,
    };
    match by_word {
        Some(personality) => (personality, arguments.split_off(1)),
        None => (&docker::PERSONALITY, arguments),
    }
}

/// Parses the global arguments, then the chosen command's, and runs it.
fn dispatch(
    personality: &'static Personality,
    arguments: Vec<OsString>,
) -> anyhow::Result<ExitCode> {
    let global_matches = (before_command(personality).try_get_matches_from(&arguments))
        .map_err(|error| usage::explain(error, personality.name, &[]))?;
    if global_matches.get_flag("version") {
        output::line(format_args!("crun-cargo version {}", env!("CARGO_PKG_VERSION")))?;
        if let Some(line) = personality.version_note {
            output::line(line)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let Some((first, rest)) = global_matches.subcommand() else {
        output::text(overview(personality, "").render_help())?;
        return Ok(ExitCode::SUCCESS);
    };
    if global_matches.get_flag("help") {
        return help(personality, std::iter::once(first.to_owned()).collect());
    }
    let rest: Vec<OsString> = rest.get_many("").unwrap_or_default().cloned().collect();
    if let Some(other) = (personality.hand_over)(first, &rest) {
        return Ok(run_as(other, arguments));
    }
    if first == "help" {
        let words = rest.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        return help(personality, words);
    }
    let Some((command, taken)) = find(personality, first, rest.first()) else {
        return unknown(personality, first, &rest);
    };
    let matches = (parser(personality, command).try_get_matches_from(rest.iter().skip(taken)))
        .map_err(|error| {
            usage::explain(error, &full_name(personality, command), command.refused)
        })?;
    let mut typed = vec![global_matches];
    if personality.globals_anywhere {
        typed.push(matches.clone());
    }
    let globals = (personality.globals)(personality, typed)?;
    logger::start(&globals.log)?;
    (command.run)(&matches, &globals)
}

/// The row a command line names, and how many words beyond the first it took.
fn find(
    personality: &'static Personality,
    first: &str,
    second: Option<&OsString>,
) -> Option<(&'static Command, usize)> {
    let row = |words: &str| personality.commands.iter().find(|row| row.answers_to(words));
    let two_words = second.and_then(|word| row(&format!("{first} {}", word.to_str()?)));
    match two_words {
        Some(command) => Some((command, 1)),
        None => row(first).map(|command| (command, 0)),
    }
}

/// The parser of what comes before the command.
fn before_command(personality: &Personality) -> clap::Command {
    let flag = |name, short| Arg::new(name).long(name).short(short).action(ArgAction::SetTrue);
    (personality.augment)(clap::Command::new(personality.name))
        .args_override_self(true)
        .no_binary_name(true)
        .allow_external_subcommands(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .disable_version_flag(true)
        .arg(flag("help", 'h').help("Print help"))
        .arg(flag("version", 'V').short_alias('v').help("Print version"))
}

/// One command's parser.
fn parser(personality: &Personality, command: &Command) -> clap::Command {
    let full_name = full_name(personality, command);
    let parser = (command.augment)(clap::Command::new(command.name).bin_name(full_name))
        .about(command.about)
        // The last of two wins, as with docker: scripts add flags to what is there.
        .args_override_self(true)
        .mut_args(with_any_value)
        .no_binary_name(true);
    if personality.globals_anywhere {
        (personality.augment)(parser.next_help_heading("Global options"))
    } else {
        parser
    }
}

fn full_name(personality: &Personality, command: &Command) -> String {
    format!("{} {}", personality.name, command.name)
}

/// A flag takes the next word whatever it looks like (`-e -x`, `--name -`), as docker's and runc's do.
fn with_any_value(argument: Arg) -> Arg {
    let is_optional = argument.get_num_args().is_some_and(|count| count.min_values() == 0);
    let takes_one = argument.get_action().takes_values() && !is_optional;
    let is_flag = !argument.is_positional();
    if is_flag && takes_one { argument.allow_hyphen_values(true) } else { argument }
}

/// The list of commands whose names start with `prefix`, without their arguments.
fn overview(personality: &Personality, prefix: &str) -> clap::Command {
    let name = format!("{} {prefix}", personality.name);
    let mut overview = before_command(personality)
        .bin_name(name.trim_end())
        .about(personality.about)
        .subcommand_required(true);
    for command in personality.commands {
        // Other spellings are listed only where their group was asked for.
        let aliases = if prefix.is_empty() { &[] } else { command.aliases };
        let names = std::iter::once(&command.name).chain(aliases);
        if let Some(rest) = names.into_iter().find_map(|name| name.strip_prefix(prefix)) {
            overview = overview.subcommand(clap::Command::new(rest).about(command.about));
        }
    }
    if !prefix.is_empty() || personality.headings.is_empty() {
        return overview;
    }
    overview.before_help(under_headings(personality)).help_template(
        "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}Options:\n{options}",
    )
}

/// The commands, as people look for them: by what they are about.
fn under_headings(personality: &Personality) -> String {
    let width = personality.commands.iter().map(|command| command.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for command in personality.commands {
        let heading = personality.headings.iter().find(|(_, first)| *first == command.name);
        if let Some((heading, _)) = heading {
            let gap = if text.is_empty() { "" } else { "\n" };
            text += &format!("{gap}{heading}:\n");
        }
        text += &format!("  {:<width$}  {}\n", command.name, command.about);
    }
    // The parser puts an empty line behind it.
    text.trim_end().to_owned()
}

/// Everything: what completion scripts and manual pages are made from.
pub(crate) fn tree(personality: &Personality) -> clap::Command {
    let mut top = (personality.augment)(clap::Command::new(personality.name))
        .about(personality.about)
        .version(env!("CARGO_PKG_VERSION"));
    let mut groups: Vec<clap::Command> = Vec::new();
    for command in personality.commands {
        let words: Vec<&'static str> = command.name.split(' ').collect();
        let leaf = |name| (command.augment)(clap::Command::new(name)).about(command.about);
        match words[..] {
            [group, name] => match groups.iter().position(|made| made.get_name() == group) {
                Some(at) => {
                    let made = groups.remove(at);
                    groups.push(made.subcommand(leaf(name)));
                }
                None => groups.push(clap::Command::new(group).subcommand(leaf(name))),
            },
            _ => top = top.subcommand(leaf(command.name)),
        }
    }
    for group in groups {
        top = top.mut_subcommand_or_add(group);
    }
    top
}

/// `help`, `help run`, `help image prune`.
fn help(personality: &'static Personality, words: Vec<String>) -> anyhow::Result<ExitCode> {
    let Some(first) = words.first() else {
        output::text(overview(personality, "").render_help())?;
        return Ok(ExitCode::SUCCESS);
    };
    let second = words.get(1).map(OsString::from);
    match find(personality, first, second.as_ref()) {
        Some((command, _)) => output::text(parser(personality, command).render_long_help())?,
        None => return unknown(personality, first, &["--help".into()]),
    }
    Ok(ExitCode::SUCCESS)
}

/// A word that is no command: the first of two, or a mistake the parser knows similar words for.
fn unknown(
    personality: &'static Personality,
    first: &str,
    rest: &[OsString],
) -> anyhow::Result<ExitCode> {
    let second = rest.first().map(|word| format!("{first} {}", word.to_string_lossy()));
    let typed = second.iter().map(String::as_str).chain([first]);
    if let Some(refusal) =
        typed.into_iter().find_map(|typed| Refused::of(personality.refused, typed))
    {
        return Err(refusal);
    }
    let prefix = format!("{first} ");
    let is_group = (personality.commands.iter())
        .flat_map(|row| row.aliases.iter().chain([&row.name]))
        .any(|name| name.starts_with(&prefix));
    if !is_group {
        let error = overview(personality, "").allow_external_subcommands(false);
        return Err(mistake(personality.name, error, &[first.into()]));
    }
    let mut group = overview(personality, &prefix).allow_external_subcommands(false);
    match rest.first().and_then(|word| word.to_str()) {
        None | Some("-h" | "--help") => {
            output::text(group.render_help())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(_) => Err(mistake(&format!("{} {first}", personality.name), group, rest)),
    }
}

/// Lets the parser say what is wrong with words that no row answers to.
fn mistake(command: &str, mut parser: clap::Command, words: &[OsString]) -> anyhow::Error {
    let error = match parser.try_get_matches_from_mut(words) {
        Err(error) => error,
        Ok(_) => parser.error(clap::error::ErrorKind::InvalidSubcommand, "no such command"),
    };
    usage::explain(error, command, &[])
}

trait MutSubcommandOrAdd {
    fn mut_subcommand_or_add(self, group: clap::Command) -> Self;
}

impl MutSubcommandOrAdd for clap::Command {
    /// A group whose name is a command as well (`system`, were it one) shares its entry.
    fn mut_subcommand_or_add(self, group: clap::Command) -> Self {
        let name = group.get_name().to_owned();
        if self.find_subcommand(&name).is_none() {
            return self.subcommand(group);
        }
        let children: Vec<clap::Command> = group.get_subcommands().cloned().collect();
        self.mut_subcommand(name, |command| command.subcommands(children))
    }
}
