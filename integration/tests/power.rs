//! Power that fails and disks that err: what a command reported as stored is there afterwards, byte for byte
//! (S2, S8, D-50, D-51).
//!
//! The disk is ext4 above a block device of ours that knows which writes a flush has waited for; see
//! `integration::Disk`. Every cut is mounted, so that the filesystem's own journal is replayed, and then
//! looked at by the program.
//!
//! `CRUN_CARGO_ROUNDS` says how often; the test that cuts a thousand times is ignored unless asked for.

use std::{collections::BTreeSet, fs, path::Path};

use integration::{
    Disk, Failing, Finished, Image, Invocation, Layer, Mounted, Need, TestEnv, images, program,
    skip, tar::Entry,
};

const DISK: usize = 40 << 20;

/// A disk, and the program with its store there.
struct Stage {
    disk: Disk,
    env: TestEnv,
}

impl Stage {
    fn new() -> Option<Self> {
        let env = TestEnv::with(&[Need::Root, Need::Program("mkfs.ext4", "e2fsprogs")])?;
        match Disk::new(&env.path("disk"), DISK) {
            Ok(disk) => Some(Self { disk, env }),
            Err(reason) => {
                skip(&format!("no disk of ours can be mounted: {reason}"));
                None
            }
        }
    }

    fn run(&self, words: &[&str]) -> Finished {
        on(&self.env, self.disk.path(), words).run()
    }
}

/// The program with its store on a mounted disk.
fn on(env: &TestEnv, disk: &Path, words: &[&str]) -> Invocation {
    let mut command = env.bare();
    command.arg("--root").arg(disk.join("root")).arg("--runroot").arg(env.runroot()).args(words);
    Invocation::new(command)
}

/// The same on a machine that was switched off and on again: its boot has another name.
fn rebooted(env: &TestEnv, disk: &Path, words: &[&str]) -> Invocation {
    let boot = env.file("boot_id", "00000000-1111-4222-8333-444444444444\n");
    let name = "/proc/sys/kernel/random/boot_id";
    let script = format!("mount --bind {} {name} && exec \"$@\"", boot.display());
    let command = env.other("unshare", ["-m", "sh", "-c", &script, "sh"]).arg(program());
    let command = command.arg("--root").arg(disk.join("root")).arg("--runroot");
    command.arg(env.path("runroot-rebooted")).args(words)
}

/// An image whose layers take several writes: the first is shared by all.
fn serve(name: &str, number: u8) -> String {
    let files = |layer: u8| -> Vec<Entry> {
        let content = |file: u8| vec![layer ^ file; 1000 * usize::from(file)];
        (1..60).map(|file| Entry::file(format!("d{layer}/{file}"), content(file))).collect()
    };
    let image = Image::new(vec![Layer::of(&files(100)), Layer::of(&files(number))]);
    images::registry().push(&format!("power/{name}:1"), &image.build())
}

fn names(listing: Invocation) -> BTreeSet<String> {
    let listing = listing.run().success();
    let last = |line: &str| line.rsplit('/').next().unwrap_or_default().to_owned();
    listing.text().lines().map(last).collect()
}

const LIST: &[&str] = &["images", "--format", "{{.Repository}}"];

/// What happened until when, and which names there were then.
struct Reported {
    moment: usize,
    names: BTreeSet<String>,
}

/// Does everything that changes the store, and notes what was reported.
fn work(stage: &Stage) -> Vec<Reported> {
    let (one, two) = (serve("one", 1), serve("two", 2));
    let archive = stage.env.file("rootfs.tar", images::busybox_archive());
    let archive = archive.display().to_string();
    let commands: [&[&str]; 9] = [
        &["pull", "-q", &one],
        &["tag", &one, "named"],
        &["pull", "-q", &two],
        &["rmi", &one],
        &["import", &archive, "imported"],
        &["untag", "named"],
        &["pull", "-q", &one],
        &["image", "prune", "-f"],
        &["rmi", "imported"],
    ];
    let mut reported = vec![Reported { moment: stage.disk.now(), names: BTreeSet::new() }];
    for words in commands {
        stage.run(words).success();
        let names = names(on(&stage.env, stage.disk.path(), LIST));
        reported.push(Reported { moment: stage.disk.now(), names });
    }
    reported
}

fn rounds(usual: usize) -> usize {
    let asked = std::env::var("CRUN_CARGO_ROUNDS").ok().and_then(|count| count.parse().ok());
    asked.unwrap_or(usual)
}

/// xorshift: the same every time, so that a failure can be seen again.
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}

