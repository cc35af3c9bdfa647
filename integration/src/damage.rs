//! Documents made worse, the same way in every run: what a fuzzer would try first.

/// Numbers that look random and are not (xorshift).
#[derive(Debug)]
pub struct Damage(u64);

/// What is put in the place of a value or a word.
const WORDS: [&str; 22] = [
    "null",
    "-1",
    "0",
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
    "[[[[]]]]",
    "0.5",
    "{{",
    "}}",
    "%00",
    "\u{1b}[31m",
    "=",
    ",",
];

impl Damage {
    /// Starts at a number of the test's own.
    pub fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let limit = u64::try_from(limit.max(1)).unwrap_or(1);
        usize::try_from(self.0 % limit).unwrap_or(0)
    }

    /// Cuts, flips, repeats, replaces and inserts, up to four times.
    pub fn bytes(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + self.below(40)).min(bytes.len());
            let word = WORDS[self.below(WORDS.len())].as_bytes();
            match self.below(6) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                2 => {
                    let part = bytes[at..end].repeat(1 + self.below(50));
                    bytes.splice(at..at, part);
                }
                3 => drop(bytes.splice(at..end, word.iter().copied())),
                // A value of another kind, where it looks like a document.
                4 => {
                    let colon = bytes[at..].iter().position(|byte| *byte == b':');
                    let from = colon.map_or(at, |colon| at + colon + 1);
                    let length = bytes[from..].iter().position(|byte| b",}]\n".contains(byte));
                    let to = from + length.unwrap_or(0);
                    bytes.splice(from..to, word.iter().copied());
                }
                _ => drop(bytes.splice(at..at, word.iter().copied())),
            }
        }
        bytes
    }

    /// The same for text, which stays text.
    pub fn text(&mut self, good: &str) -> String {
        String::from_utf8_lossy(&self.bytes(good.as_bytes())).into_owned()
    }

    /// The same for an argument or a header, which hold neither NUL nor line ends.
    pub fn word(&mut self, good: &str) -> String {
        self.text(good).replace(['\0', '\n', '\r'], "")
    }
}
