//! Programs of a few dozen bytes, put together by hand: what no compiler would make. They try system calls by
//! number and by other entry points than the native one, or name a loader of the test's choice.
//!
//! x86-64 only.

/// Where the file is mapped: low, so that 32-bit calls can point into it.
const BASE: u32 = 0x10000;
const HEADER: usize = 64;
const SEGMENT: usize = 56;
/// Where results are collected, after the code.
const RESULTS: u32 = BASE + 0x4000;

/// A program under construction.
#[derive(Clone, Debug, Default)]
pub struct Elf {
    code: Vec<u8>,
    calls: u32,
    loader: Option<String>,
    class: Option<u8>,
    padding: u16,
}

/// Which entry point of the kernel a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// `syscall`
    Native,
    /// `syscall` with the bit that means the x32 ABI.
    X32,
    /// `int 0x80`, the 32-bit system calls.
    I386,
}

impl Elf {
    /// A program that does nothing and succeeds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a call and keeps its result.
    pub fn call(mut self, entrance: Entrance, number: u32, args: &[u64]) -> Self {
        const NATIVE: [[u8; 2]; 6] =
            [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
        const I386: [u8; 5] = [0xbb, 0xb9, 0xba, 0xbe, 0xbf];
        let args = args.iter().copied().chain(std::iter::repeat(0));
        match entrance {
            Entrance::Native | Entrance::X32 => {
                let bit = if entrance == Entrance::X32 { 0x4000_0000 } else { 0 };
                for (register, value) in NATIVE.iter().zip(args) {
                    self.code.extend(register);
                    self.code.extend(value.to_le_bytes());
                }
                self.load_number(number | bit);
                self.code.extend([0x0f, 0x05]);
            }
            Entrance::I386 => {
                for (register, value) in I386.iter().zip(args) {
                    self.code.push(*register);
                    self.code.extend(u32::try_from(value).expect("32 bits").to_le_bytes());
                }
                self.load_number(number);
                self.code.extend([0xcd, 0x80]);
            }
        }
        // mov [RESULTS + 4 * calls], eax
        self.code.extend([0x89, 0x04, 0x25]);
        self.code.extend((RESULTS + 4 * self.calls).to_le_bytes());
        self.calls += 1;
        self
    }

    /// The address of words that lie in the program, for calls that take a pointer.
    pub fn words(mut self, words: &[u32]) -> (Self, u64) {
        // jmp over them
        let length = u8::try_from(4 * words.len()).expect("few words");
        self.code.extend([0xeb, length]);
        let at = usize::try_from(BASE).expect("it fits") + self.code_offset() + self.code.len();
        self.code.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        (self, u64::try_from(at).expect("it fits"))
    }

    /// Names a program interpreter.
    pub fn loader(mut self, path: &str) -> Self {
        assert!(self.code.is_empty(), "the table of segments comes before the code");
        self.loader = Some(path.into());
        self
    }

    /// Says another class than 64-bit, which the kernel does not look at.
    pub fn class(mut self, class: u8) -> Self {
        self.class = Some(class);
        self
    }

    /// Adds empty segments before the interpreter's.
    pub fn padding(mut self, segments: u16) -> Self {
        assert!(self.code.is_empty(), "the table of segments comes before the code");
        self.padding = segments;
        self
    }

    fn load_number(&mut self, number: u32) {
        self.code.push(0xb8);
        self.code.extend(number.to_le_bytes());
    }

    fn segments(&self) -> usize {
        1 + usize::from(self.padding) + usize::from(self.loader.is_some())
    }

    fn loader_bytes(&self) -> Vec<u8> {
        self.loader.as_ref().map_or(Vec::new(), |path| [path.as_bytes(), &[0]].concat())
    }

    fn code_offset(&self) -> usize {
        HEADER + SEGMENT * self.segments() + self.loader_bytes().len()
    }

    /// The file. It writes each call's result, four bytes, to standard output.
    pub fn build(&self) -> Vec<u8> {
        let mut code = self.clone();
        // write(1, RESULTS, 4 * calls); exit_group(0)
        code.code.extend([0xbf, 1, 0, 0, 0, 0xbe]);
        code.code.extend(RESULTS.to_le_bytes());
        code.code.push(0xba);
        code.code.extend((4 * self.calls).to_le_bytes());
        code.load_number(1);
        code.code.extend([0x0f, 0x05, 0x31, 0xff]);
        code.load_number(231);
        code.code.extend([0x0f, 0x05]);

        let loader = self.loader_bytes();
        let start = self.code_offset();
        let size = start + code.code.len();
        assert!(size < 0x4000, "the code reaches into the results");
        let mut file = self.header(start);
        file.extend(segment(1, 0, size, 0x8000));
        for _ in 0..self.padding {
            file.extend(segment(0, 0, 0, 0));
        }
        if self.loader.is_some() {
            file.extend(segment(3, start - loader.len(), loader.len(), loader.len()));
        }
        file.extend(loader);
        file.extend(code.code);
        file
    }

    fn header(&self, start: usize) -> Vec<u8> {
        let mut header = vec![0x7f, b'E', b'L', b'F', self.class.unwrap_or(2), 1, 1];
        header.resize(16, 0);
        // ET_EXEC, EM_X86_64
        header.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        header.extend((u64::from(BASE) + wide(start)).to_le_bytes());
        header.extend(wide(HEADER).to_le_bytes());
        header.extend([0; 12]);
        let count = u16::try_from(self.segments()).expect("few segments");
        for half in [64, 56, count, 0, 0, 0] {
            header.extend(half.to_le_bytes());
        }
        header
    }

    /// What the program wrote, as numbers: negative ones are errors.
    pub fn results(output: &[u8]) -> Vec<i32> {
        let (words, _) = output.as_chunks();
        words.iter().map(|word| i32::from_le_bytes(*word)).collect()
    }
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).expect("it fits")
}

/// Readable, writable, executable.
fn segment(kind: u32, offset: usize, file_size: usize, memory_size: usize) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), 7_u32.to_le_bytes()].concat();
    let address = u64::from(BASE) + wide(offset);
    for word in [wide(offset), address, address, wide(file_size), wide(memory_size), 0x1000] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}
