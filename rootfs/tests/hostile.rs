//! Archives that try to escape, to confuse, or to exhaust. Judged by what they did, not by what was said.
#![allow(
    clippy::unwrap_used,
    clippy::as_conversions,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

use support::{
    Canary, Header, Place, Tar, add_blob, add_image, add_layer, digest, explain, files_of, flatten,
    gzip, names, pax_records,
};

/// The archive is refused with these words, nothing outside is touched, and no layer is left.
#[track_caller]
fn refused(tar: Vec<u8>, words: &str) {
    let place = Place::new();
    let canary = Canary::new(&place);
    let error = add_layer(&place.store(), &tar).unwrap_err();
    let text = explain(&error);
    assert!(text.contains(words), "{text}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
    canary.is_untouched();
    assert!(names(&place.path("store/layers")).is_empty());
    assert!(names(&place.path("store/tmp")).is_empty(), "{:?}", names(&place.path("store/tmp")));
}

/// The archive is unpacked inside its directory; nothing outside is touched.
#[track_caller]
fn contained(make: impl Fn(&str) -> Vec<u8>, check: impl Fn(&std::path::Path)) {
    let place = Place::new();
    let canary = Canary::new(&place);
    let tar = make(canary.path());
    add_layer(&place.store(), &tar).unwrap();
    canary.is_untouched();
    check(&files_of(&place, &tar));
}

fn up(path: &str) -> String {
    format!("{}{}", "../".repeat(12), path.trim_start_matches('/'))
}

#[test]
fn names_with_dots_are_refused_wherever_they_stand() {
    for name in ["../escape", "a/../../escape", "..", "a/..", "./../x", "/../x"] {
        refused(Tar::new().file(name, "x").end(), "`..`");
        refused(Tar::new().directory(name).end(), "`..`");
        refused(Tar::new().file("t", "x").hard_link("l", name).end(), "`..`");
        refused(Tar::new().pax(&[("path", name.as_bytes())]).file("a", "x").end(), "`..`");
        let long = [name.as_bytes(), b"\0"].concat();
        refused(Tar::new().extension(b'L', &long).file("a", "x").end(), "`..`");
        let sparse: [(&str, &[u8]); 4] = [
            ("GNU.sparse.name", name.as_bytes()),
            ("GNU.sparse.size", b"1"),
            ("GNU.sparse.map", b"0,1"),
            ("GNU.sparse.numblocks", b"1"),
        ];
        refused(Tar::new().pax(&sparse).file("a", "x").end(), "`..`");
    }
    refused(Tar::new().header(Header::new("x", b'0').bytes(345, b"../..")).end(), "`..`");
    refused(Tar::new().file("a/../.wh.x", "").end(), "`..`");
}

#[test]
fn global_headers_change_nothing() {
    let records = pax_records(&[("path", b"../../escape"), ("size", b"99"), ("uid", b"7")]);
    contained(
        |_| Tar::new().extension(b'g', &records).file("plain", "x").end(),
        |files| {
            assert_eq!(names(files), ["plain"]);
            assert_eq!(fs::metadata(files.join("plain")).unwrap().uid(), 0);
        },
    );
}

#[test]
fn absolute_names_are_inside() {
    contained(
        |canary| Tar::new().file(&format!("{canary}/file"), "overwritten").end(),
        |files| assert!(names(files).iter().any(|name| name.ends_with("canary/file"))),
    );
}

#[test]
fn nothing_goes_through_a_symlink_to_the_outside() {
    type Step = fn(Tar) -> Tar;
    let steps: [Step; 8] = [
        |tar| tar.file("link/file", "overwritten"),
        |tar| tar.directory("link/directory"),
        |tar| tar.directory("link/new"),
        |tar| tar.symlink("link/file", "elsewhere"),
        |tar| tar.file("source", "x").hard_link("link/file", "source"),
        |tar| tar.file("link/.wh.file", ""),
        |tar| tar.file("link/.wh..wh..opq", ""),
        |tar| tar.pax(&[("SCHILY.xattr.user.evil", b"1")]).file("link/file", "x"),
    ];
    for step in steps {
        for target in [str::to_owned as fn(&str) -> String, up] {
            contained(
                |canary| {
                    let tar = Tar::new()
                        .extension(b'K', &[target(canary).as_bytes(), b"\0"].concat())
                        .symlink("link", "long");
                    step(tar).end()
                },
                |files| assert!(fs::symlink_metadata(files.join("link")).unwrap().is_symlink()),
            );
        }
    }
}

#[test]
fn the_last_component_is_never_followed() {
    contained(
        |canary| {
            Tar::new()
                .symlink("link", &up(canary)[..90.min(up(canary).len())])
                .header(Header::new("link", b'5').mode(0o777).owner(1, 1))
                .symlink("file", &format!("{canary}/file"))
                .file("file", "mine")
                .symlink("fifo", &format!("{canary}/file"))
                .header(&Header::new("fifo", b'6'))
                .end()
        },
        |files| {
            assert!(fs::symlink_metadata(files.join("link")).unwrap().is_dir());
            assert_eq!(fs::read_to_string(files.join("file")).unwrap(), "mine");
            assert!(fs::symlink_metadata(files.join("fifo")).unwrap().file_type().is_fifo());
        },
    );
}

#[test]
fn a_symlink_of_a_lower_layer_does_not_lead_an_upper_one_out() {
    let place = Place::new();
    let canary = Canary::new(&place);
    let store = place.store();
    for target in [canary.path().to_owned(), up(canary.path())] {
        let long = [target.as_bytes(), b"\0"].concat();
        let lower = Tar::new().extension(b'K', &long).symlink("etc", "x").end();
        let upper = Tar::new().file("etc/file", "overwritten").file("etc/new/x", "x").end();
        let image = add_image(&store, "evil", &[lower, upper]).unwrap();
        flatten(&store, &image, "c");
        canary.is_untouched();
        store.remove_snapshot("c").unwrap();
        canary.is_untouched();
    }
}

#[test]
fn symlink_loops_and_long_chains_end() {
    refused(
        Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "x").end(),
        "too many links",
    );
    let mut tar = Tar::new().directory("l0");
    for number in 1..60 {
        tar = tar.symlink(&format!("l{number}"), &format!("l{}", number - 1));
    }
    refused(tar.file("l59/x", "x").end(), "too many links");
}

