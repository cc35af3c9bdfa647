//! Policy → BPF.
//!
//! seccompiler translates the conditions; the dispatch is ours, because seccompiler knows one action
//! per filter, has neither NOTIFY nor several architectures in a program, and tests numbers one after
//! the other. The last costs start time: when a filter is installed the kernel runs it for every system
//! call number of each architecture (`seccomp_cache_prepare`, Linux 5.11), so that later calls need not.
//! A list of 350 names means some 160,000 steps there, a binary search over ranges 10,000. Stacking a
//! seccompiler program per action would cost each of them again.
//!
//! Measured on a small virtual machine, Linux 6.18, installing the default profile, median of 500:
//! seccompiler's list for x86_64 alone (1642 instructions) 611 µs, this tree for x86_64 alone (228
//! instructions) 48 µs, for x86_64 and i386 (565 instructions) 105 µs.
//!
//! build.rs includes this file, so it depends on nothing else of the crate but `calls`.

use seccompiler::{
    BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule, sock_filter,
};

use super::calls::{self, Architecture, X32_BIT};

/// What a filter answers, as the kernel's number (`SECCOMP_RET_*` and its data).
pub(crate) type Answer = u32;

pub(crate) const KILL_PROCESS: Answer = 0x8000_0000;
pub(crate) const KILL_THREAD: Answer = 0;
pub(crate) const TRAP: Answer = 0x0003_0000;
pub(crate) const ERRNO: Answer = 0x0005_0000;
pub(crate) const NOTIFY: Answer = 0x7fc0_0000;
pub(crate) const TRACE: Answer = 0x7ff0_0000;
pub(crate) const LOG: Answer = 0x7ffc_0000;
pub(crate) const ALLOW: Answer = 0x7fff_0000;

/// The kernel's limit, BPF_MAXINSNS.
const MAX_LENGTH: usize = 4096;

/// A policy, in terms of the kernel.
pub(crate) struct Policy<'a> {
    /// First is the native one.
    pub(crate) architectures: &'a [Architecture],
    /// For calls no rule decides.
    pub(crate) default: Answer,
    /// For calls newer than every name in the rules.
    pub(crate) newer: Answer,
    /// For one call the first rule whose tests hold decides.
    pub(crate) rules: &'a [Rule<'a>],
}

/// A rule for one name.
pub(crate) struct Rule<'a> {
    pub(crate) name: &'a str,
    pub(crate) answer: Answer,
    /// All must hold.
    pub(crate) tests: &'a [Test],
}

/// A comparison of an argument.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    pub(crate) index: u8,
    pub(crate) operator: SeccompCmpOp,
    pub(crate) value: u64,
}

/// Consecutive numbers with the same outcome, from `first` to the next range's.
struct Range<'a> {
    first: u32,
    outcome: Outcome<'a>,
}

/// What happens to a number.
enum Outcome<'a> {
    Answer(Answer),
    /// Rules in order, of which the last may have no tests.
    Rules(Vec<&'a Rule<'a>>),
}

/// Compiles a policy; the error says what it asks for in vain.
pub(crate) fn compile(policy: &Policy<'_>) -> Result<Vec<sock_filter>, String> {
    let mut program = vec![load(ARCH_OFFSET)];
    for &architecture in policy.architectures {
        // x32 enters as x86_64 and differs only in its numbers.
        if architecture == Architecture::X32 {
            continue;
        }
        let mut body = vec![load(NUMBER_OFFSET)];
        search(&ranges(policy, architecture), policy.default, architecture, &mut body)?;
        let length = u32::try_from(body.len()).map_err(|_| too_long(body.len()))?;
        program.push(jump(JEQ, architecture.audit(), 1, 0));
        program.push(jump(JA, length, 0, 0));
        program.append(&mut body);
    }
    // D-30: an entry point nobody listed would see numbers that mean something else.
    program.push(answer(KILL_PROCESS));
    if program.len() > MAX_LENGTH { Err(too_long(program.len())) } else { Ok(program) }
}

