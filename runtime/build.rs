//! Compiles the default system call filter for the capabilities most containers have.

#[allow(dead_code, unreachable_pub, reason = "shared with the library, each using a part")]
#[path = "src/seccomp/calls.rs"]
mod calls;
#[allow(dead_code, unreachable_pub, reason = "shared with the library, each using a part")]
#[path = "src/seccomp/compile.rs"]
mod compile;
#[allow(dead_code, unreachable_pub, reason = "shared with the library, each using a part")]
#[path = "../configs/src/default_seccomp.rs"]
mod default_seccomp;
#[allow(dead_code, unreachable_pub, reason = "shared with the library, each using a part")]
#[path = "../configs/src/syscalls.rs"]
mod syscalls;

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

use calls::Architecture;
use seccompiler::SeccompCmpOp;

/// `configs::defaults::CAPABILITIES`; a test of the library compares the two.
const CAPABILITIES: u64 = 0xa804_25fb;

fn main() -> Result<(), Box<dyn Error>> {
    for file in ["src/seccomp/calls.rs", "src/seccomp/compile.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-changed=../configs/src/default_seccomp.rs");
    println!("cargo::rerun-if-changed=../configs/src/syscalls.rs");

    let target = env::var("CARGO_CFG_TARGET_ARCH")?;
    let native = Architecture::of_target(&target)
        .ok_or_else(|| format!("no system call numbers for {target}"))?;
    let code = source(&program(native)?)?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("default_filter.rs"), code)?;
    Ok(())
}

fn program(native: Architecture) -> Result<Vec<seccompiler::sock_filter>, String> {
    let rows = || default_seccomp::ROWS.iter().filter(|row| row.applies(CAPABILITIES));
    let tests: Vec<Vec<compile::Test>> =
        rows().map(|row| row.test.iter().map(test).collect()).collect();
    let rules: Vec<compile::Rule<'_>> = rows()
        .zip(&tests)
        .flat_map(|(row, tests)| {
            let answer = row.errno.map_or(compile::ALLOW, refusal);
            row.names.iter().map(move |name| compile::Rule { name, answer, tests })
        })
        .collect();
    let mut architectures = vec![native];
    architectures.extend(
        (default_seccomp::ARCHITECTURES.iter())
            .filter_map(|name| Architecture::named(name))
            .filter(|&other| native.runs(other)),
    );
    const ENOSYS: u16 = 38;
    compile::compile(&compile::Policy {
        architectures: &architectures,
        default: refusal(default_seccomp::DEFAULT_ERRNO),
        newer: refusal(ENOSYS),
        rules: &rules,
    })
}

fn refusal(errno: u16) -> compile::Answer {
    compile::ERRNO | compile::Answer::from(errno)
}

fn test(test: &default_seccomp::Test) -> compile::Test {
    let (index, operator, value) = match *test {
        default_seccomp::Test::Equal(index, value) => (index, SeccompCmpOp::Eq, value),
        default_seccomp::Test::Clear(index, mask) => (index, SeccompCmpOp::MaskedEq(mask), 0),
    };
    compile::Test { index, operator, value }
}

fn source(program: &[seccompiler::sock_filter]) -> Result<String, Box<dyn Error>> {
    let mut code = format!(
        "pub(super) const CAPABILITIES: u64 = {CAPABILITIES:#x};\n\
         pub(super) const DECIDING: u64 = {:#x};\n\
         pub(super) static PROGRAM: &[SeccompInstruction] = &[\n",
        default_seccomp::deciding_capabilities(),
    );
    for each in program {
        writeln!(
            code,
            "    SeccompInstruction {{ code: {}, jt: {}, jf: {}, k: {:#x} }},",
            each.code, each.jt, each.jf, each.k
        )?;
    }
    code.push_str("];\n");
    Ok(code)
}
