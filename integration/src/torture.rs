//! An image of our own that has everything a layer may legally hold, and the tree it must become.

use crate::{
    Image, Layer, images,
    tar::{Entry, sparse},
    tree::{self, Tree},
};

/// Everything interesting is below this directory, which the runtime leaves alone.
pub const PLACE: &str = "t";

/// The image: busybox and the probe, then the layers of this file.
pub fn image() -> Image {
    let mut image = images::busybox();
    image.layers.extend(layers().iter().map(|layer| Layer::of(layer)));
    image
}

/// What a container of the image must see below `/t`.
pub fn expected() -> Tree {
    let layers = layers();
    let layers: Vec<_> = layers.iter().map(Vec::as_slice).collect();
    tree::below(&tree::merged(&layers), PLACE)
}

/// Lowest first.
pub fn layers() -> Vec<Vec<Entry>> {
    vec![
        [vec![Entry::directory("t")], metadata(), links(), names(), contents(), before()].concat(),
        after(),
        again(),
    ]
}

fn metadata() -> Vec<Entry> {
    let mut entries = vec![
        Entry::directory("t/meta"),
        Entry::file("t/meta/none", "x").mode(0),
        Entry::program("t/meta/setuid", "x").mode(0o4755).owner(1000, 1000),
        Entry::program("t/meta/setgid", "x").mode(0o2711).owner(0, 50),
        Entry::directory("t/meta/sticky").mode(0o1777),
        Entry::directory("t/meta/setgid-directory").mode(0o2775).owner(7, 8),
        Entry::file("t/meta/setgid-directory/child", "").owner(9, 10),
        // A closed directory is listed before its children: they must still arrive.
        Entry::directory("t/meta/closed").mode(0).time(1_000_000_000, 5),
        Entry::file("t/meta/closed/child", "in"),
        // And this one after.
        Entry::file("t/meta/late/child", "in"),
        Entry::directory("t/meta/late").mode(0o711).owner(3, 4).time(1_100_000_000, 123_456_789),
        Entry::file("t/meta/owner", "").owner(65534, 65534),
        Entry::file("t/meta/high-owner", "").owner(3_000_000, 4_000_000_000),
        Entry::file("t/meta/nanoseconds", "").time(1_234_567_890, 987_654_321),
        Entry::file("t/meta/before-1970", "").time(-86_400, 250_000_000),
        Entry::file("t/meta/after-2038", "").time(5_000_000_000, 1),
        Entry::file("t/meta/after-2242", "").time((1 << 33) + 5, 0),
        Entry::char("t/meta/null", 1, 3).mode(0o666),
        Entry::char("t/meta/large-numbers", 259, 300).mode(0o600),
        Entry::block("t/meta/loop", 7, 0).mode(0o660).owner(0, 6),
        Entry::fifo("t/meta/fifo").mode(0o640).owner(1, 2),
        Entry::file("t/meta/xattr", "x")
            .xattr("user.text", "value")
            .xattr("user.binary", [0, 255, 10, 61]),
        Entry::directory("t/meta/xattr-directory").xattr("user.on.directory", "yes"),
        Entry::file("t/meta/trusted", "x").xattr("trusted.test", "only root sees this"),
        // cap_net_raw=ep, as setcap(8) writes it: VFS_CAP_REVISION_2 with the effective bit.
        Entry::program("t/meta/capable", "x").xattr("security.capability", capability(1 << 13)),
    ];
    // The permission bits and the access list of a file describe each other: user::rw-,
    // user:1000:r--, group::r--, mask::r--, other::r--.
    entries.push(
        Entry::file("t/meta/acl", "x").mode(0o644).xattr("system.posix_acl_access", access_list()),
    );
    entries
}