fn cut_and_look(count: usize) {
    let Some(stage) = Stage::new() else { return };
    let env = &stage.env;
    let reported = work(&stage);
    let end = reported.last().expect("something was done").moment;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..count {
        // Evenly spread, so that few rounds see every command; the selection is left to the dice.
        let first = reported[0].moment;
        let moment = first + (end - first) * (round + 1) / count;
        let share = dice.throw() % 5;
        let content = stage.disk.cut(moment, || dice.throw() % 4 < share);
        // A file of its own: the last one's loop device may not have let go of it yet.
        let image = env.file(&format!("cut{round}"), content);
        let cut = Mounted::new(&image, env.path("cut-mounted")).expect("the journal is replayed");
        let what = format!("round {round}: cut at {moment} of {end}, {share}/4 survived");

        let found = names(rebooted(env, cut.path(), LIST));
        let before = reported.iter().rposition(|it| it.moment <= moment).expect("from the first");
        let allowed = &reported[before..(before + 2).min(reported.len())];
        // Either side of the command that was interrupted; what it had no business with stays.
        let kept = allowed.iter().map(|it| it.names.clone()).reduce(|one, other| &one & &other);
        let known = allowed.iter().map(|it| it.names.clone()).reduce(|one, other| &one | &other);
        // An image comes before its name, and goes after it.
        let known = known.map(|names| names.into_iter().chain(["<none>".to_owned()]).collect());
        assert!(found.is_superset(&kept.unwrap_or_default()), "{what}: only {found:?} are left");
        let known: BTreeSet<String> = known.unwrap_or_default();
        assert!(found.is_subset(&known), "{what}: {found:?} are there");
        let check = rebooted(env, cut.path(), &["check"]).run();
        assert!(check.status.success(), "{what}: {}{}", check.text(), check.error());
        if round % 10 == 0 {
            // Without repair, everything works on.
            rebooted(env, cut.path(), &["pull", "-q", &images::registry().name("power/one:1")])
                .run()
                .success();
            rebooted(env, cut.path(), &["check"]).run().success();
            rebooted(env, cut.path(), &["image", "prune", "-a", "-f"]).run().success();
            assert!(names(rebooted(env, cut.path(), LIST)).is_empty());
        }
        drop(cut);
        let _ = fs::remove_file(image);
    }
}

#[test]
fn what_was_reported_survives_a_power_cut() {
    cut_and_look(rounds(30));
}

#[test]
#[ignore = "takes many minutes"]
fn what_was_reported_survives_a_thousand_power_cuts() {
    cut_and_look(rounds(1000));
}

/// A disk that fails: whatever is reported as done is right, and what was there stays.
fn fail_and_look(failing: Failing) {
    let Some(stage) = Stage::new() else { return };
    let env = &stage.env;
    let (kept, other) = (serve("kept", 1), serve("other", 2));
    stage.run(&["pull", "-q", &kept]).success();
    stage.disk.fail(failing);
    let pull = stage.run(&["pull", "-q", &other]);
    let first = pull.error();
    if !pull.status.success() {
        pull.failure().one_clear_line();
    }
    // Later commands may fail as well, in order; they must not believe what the disk did not take.
    let again = stage.run(&["pull", "-q", &other]);
    let says_done = again.status.success();
    stage.disk.fail(Failing::Not);
    // Another machine's view of the same disk: only what reached it counts.
    let image = env.file("after", stage.disk.cut(stage.disk.now(), || true));
    let after = Mounted::new(&image, env.path("after-mounted")).expect("the journal is replayed");
    let found = names(rebooted(env, after.path(), LIST));
    assert!(found.contains("kept"), "{failing:?}: {found:?}");
    if says_done {
        assert!(found.contains("other"), "{failing:?}: reported and not there: {found:?}");
    }
    let check = rebooted(env, after.path(), &["check"]).run();
    let said = format!("{first}{}", again.error());
    assert!(check.status.success(), "{failing:?}: {said}\n{}{}", check.text(), check.error());
    rebooted(env, after.path(), &["pull", "-q", &other]).run().success();
    rebooted(env, after.path(), &["check"]).run().success();
}

#[test]
fn a_disk_that_takes_no_more_writes_loses_nothing() {
    for number in 0..rounds(6) {
        fail_and_look(Failing::Writes(number * 7));
    }
}

#[test]
fn one_write_that_fails_is_noticed() {
    for number in 0..rounds(12) {
        fail_and_look(Failing::OneWrite(number * 3));
    }
}

/// Fuller by a little each time, so that every write in turn is the one that finds no room.
#[test]
fn a_full_disk_loses_nothing_at_any_point() {
    let Some(stage) = Stage::new() else { return };
    let (kept, other) = (serve("kept", 1), serve("other", 2));
    stage.run(&["pull", "-q", &kept]).success();
    let filler = stage.disk.path().join("filler");
    let count = rounds(12) as u64;
    for round in 0..count {
        let room = nix::sys::statvfs::statvfs(stage.disk.path()).expect("it is mounted");
        let free = room.blocks_free() * room.fragment_size();
        // What the other image takes is less than a megabyte.
        let left = (1 << 20) * round / count;
        let full = vec![7; usize::try_from(free.saturating_sub(left)).expect("a small disk")];
        // The last blocks may be the filesystem's own.
        let _ = fs::write(&filler, full);
        let pull = stage.run(&["pull", "-q", &other]);
        if !pull.status.success() {
            pull.failure().stderr_has("space").one_clear_line();
        }
        assert!(names(on(&stage.env, stage.disk.path(), LIST)).contains("kept"));
        stage.run(&["check"]).success();
        stage.run(&["rmi", &other]);
        stage.run(&["image", "prune", "-f"]).success();
        let _ = fs::remove_file(&filler);
    }
    stage.run(&["pull", "-q", &other]).success();
    stage.run(&["check"]).success();
}

/// What cannot be read is said, and not taken for an empty file.
#[test]
fn a_disk_that_cannot_be_read_is_reported() {
    let Some(stage) = Stage::new() else { return };
    let image = serve("unreadable", 1);
    stage.run(&["pull", "-q", &image]).success();
    // What the kernel remembers would be read from memory.
    fs::write("/proc/sys/vm/drop_caches", "3").expect("root may");
    stage.disk.fail(Failing::Reads);
    let check = stage.run(&["check"]).failure();
    let said = check.text() + &check.error();
    assert!(said.contains("Input/output error"), "{said}");
    stage.run(&["pull", "-q", &image]).failure().one_clear_line();
    stage.disk.fail(Failing::Not);
    stage.run(&["check"]).success();
}
