//! Names for containers whose user gave none.

const QUALITIES: [&str; 32] = [
    "amber", "bold", "brave", "brisk", "calm", "clear", "clever", "cool", "eager", "early", "fair",
    "fast", "fine", "free", "gentle", "glad", "grand", "green", "keen", "kind", "light", "lucky",
    "merry", "neat", "noble", "quick", "quiet", "ready", "silver", "sunny", "warm", "wise",
];

const THINGS: [&str; 32] = [
    "anchor", "badger", "barge", "beacon", "birch", "bridge", "canal", "cedar", "crane", "dock",
    "falcon", "ferry", "fjord", "harbor", "heron", "island", "jetty", "lagoon", "mast", "meadow",
    "otter", "pier", "pilot", "quay", "raft", "reef", "river", "sail", "seal", "tide", "tug",
    "wharf",
];

/// `quiet_harbor_3f2a`: words to remember, digits to be alone with.
pub(crate) fn name(random: &[u8; 32]) -> String {
    let [first, second, third, fourth, ..] = *random;
    let word = |list: &'static [&'static str; 32], byte: u8| {
        list.get(usize::from(byte % 32)).copied().unwrap_or("box")
    };
    format!("{}_{}_{third:02x}{fourth:02x}", word(&QUALITIES, first), word(&THINGS, second))
}