/// Every number there is, in order, as seen with one value of `seccomp_data.arch`.
fn ranges<'a>(policy: &'a Policy<'a>, architecture: Architecture) -> Vec<Range<'a>> {
    let mut ranges = Vec::with_capacity(256);
    add_known(policy, architecture, 0, &mut ranges);
    if architecture == Architecture::X86_64 {
        if policy.architectures.contains(&Architecture::X32) {
            add_known(policy, Architecture::X32, X32_BIT, &mut ranges);
        } else {
            push(&mut ranges, X32_BIT, Outcome::Answer(KILL_PROCESS));
        }
        // `syscall(-1)` is not x32; a tracer uses it to skip a call.
        push(&mut ranges, u32::MAX, Outcome::Answer(policy.default));
    }
    ranges
}

/// Appends the calls of one numbering, which starts at `base`.
fn add_known<'a>(
    policy: &'a Policy<'a>,
    architecture: Architecture,
    base: u32,
    ranges: &mut Vec<Range<'a>>,
) {
    let mut rules: Vec<(u32, usize, &Rule<'_>)> = (policy.rules.iter().enumerate())
        .filter_map(|(order, rule)| {
            Some((calls::numbers(rule.name)?.on(architecture)?, order, rule))
        })
        .collect();
    rules.sort_unstable_by_key(|&(number, order, _)| (number, order));

    let mut next = base;
    for same in rules.chunk_by(|left, right| left.0 == right.0) {
        let Some(&(number, ..)) = same.first() else { continue };
        if number > next {
            push(ranges, next, Outcome::Answer(policy.default));
        }
        push(ranges, number, outcome(same));
        next = number.saturating_add(1);
    }
    push(ranges, next, Outcome::Answer(policy.newer));
}

/// What the rules of one number come to.
fn outcome<'a>(same: &[(u32, usize, &'a Rule<'a>)]) -> Outcome<'a> {
    let deciding = same.iter().position(|(.., rule)| rule.tests.is_empty());
    match deciding.and_then(|at| same.get(at)) {
        Some((.., rule)) if deciding == Some(0) => Outcome::Answer(rule.answer),
        _ => {
            let count = deciding.map_or(same.len(), |at| at + 1);
            Outcome::Rules(same.iter().take(count).map(|(.., rule)| *rule).collect())
        }
    }
}

/// Appends a range, unless the one before it ends the same way.
fn push<'a>(ranges: &mut Vec<Range<'a>>, first: u32, outcome: Outcome<'a>) {
    if let (Some(Range { outcome: Outcome::Answer(last), .. }), Outcome::Answer(this)) =
        (ranges.last(), &outcome)
        && last == this
    {
        return;
    }
    ranges.push(Range { first, outcome });
}