#[test]
fn hard_links_stay_inside_and_lead_to_files() {
    let place = Place::new();
    let canary = Canary::new(&place);
    let store = place.store();
    let absolute = format!("{}/file", canary.path());
    for tar in [
        Tar::new().hard_link("h", &absolute).end(),
        Tar::new().symlink("out", canary.path()).hard_link("h", "out/file").end(),
        Tar::new().hard_link("h", "later").end(),
    ] {
        let text = explain(&add_image(&store, "x", &[tar]).unwrap_err());
        assert!(text.contains("hard link to a file that does not exist"), "{text}");
        canary.is_untouched();
    }
    refused(Tar::new().directory("d").hard_link("h", "d").end(), "hard link to a directory");
    refused(Tar::new().file("h", "x").hard_link("h", "h").end(), "hard link to itself");
    refused(Tar::new().hard_link("h", "/").end(), "hard link to the root");
    refused(Tar::new().hard_link("h", "").end(), "without a name");
    contained(
        |canary| Tar::new().symlink("s", canary).hard_link("h", "s").end(),
        |files| assert!(fs::symlink_metadata(files.join("h")).unwrap().is_symlink()),
    );
}

#[test]
fn metadata_of_a_directory_is_not_applied_to_what_replaced_it() {
    contained(
        |canary| {
            Tar::new()
                .header(Header::new("d", b'5').mode(0o777).owner(7, 7))
                .directory("d/sub")
                .symlink("d", &format!("{canary}/directory"))
                .end()
        },
        |files| assert!(fs::symlink_metadata(files.join("d")).unwrap().is_symlink()),
    );
}

