//! Documents nobody meant: cut, flipped, repeated. Every one is lowered or refused, and none panics (S7).
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{fs, path::Path};

use configs::{
    CgroupDriver,
    nsinit::{self, Invocation},
    oci,
};

/// Numbers that differ from one another and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

const WORDS: [&str; 16] = [
    "null",
    "-1",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "1e400",
    "\"\"",
    "[]",
    "{}",
    "\"\\u0000\"",
    "\"../..\"",
    "true",
    "9223372036854775807",
    "\"0\"",
    "[[[[]]]]",
    "0.5",
];

fn damage(text: &str, numbers: &mut Numbers) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        match numbers.below(4) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << numbers.below(7);
                }
            }
            // A value of another kind.
            _ => {
                let colon = bytes.iter().skip(at).position(|byte| *byte == b':').map(|it| it + at);
                if let Some(colon) = colon {
                    let rest = bytes.split_off(colon + 1);
                    let end = rest.iter().position(|byte| b",}]\n".contains(byte)).unwrap_or(0);
                    let word = WORDS.get(numbers.below(WORDS.len())).unwrap();
                    bytes.extend_from_slice(word.as_bytes());
                    bytes.extend(rest.into_iter().skip(end));
                }
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn no_document_makes_it_panic() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let bundle = oci::Bundle { directory: Path::new("/b"), id: "i", driver: CgroupDriver::Systemd };
    for entry in fs::read_dir(samples).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for _ in 0..400 {
            let damaged = damage(&text, &mut numbers);
            if let Ok(lowered) = oci::parse(&damaged, bundle) {
                oci::write(&lowered.value).unwrap();
                nsinit::write(&lowered.value).unwrap();
            }
            if let Ok(lowered) = nsinit::parse(&damaged, &Invocation::default()) {
                oci::write(&lowered.value).unwrap();
                nsinit::write(&lowered.value).unwrap();
            }
            let _ = nsinit::print(&damaged);
            let _ = oci::parse_process(&damaged);
            let _ = oci::parse_resources(&damaged);
        }
    }
}

#[test]
fn depth_is_limited() {
    let deep = "[".repeat(100_000);
    assert!(nsinit::parse(&deep, &Invocation::default()).is_err());
    assert!(nsinit::print(&deep).is_err());
}