/// Emits a binary search; the number is in the accumulator.
fn search(
    ranges: &[Range<'_>],
    default: Answer,
    architecture: Architecture,
    program: &mut Vec<sock_filter>,
) -> Result<(), String> {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let Some(middle) = high.first() else { return Ok(()) };
    if low.is_empty() {
        return leaf(&middle.outcome, default, architecture, program);
    }
    let at = program.len();
    program.push(jump(JGE, middle.first, 0, 0));
    search(low, default, architecture, program)?;
    let length = program.len() - at - 1;
    match u8::try_from(length) {
        Ok(distance) => {
            if let Some(instruction) = program.get_mut(at) {
                instruction.jt = distance;
            }
        }
        // Conditional jumps reach 255 instructions, unconditional ones any distance.
        Err(_) => {
            let distance = u32::try_from(length).map_err(|_| too_long(length))?;
            if let Some(instruction) = program.get_mut(at) {
                instruction.jf = 1;
            }
            program.insert(at + 1, jump(JA, distance, 0, 0));
        }
    }
    search(high, default, architecture, program)
}

/// Emits what happens to one range.
fn leaf(
    outcome: &Outcome<'_>,
    default: Answer,
    architecture: Architecture,
    program: &mut Vec<sock_filter>,
) -> Result<(), String> {
    let rules = match outcome {
        Outcome::Answer(value) => {
            program.push(answer(*value));
            return Ok(());
        }
        Outcome::Rules(rules) => rules,
    };
    for rule in rules {
        if rule.tests.is_empty() {
            program.push(answer(rule.answer));
            return Ok(());
        }
        // Falls through to what follows the next instruction when a test fails.
        program.append(&mut tests(rule, architecture)?);
        program.push(answer(rule.answer));
    }
    program.push(answer(default));
    Ok(())
}

/// Lets seccompiler translate a rule's tests.
fn tests(rule: &Rule<'_>, architecture: Architecture) -> Result<BpfProgram, String> {
    let conditions = (rule.tests.iter())
        .map(|test| {
            let (length, operator, value) = sized(rule.name, test, architecture);
            SeccompCondition::new(test.index, length, operator, value)
                .map_err(|_| no_argument(rule.name, test.index))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let index = rule.tests.first().map_or(0, |test| test.index);
    let rule = SeccompRule::new(conditions).map_err(|_| no_argument(rule.name, index))?;
    Ok(rule.into())
}

fn no_argument(name: &str, index: u8) -> String {
    format!("seccomp: {name} has no argument {index}")
}

fn too_long(length: usize) -> String {
    format!("seccomp: the policy needs {length} instructions, the kernel takes {MAX_LENGTH}")
}

/// How many bits of an argument to look at (D-30, CVE-2019-10063).
///
/// The kernel ignores the upper half of a register when the argument is an `int`, so a filter that
/// looks at it can be walked around by setting it.
fn sized(
    name: &str,
    test: &Test,
    architecture: Architecture,
) -> (SeccompCmpArgLen, SeccompCmpOp, u64) {
    const LOW: u64 = 0xffff_ffff;
    let value = test.value;
    // As people write -1 for an int.
    let sign_extended = value >> 31 == LOW << 1 | 1;
    let fits = value <= LOW || sign_extended;
    if !fits || !(architecture.is_32_bit() || is_int(name, test.index)) {
        return (SeccompCmpArgLen::Qword, test.operator.clone(), value);
    }
    let operator = match test.operator {
        SeccompCmpOp::MaskedEq(mask) => SeccompCmpOp::MaskedEq(mask & LOW),
        ref operator => operator.clone(),
    };
    (SeccompCmpArgLen::Dword, operator, value & LOW)
}

/// Arguments of the 64-bit kernels' calls that are 32 bits wide, among those policies look at.
fn is_int(name: &str, index: u8) -> bool {
    let indexes: &[u8] = match name {
        "socket" | "socketpair" | "setsockopt" | "getsockopt" => &[0, 1, 2],
        "ioctl" | "fcntl" | "fcntl64" | "kill" | "tkill" | "setns" | "seccomp" => &[0, 1],
        "personality" | "prctl" | "keyctl" | "bpf" | "socketcall" | "ipc" | "modify_ldt"
        | "arch_prctl" | "quotactl" | "umask" | "userfaultfd" | "memfd_secret"
        | "io_uring_setup" | "epoll_create1" | "timer_create" | "clock_settime"
        | "clock_gettime" | "clock_adjtime" => &[0],
        "futex" | "creat" | "chmod" | "umount2" | "memfd_create" => &[1],
        "open" | "mknod" => &[1, 2],
        "madvise" => &[2],
        "openat" | "mknodat" => &[0, 2, 3],
        "finit_module" => &[0, 2],
        "sched_setscheduler" | "fchmod" | "setpriority" | "pidfd_open" => &[0, 1],
        "tgkill" => &[0, 1, 2],
        _ => &[],
    };
    indexes.contains(&index)
}

// linux/bpf_common.h and linux/seccomp.h
const LOAD_WORD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const NUMBER_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;

fn load(offset: u32) -> sock_filter {
    sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: offset }
}

fn answer(value: Answer) -> sock_filter {
    sock_filter { code: RETURN, jt: 0, jf: 0, k: value }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