#[test]
fn a_path_may_change_its_type() {
    contained(
        |_| {
            Tar::new()
                .directory("p")
                .file("p/inner", "old")
                .file("p", "file")
                .directory("p")
                .file("p/inner", "new")
                .end()
        },
        |files| assert_eq!(fs::read_to_string(files.join("p/inner")).unwrap(), "new"),
    );
    refused(Tar::new().file("p", "x").file("p/below", "x").end(), "its directory is a file");
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    refused(Tar::new().file("d/.wh.", "").end(), "whiteout of nothing");
    refused(Tar::new().file("d/.wh..", "").end(), "whiteout of nothing");
    refused(Tar::new().file("d/.wh...", "").end(), "whiteout of nothing");
    refused(Tar::new().file(".wh.d/x", "").end(), "below a whiteout");
}

#[test]
fn whiteouts_of_any_type_hide_only_what_is_below() {
    for kind in [b'0', b'5', b'2', b'3', b'6'] {
        let lower = Tar::new().file("d/gone", "x").file("d/stays", "x").end();
        let upper = Tar::new()
            .file("d/new", "x")
            .header(Header::new("d/.wh.gone", kind).link("x").device(1, 3))
            .file("d/.wh.new", "")
            .end();
        let place = Place::new();
        let store = place.store();
        let image = add_image(&store, "x", &[lower, upper]).unwrap();
        let tree = flatten(&store, &image, "c");
        assert_eq!(names(&tree), ["d", "d/new", "d/stays"], "{}", kind as char);
    }
}

#[test]
fn what_overlayfs_obeys_cannot_come_from_a_layer() {
    let place = Place::new();
    let store = place.store();
    let lower = Tar::new().file("d/a", "below").file("f", "below").end();
    let upper = Tar::new()
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .directory("d")
        .character_device("d/a", 0, 0)
        .pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/../../canary")])
        .directory("e")
        .end();
    let image = add_image(&store, "x", &[lower, upper.clone()]).unwrap();
    let files = files_of(&place, &upper);
    let names_on = |path: &str| {
        let file = support::rustix_open(&files.join(path));
        sys::xattr::list(file).unwrap().concat()
    };
    assert_eq!(names_on("d"), b"trusted.overlay.overlay.opaque");
    assert_eq!(names_on("e"), b"trusted.overlay.overlay.redirect");
    assert!(fs::symlink_metadata(files.join("d/a")).unwrap().is_file());
    let tree = flatten(&store, &image, "c");
    assert_eq!(names(&tree), ["d", "d/a", "e", "f"]);
}