fn capability(permitted: u32) -> Vec<u8> {
    [0x0200_0001_u32, permitted, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn access_list() -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 1000),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 4, u32::MAX),
    ] {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

fn links() -> Vec<Entry> {
    vec![
        Entry::directory("t/links"),
        Entry::symlink("t/links/relative", "../meta/owner").owner(11, 12).time(1_300_000_000, 7),
        Entry::symlink("t/links/absolute", "/etc/passwd"),
        Entry::symlink("t/links/dangling", "nowhere/at/all"),
        Entry::symlink("t/links/loop", "loop"),
        Entry::symlink("t/links/up", "../../../../../../.."),
        Entry::symlink("t/links/bytes", b"\xff\xfe odd\n"),
        Entry::symlink("t/links/long", "x/".repeat(1500)),
        Entry::symlink("t/links/long-gnu", "y/".repeat(300)).gnu(),
        Entry::file("t/links/one", "shared").mode(0o4755).owner(5, 5).xattr("user.shared", "yes"),
        Entry::hardlink("t/links/two", "t/links/one"),
        Entry::hardlink("t/links/a-third", "t/links/one"),
        Entry::hardlink("t/links/to-symlink", "t/links/absolute"),
        Entry::fifo("t/links/fifo"),
        Entry::hardlink("t/links/to-fifo", "t/links/fifo"),
        // tar(1) writes names with a leading dot and slash.
        Entry::file("./t/links/dotted", "dot"),
        Entry::hardlink("./t/links/to-dotted", "./t/links/dotted"),
        Entry::directory("t/links/directory"),
        Entry::symlink("t/links/to-directory", "directory"),
    ]
}

fn names() -> Vec<Entry> {
    let odd: [&[u8]; 20] = [
        b" leading and trailing ",
        b"new\nline",
        b"tab\tbell\x07escape\x1b[31m",
        b"back\\slash",
        b"quote'\"`$(reboot)",
        b"-rf",
        b"*?[a]",
        b"\xff\xfe\x80 no utf-8",
        "\u{1F433} \u{e4}\u{f6}\u{fc}".as_bytes(),
        b"...",
        b"..almost",
        b".wh",
        b".whatever",
        b"a.wh.b",
        b"CON:",
        b"percent%2e%2e",
        b"=",
        b"#comment",
        b"~",
        b"\x01",
    ];
    let mut entries = vec![Entry::directory("t/names")];
    entries.extend(odd.iter().map(|name| Entry::file([b"t/names/", *name].concat(), *name)));
    entries
        .push(Entry::file([b"t/names/".to_vec(), vec![b'n'; 255]].concat(), "as long as can be"));
    entries.push(Entry::file([b"t/names/".to_vec(), vec![b'g'; 250]].concat(), "gnu").gnu());
    // Exactly at the limits of the old header: 99, 100 and 101 bytes.
    for length in [99, 100, 101] {
        let name = format!("t/names/{}", "e".repeat(length - 8));
        entries.push(Entry::file(name, "edge"));
    }
    let deep = format!("t/names/{}file", "deep/".repeat(400));
    entries.push(Entry::file(deep, "deep down"));
    entries
}

fn contents() -> Vec<Entry> {
    let mut entries = vec![Entry::directory("t/content")];
    for size in [0, 1, 511, 512, 513, 10_240, 1_000_003] {
        let bytes: Vec<u8> =
            (0..size).map(|i: u32| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        entries.push(Entry::file(format!("t/content/{size}"), bytes));
    }
    entries.push(sparse(
        "t/content/sparse",
        8 << 20,
        &[(1 << 20, b"island"), (5 << 20, b"another")],
    ));
    entries.push(sparse("t/content/hole-at-end", 4 << 20, &[(0, b"start")]));
    // The last of two entries with the same name counts.
    entries.push(Entry::file("t/content/twice", "first").mode(0o600));
    entries.push(Entry::file("t/content/twice", "second").mode(0o640));
    // An entry with an empty list of parents: nobody ever describes `t/implied`.
    entries.push(Entry::file("t/implied/by/a/file", "here"));
    entries
}

/// What the next layer changes.
fn before() -> Vec<Entry> {
    let mut entries = vec![
        Entry::directory("t/kept")
            .mode(0o710)
            .owner(5, 6)
            .time(1_200_000_000, 42)
            .xattr("user.k", "v"),
        Entry::directory("t/kept/below").mode(0o2770).owner(15, 16).time(1_200_000_001, 43),
        Entry::file("t/kept/old", "old"),
        Entry::directory("t/opaque").mode(0o750).time(1_200_000_002, 44),
        Entry::file("t/opaque/hidden", ""),
        Entry::file("t/opaque/below/hidden", ""),
        Entry::directory("t/changing").mode(0o700),
        Entry::file("t/linked-later", "from below")
            .mode(0o640)
            .owner(21, 22)
            .xattr("user.low", "1"),
    ];
    for name in ["file", "other-file", "recreated"] {
        entries.push(Entry::file(format!("t/gone/{name}"), ""));
    }
    entries.push(Entry::symlink("t/gone/symlink", "file"));
    entries.push(Entry::file("t/gone/directory/with/content", ""));
    entries.push(Entry::file("t/gone/replaced/old", ""));
    for name in ["file-to-directory", "file-to-symlink", "file-to-fifo"] {
        entries.push(Entry::file(format!("t/type/{name}"), "was a file"));
    }
    entries.push(Entry::file("t/type/directory-to-file/child", ""));
    entries.push(Entry::file("t/type/directory-to-symlink/child", ""));
    entries.push(Entry::symlink("t/type/symlink-to-directory", "../kept"));
    entries.push(Entry::symlink("t/type/symlink-to-file", "../kept/old"));
    entries
}

fn after() -> Vec<Entry> {
    vec![
        // The layer implies `t/kept` and `t/kept/below` without describing them.
        Entry::file("t/kept/below/new", "new"),
        Entry::file("t/kept/new", "new"),
        Entry::file("t/opaque/early", "stays, though listed before the marker"),
        Entry::opaque("t/opaque"),
        Entry::file("t/opaque/late", "stays"),
        Entry::directory("t/changing").mode(0o755).owner(1, 1).time(1_500_000_000, 9),
        Entry::whiteout("t/gone/file"),
        Entry::whiteout("t/gone/other-file"),
        Entry::whiteout("t/gone/symlink"),
        Entry::whiteout("t/gone/directory"),
        Entry::whiteout("t/gone/never-there"),
        Entry::whiteout("t/gone/replaced"),
        Entry::directory("t/gone/replaced").mode(0o701),
        Entry::file("t/gone/replaced/new", ""),
        Entry::whiteout("t/gone/recreated"),
        Entry::directory("t/type/file-to-directory"),
        Entry::file("t/type/file-to-directory/child", ""),
        Entry::symlink("t/type/file-to-symlink", "elsewhere"),
        Entry::fifo("t/type/file-to-fifo"),
        Entry::file("t/type/directory-to-file", "now a file"),
        Entry::symlink("t/type/directory-to-symlink", "../kept"),
        Entry::directory("t/type/symlink-to-directory"),
        Entry::file("t/type/symlink-to-directory/child", "not in t/kept"),
        Entry::file("t/type/symlink-to-file", "not in t/kept/old"),
    ]
}

fn again() -> Vec<Entry> {
    vec![
        Entry::file("t/gone/recreated", "back again"),
        Entry::file("t/gone/file", "back as well").mode(0o600),
        Entry::file("t/opaque/below/visible", "the old `below` stays hidden"),
        // Legal, and rare: the target is in the lowest layer only.
        Entry::hardlink("t/linked-again", "t/linked-later"),
        Entry::file("t/kept/below/newest", "newest"),
    ]
}