#[test]
fn broken_numbers_are_refused() {
    let header = |at: usize, bytes: &[u8]| {
        let mut header = Header::new("f", b'0');
        header.bytes(at, bytes);
        Tar::new().header(&header).end()
    };
    refused(header(124, b"zzzzzzzzzzz\0"), "malformed");
    refused(header(124, b"-0000000001\0"), "malformed");
    refused(header(124, &[0xff; 12]), "negative size");
    refused(
        header(124, &[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        "out of range",
    );
    refused(
        header(124, &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        "too much data",
    );
    refused(header(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), "no user or group");
    refused(header(108, &[0x80, 0, 0, 1, 0, 0, 0, 0]), "no user or group");
    refused(header(116, &[0xff; 8]), "no user or group");
    refused(header(100, b"8888888\0"), "malformed");
    for (key, value) in [
        ("size", "-1"),
        ("size", "1e3"),
        ("size", "99999999999999999999"),
        ("uid", "4294967295"),
        ("gid", "-1"),
        ("mtime", "soon"),
        ("mtime", "1.x"),
    ] {
        let tar = Tar::new().pax(&[(key, value.as_bytes())]).file("f", "x").end();
        assert!(add_layer(&Place::new().store(), &tar).is_err(), "{key}={value}");
    }
}

#[test]
fn extreme_times_are_no_error() {
    contained(
        |_| {
            Tar::new()
                .pax(&[("mtime", b"-62135596800.5")])
                .file("ancient", "x")
                .pax(&[("mtime", b"9223372036854775807")])
                .file("far", "x")
                .header(Header::new("raw", b'0').bytes(136, &[0xff; 12]))
                .end()
        },
        |files| assert_eq!(names(files).len(), 3),
    );
}

#[test]
fn broken_extension_headers_are_refused() {
    for body in
        ["5 a=b", "x a=b\n", "99 a=b\n", "6 ab\n\n", "0 a=b\n", "6 =bc\n", "6 a=bcd", "-6 a=b\n"]
    {
        refused(Tar::new().extension(b'x', body.as_bytes()).file("f", "x").end(), "malformed PAX");
        refused(Tar::new().extension(b'g', body.as_bytes()).file("f", "x").end(), "malformed PAX");
    }
    let record = pax_records(&[("path", b"a")]);
    let twice = Tar::new().extension(b'x', &record).extension(b'x', &record);
    refused(twice.file("f", "x").end(), "two PAX headers");
    refused(Tar::new().extension(b'x', &record).end(), "ends after an extension");
    refused(Tar::new().extension(b'L', b"long\0").end(), "ends after an extension");
    refused(Tar::new().pax(&[("path", b"a\0b")]).file("f", "x").end(), "NUL");
    refused(Tar::new().extension(b'L', b"a\0b").file("f", "x").end(), "NUL");
    refused(
        Tar::new().pax(&[("path", b"")]).header(&Header::new("", b'0')).end(),
        "without a name",
    );
    let large = vec![b'x'; (1 << 20) + 1];
    refused(Tar::new().extension(b'L', &large).file("f", "x").end(), "larger than 1 MiB");
    let value = vec![b'x'; 65_537];
    let xattr: [(&str, &[u8]); 1] = [("SCHILY.xattr.user.x", &value)];
    refused(Tar::new().pax(&xattr).file("f", "x").end(), "attribute is too long");
}

#[test]
fn broken_sparse_maps_are_refused() {
    let map = |map: &str, size: &str| {
        let records: [(&str, &[u8]); 2] =
            [("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", size.as_bytes())];
        Tar::new().pax(&records).file("f", "xy").end()
    };
    for (segments, size) in [
        ("0,1", "9"),
        ("1,1,0,1", "9"),
        ("0,2", "1"),
        ("0,1,0,1", "9"),
        ("0", "9"),
        ("0,2", "9999999999999999999"),
        ("0,-2", "9"),
        ("9223372036854775807,2", "9223372036854775807"),
    ] {
        assert!(
            add_layer(&Place::new().store(), &map(segments, size)).is_err(),
            "{segments} {size}"
        );
    }
    let good = map("1,1,5,1", "10");
    let place = Place::new();
    add_layer(&place.store(), &good).unwrap();
    assert_eq!(fs::read(files_of(&place, &good).join("f")).unwrap(), b"\0x\0\0\0y\0\0\0\0");
    let in_data: [(&str, &[u8]); 3] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"10")];
    for text in ["99999999\n", "1\n0\n", "x\n", "1\n-1\n1\n", "70000\n"] {
        let mut data = text.as_bytes().to_vec();
        data.resize(512, 0);
        let tar =
            Tar::new().pax(&in_data).header(Header::new("f", b'0').size(512)).data(&data).end();
        assert!(add_layer(&Place::new().store(), &tar).is_err(), "{text}");
    }
}

#[test]
fn broken_framing_is_refused() {
    let good = Tar::new().file("f", "content").end();
    let mut bad_sum = good.clone();
    bad_sum[0] ^= 1;
    refused(bad_sum, "checksum");
    for length in [1, 100, 511, 513, 600, 1023, 1025, 1535] {
        let place = Place::new();
        let result = add_layer(&place.store(), &good[..length]);
        assert!(result.is_err(), "{length}");
    }
    refused(Tar::new().file("f", "x").raw(&[0; 512]).file("g", "x").end(), "lone block of zeros");
    refused(Tar::new().header(&Header::new("f", b'Z')).end(), "unknown type");
    contained(
        |_| [Tar::new().file("f", "x").end(), Tar::new().file("../after", "x").end()].concat(),
        |files| assert_eq!(names(files), ["f"], "what follows the end marker is never parsed"),
    );
    contained(|_| Tar::new().file("f", "x").0, |files| assert_eq!(names(files), ["f"]));
    contained(|_| Vec::new(), |files| assert!(names(files).is_empty()));
}

#[test]
fn broken_compression_is_refused() {
    let tar = Tar::new().file("f", &"content ".repeat(5000)).end();
    let good = gzip(&tar);
    let flip = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        bad
    };
    let end = good.len();
    let zstd = zstd::encode_all(tar.as_slice(), 3).unwrap();
    let mut summed = zstd::Encoder::new(Vec::new(), 3).unwrap();
    summed.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut summed, &tar).unwrap();
    let mut summed = summed.finish().unwrap();
    let last = summed.len() - 1;
    summed[last] ^= 1;
    let cases: [(&str, Vec<u8>); 7] = [
        ("wrong crc", flip(end - 6)),
        ("wrong length", flip(end - 2)),
        ("cut", good[..end - 9].to_vec()),
        ("cut in the trailer", good[..end - 1].to_vec()),
        ("bytes after it", [good.as_slice(), b"junk"].concat()),
        ("cut zstd", zstd[..zstd.len() - 1].to_vec()),
        ("wrong zstd checksum", summed),
    ];
    for (what, blob) in cases {
        let place = Place::new();
        let error = add_blob(&place.store(), &blob, &tar).unwrap_err();
        assert!(matches!(error, rootfs::Error::Decompress { .. }), "{what}: {error:?}");
        assert!(names(&place.path("store/layers")).is_empty());
    }
    let (half, rest) = tar.split_at(1000);
    for blob in [
        [gzip(half), gzip(b""), gzip(rest)].concat(),
        [zstd::encode_all(half, 3).unwrap(), zstd::encode_all(rest, 3).unwrap()].concat(),
        [b"\x50\x2a\x4d\x18\x03\0\0\0abc".as_slice(), &zstd].concat(),
        tar.clone(),
    ] {
        let place = Place::new();
        add_blob(&place.store(), &blob, &tar).unwrap();
        assert_eq!(names(&files_of(&place, &tar)), ["f"]);
    }
}

#[test]
fn wrong_bytes_never_become_visible() {
    let tar = Tar::new().file("f", "x").end();
    let blob = gzip(&tar);
    let place = Place::new();
    let store = place.store();
    let right = support::descriptor(&blob);
    let cases: [(&str, &[u8], oci_spec::image::Descriptor, oci_spec::image::Digest); 4] = [
        (
            "digest",
            &blob,
            oci_spec::image::Descriptor::new(
                right.media_type().clone(),
                right.size(),
                digest(b"other"),
            ),
            digest(&tar),
        ),
        ("size", &blob[..blob.len() - 1], right.clone(), digest(&tar)),
        ("size", &[blob.as_slice(), b"x"].concat(), right.clone(), digest(&tar)),
        ("diff id", &blob, right.clone(), digest(b"other")),
    ];
    for (what, bytes, descriptor, diff_id) in cases {
        match store.add_layer(&descriptor, &diff_id, bytes, &|_| ()) {
            Err(rootfs::Error::Mismatch { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{what}: {other:?}"),
        }
        for directory in ["layers", "blobs/sha256", "tmp"] {
            assert!(names(&place.path("store").join(directory)).is_empty(), "{what}: {directory}");
        }
    }
}

#[test]
fn limits_hold_exactly() {
    let settings =
        rootfs::Settings { max_layer_entries: 10, max_layer_bytes: 1000, ..Default::default() };
    let open = |place: &Place| {
        rootfs::Store::with_settings(&place.path("store"), settings.clone()).unwrap()
    };
    let entries = |count: usize| {
        (0..count).fold(Tar::new(), |tar, number| tar.directory(&format!("d{number}"))).end()
    };
    add_layer(&open(&Place::new()), &entries(10)).unwrap();
    assert!(
        explain(&add_layer(&open(&Place::new()), &entries(11)).unwrap_err())
            .contains("too many entries")
    );
    let bytes = |count: usize| Tar::new().file("f", &"x".repeat(count)).end();
    add_layer(&open(&Place::new()), &bytes(1000)).unwrap();
    assert!(
        explain(&add_layer(&open(&Place::new()), &bytes(1001)).unwrap_err())
            .contains("too much data")
    );
}

/// Names at their limits, and one more.
#[test]
fn names_are_limited_exactly() {
    let named = |name: &[u8]| Tar::new().pax(&[("path", name)]).file("x", "y").end();
    let path = |length: usize| {
        // Components as long as they may be, so that the path is not too deep.
        let long = format!("{}/", "n".repeat(255)).repeat(length / 256);
        let rest = "f".repeat(length % 256);
        if rest.is_empty() { long } else { long + &rest }
    };
    let deep = |depth: usize| format!("{}f", "d/".repeat(depth - 1));
    for (name, limit, over) in [
        ("component", "c".repeat(255), "c".repeat(256)),
        ("path", path(4095), path(4095) + "f"),
        ("depth", deep(2000), deep(2001)),
    ] {
        contained(
            |_| named(limit.as_bytes()),
            |files| assert_eq!(fs::read_dir(files).unwrap().count(), 1, "{name}"),
        );
        assert!(add_layer(&Place::new().store(), &named(over.as_bytes())).is_err(), "{name}");
    }
}

/// Extension headers and attributes at their limits; what is larger is refused elsewhere.
#[test]
fn the_largest_extension_header_and_attribute_are_taken() {
    let limit = 1 << 20;
    let digits = limit.to_string().len();
    let comment = format!("{limit} comment={}\n", "x".repeat(limit - digits - 10));
    assert_eq!(comment.len(), limit);
    contained(
        |_| Tar::new().extension(b'x', comment.as_bytes()).file("f", "x").end(),
        |files| assert_eq!(names(files), ["f"]),
    );
    // As much as any filesystem here takes: ext4 has room for no more than a block.
    let value = vec![b'x'; 3000];
    let xattr: [(&str, &[u8]); 1] = [("SCHILY.xattr.user.x", &value)];
    contained(
        |_| Tar::new().pax(&xattr).file("f", "x").end(),
        |files| assert_eq!(names(files), ["f"]),
    );
}

/// Beyond 64 MiB, content that shrinks a thousandfold is a bomb; zeros become holes and cost nothing.
#[test]
fn a_bomb_is_refused_before_it_fills_the_disk() {
    let bomb = |size: u64| {
        let content = vec![b'a'; size as usize];
        Tar::new().header(Header::new("bomb", b'0').size(size)).raw(&content).end()
    };
    let add = |tar: &[u8]| {
        let blob = zstd::encode_all(tar, 19).unwrap();
        assert!(blob.len() * 1000 < 64 << 20);
        add_blob(&Place::new().store(), &blob, tar)
    };
    add(&bomb(64 << 20)).unwrap();
    let error = add(&bomb((64 << 20) + 1)).unwrap_err();
    assert!(explain(&error).contains("a thousand times its size"), "{}", explain(&error));
}

/// A frame may not ask for more memory than the zstd program would give it.
#[test]
fn the_window_of_zstd_is_limited() {
    let tar = Tar::new().file("f", "x").end();
    for (log, fits) in [(27, true), (28, false)] {
        // A frame header that asks for the window, then the content as one raw block.
        let descriptor = 0b0000_0000;
        let window = (log - 10) << 3;
        let mut blob = vec![0x28, 0xb5, 0x2f, 0xfd, descriptor, window];
        let header = (tar.len() as u32) << 3 | 1;
        blob.extend(&header.to_le_bytes()[..3]);
        blob.extend(&tar);
        assert_eq!(add_blob(&Place::new().store(), &blob, &tar).is_ok(), fits, "2^{log}");
    }
}

#[test]
fn a_bomb_of_zeros_costs_no_disk() {
    let size = 96 << 20;
    let tar =
        Tar::new().header(Header::new("zeros", b'0').size(size)).raw(&vec![0; size as usize]).end();
    let place = Place::new();
    add_layer(&place.store(), &tar).unwrap();
    let found = fs::metadata(files_of(&place, &tar).join("zeros")).unwrap();
    assert_eq!(found.len(), size);
    assert!(found.blocks() < 1000, "{} blocks", found.blocks());
}

#[test]
fn archives_damaged_at_random_are_refused_or_contained() {
    let mut state = 12_345_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let place = Place::new();
    let canary = Canary::new(&place);
    let map: [(&str, &[u8]); 2] = [("GNU.sparse.map", b"3,2,600,3"), ("GNU.sparse.size", b"5000")];
    let good = Tar::new()
        .directory("d")
        .file("d/f", "content")
        .symlink("d/up", canary.path())
        .file("d/up/file", "x")
        .pax(&[("path", b"long/name"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b")])
        .file("x", "y")
        .pax(&map)
        .file("sparse", "abcde")
        .hard_link("h", "d/f")
        .file(".wh.gone", "")
        .character_device("c", 1, 3)
        .end();
    let store = place.store();
    for _ in 0..400 {
        let mut bad = good.clone();
        for _ in 0..=random(3) {
            let at = random(bad.len());
            bad[at] = [0, b'/', b'.', b'7', 0xff, b'\n', bad[at] ^ 1, bad[at] ^ 0x80][random(8)];
        }
        // Right checksums, so that the damage is looked at.
        for block in bad.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
        if add_blob(&store, &bad, &bad).is_ok() {
            let mut again = Vec::new();
            std::io::Read::read_to_end(&mut store.layer_tar(&digest(&bad)).unwrap(), &mut again)
                .unwrap();
            assert!(again == bad, "an accepted archive is kept exactly");
        }
    }
    canary.is_untouched();
}

#[test]
fn deep_and_odd_names_work() {
    let deep = "d/".repeat(1900);
    let odd: [&[u8]; 6] =
        [b"new\nline", b"\xff\xfe", b"\x1b[31m", b" ", b"-rf", "caf\u{e9}".as_bytes()];
    contained(
        |_| {
            let mut tar = Tar::new().pax(&[("path", deep.as_bytes())]).directory("x");
            for name in odd {
                tar = tar.pax(&[("path", name)]).file("x", "odd");
            }
            tar.end()
        },
        |files| assert_eq!(fs::read_dir(files).unwrap().count(), 1 + odd.len()),
    );
    let place = Place::new();
    let store = place.store();
    let tar = Tar::new().pax(&[("path", deep.as_bytes())]).directory("x").end();
    add_image(&store, "deep", &[tar]).unwrap();
    store.remove_image("deep", false).unwrap();
    assert!(names(&place.path("store/layers")).is_empty());
}

#[test]
fn documents_that_parsers_read_differently_are_refused() {
    let place = Place::new();
    let store = place.store();
    let tars = [Tar::new().file("f", "x").end()];
    add_image(&store, "good", &tars).unwrap();
    let (manifest, config) = support::documents(&tars);
    let text = String::from_utf8(manifest.clone()).unwrap();
    let add = |manifest: &str, media_type: &str, config: &[u8]| {
        store.add_image(Some("bad"), manifest.as_bytes(), media_type, config, None).unwrap_err()
    };
    let twice = text.replacen('{', "{\"layers\":[],", 1);
    let both = text.replacen('{', "{\"manifests\":[],", 1);
    for (manifest, words) in
        [(twice, "twice"), (both, "index at once"), (format!("{text} x"), "trailing")]
    {
        let error = explain(&add(&manifest, support::MANIFEST, &config));
        assert!(error.contains(words), "{error}");
    }
    let error = add(&text, "application/vnd.docker.distribution.manifest.v2+json", &config);
    assert!(explain(&error).contains("media type"));
    assert!(explain(&add(&text, support::MANIFEST, b"{}")).contains("rootfs"));
    let other = String::from_utf8(config).unwrap().replace("amd64", "arm64");
    assert!(
        explain(&add(&text, support::MANIFEST, other.as_bytes()))
            .contains("not the one the manifest names")
    );
    assert!(store.image("bad").is_err());
}
