//! Tests of the whole: a layered image with every oddity, seen through our eyes and those of stock git.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use oci_spec::image::{Digest, ImageConfiguration};

use super::{
    Error, ObjectId,
    checkout::{checkout, restore},
    create::{Options, create, unpack},
    image::{Image, Layer},
    rootfs::Rootfs,
    save::{Committed, Message},
    scratch::Scratch,
};
use crate::{
    Compression, Store,
    commit::{Format, NewImage},
    pack::Times,
};

/// An image made of shell scripts, each of which fills a layer in overlay form.
pub(crate) struct Made {
    pub(crate) scratch: Scratch,
    layers: Vec<Layer>,
}

impl Made {
    pub(crate) fn new(name: &str) -> Self {
        Self { scratch: Scratch::new(name), layers: Vec::new() }
    }

    pub(crate) fn layer(mut self, script: &str) -> Self {
        let number = self.layers.len();
        let directory = self.scratch.path.join(format!("layers/{number}"));
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        shell(&directory, script);
        let digest = |c: &str| format!("sha256:{:0>64}", format!("{c}{number}")).parse::<Digest>();
        self.layers.push(Layer {
            directories: vec![(directory, super::scan::Top::Own)],
            hides_all: false,
            diff_id: digest("d").unwrap(),
            digest: digest("b").unwrap(),
            size: 1234,
        });
        self
    }

    pub(crate) fn image(&self) -> Image {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let mut history: Vec<_> = (0..diff_ids.len())
            .map(|number| {
                serde_json::json!({
                    "created": format!("2015-02-{:02}T00:00:00Z", number + 1),
                    "created_by": format!("RUN step {number}"),
                    "author": "Jane <jane@example.org>",
                })
            })
            .collect();
        history.push(serde_json::json!({"created_by": "CMD bash", "empty_layer": true}));
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "created": "2015-03-01T00:00:00Z",
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
        });
        let config: ImageConfiguration = serde_json::from_value(config).unwrap();
        Image {
            layers: self.layers.clone(),
            config,
            config_digest: format!("sha256:{:0>64}", "c").parse().unwrap(),
            manifest_digest: format!("sha256:{:0>64}", "a").parse().unwrap(),
        }
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            repositories: self.scratch.path.join("git"),
            program: "/bin/true".into(),
            large: None,
        }
    }

    pub(crate) fn pull(&self) -> Vec<String> {
        create(&self.image(), &self.root(), &self.options()).unwrap()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.scratch.path.join("root")
    }

    #[track_caller]
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        self.scratch.git_in("root", arguments)
    }

    /// What stock git thinks of the repository and of the work tree.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert_eq!(self.git(&["status", "--porcelain"]), "");
        assert_eq!(self.git(&["fsck", "--strict", "--full"]), "");
        assert_eq!(self.git(&["diff", "HEAD"]), "");
    }
}

#[track_caller]
pub(crate) fn shell(directory: &Path, script: &str) {
    let run = Command::new("bash").args(["-euc", script]).current_dir(directory).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// Everything section 12 of the specification says krgo lost.
const ODD: &str = r#"
    mkdir -p etc usr/bin usr/src/project/.git/objects var/empty run/deep/empty 'dir ' tmp
    chmod 1777 tmp; chmod 700 var/empty; chown 7:8 var/empty
    echo root > etc/passwd; chmod 640 etc/passwd; chown 0:42 etc/passwd
    echo shadow > etc/shadow; chmod 000 etc/shadow
    echo su > usr/bin/su; chmod 4755 usr/bin/su
    echo ping > usr/bin/ping; chmod 755 usr/bin/ping
    setfattr -n user.note -v 0s/wABAg== usr/bin/ping
    setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= usr/bin/ping
    setfattr -n trusted.mark -v yes var/empty
    ln usr/bin/su usr/bin/sudo; ln usr/bin/su etc/su
    ln -s ../etc/passwd usr/link; ln -s /nowhere dangling; chown -h 5:6 dangling
    setfattr -h -n trusted.mark -v link dangling
    mknod dev-null c 1 3; mknod disk b 8 0; mkfifo pipe; chmod 622 pipe
    echo '*' > .gitignore; echo 'etc/* text eol=crlf' > .gitattributes
    echo '[submodule "../x"]' > .gitmodules
    echo config > usr/src/project/.git/config; : > usr/src/project/.git/HEAD
    echo x > usr/src/project/main.c
    mkdir -p only/.GIT; echo upper > only/.GIT/file
    echo tilde > 'git~1'; echo backslash > 'a\.git'; echo unit > 'system-x\x2dy.slice'
    echo nl > $'new\nline'; echo tab > $'t\tab'; echo latin > $'caf\xe9'; echo trail > 'trail '
    echo quote > '"quoted"'; echo dash > -; echo pct > '%2egit'; echo long > $(printf 'n%.0s' {1..255})
    : > empty; truncate -s 1M sparse; printf x | dd of=sparse bs=1 seek=700000 conv=notrunc status=none
    touch -d '2001-02-03 04:05:06.123456789' etc/passwd; touch -h -d '1999-01-01' dangling
    touch -d '1960-01-01' empty; head -c 6000000 /dev/urandom > large
    touch -d '2002-02-02 02:02:02.5' usr/bin etc
"#;

/// A listing with everything that must survive.
pub(crate) fn listing(directory: &Path) -> String {
    let mut lines = Vec::new();
    let mut pending = vec![PathBuf::new()];
    let mut inodes: Vec<(u64, PathBuf)> = Vec::new();
    while let Some(path) = pending.pop() {
        let full = directory.join(&path);
        let stat = fs::symlink_metadata(&full).unwrap();
        if path.parent() == Some(Path::new(""))
            && super::OURS.iter().any(|ours| path == Path::new(ours))
        {
            continue;
        }
        let content = if stat.is_symlink() {
            fs::read_link(&full).unwrap().as_os_str().as_bytes().to_vec()
        } else if stat.is_file() {
            fs::read(&full).unwrap()
        } else {
            Vec::new()
        };
        if stat.is_dir() {
            pending.extend(fs::read_dir(&full).unwrap().map(|e| path.join(e.unwrap().file_name())));
        }
        if !stat.is_dir() && stat.nlink() > 1 {
            inodes.push((stat.ino(), path.clone()));
        }
        let mut attributes = Command::new("getfattr");
        let attributes = attributes.args(["-hd", "-m-", "-e", "hex"]).arg(&full).output();
        let attributes = attributes.unwrap().stdout;
        let attributes: Vec<_> = String::from_utf8_lossy(&attributes)
            .lines()
            .filter(|line| line.contains('='))
            .map(str::to_owned)
            .collect();
        lines.push(format!(
            "{path:?} {:o} {}:{} {} {} {}.{} {:x?} {attributes:?}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.rdev(),
            if stat.is_dir() { 0 } else { stat.size() },
            stat.mtime(),
            stat.mtime_nsec(),
            sha2::Digest::finalize(sha2::Digest::chain_update(
                <sha2::Sha256 as sha2::Digest>::new(),
                &content
            ))
            .get(..4)
            .unwrap(),
        ));
    }
    inodes.sort();
    for names in inodes.chunk_by(|a, b| a.0 == b.0) {
        let names: Vec<_> = names.iter().map(|(_, path)| path).collect();
        lines.push(format!("one file: {names:?}"));
    }
    lines.sort();
    lines.join("\n")
}

#[test]
fn a_tree_with_every_oddity_survives_and_stock_git_is_content() {
    let made = Made::new("odd").layer(ODD);
    let branches = made.pull();
    assert_eq!(branches.len(), 1);
    let layer = made.image().layers[0].directories[0].0.clone();
    assert_eq!(listing(&made.root()), listing(&layer));
    made.check();
    let sparse = fs::metadata(made.root().join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < sparse.size(), "holes are kept");

    let plain = made.scratch.path.join("plain");
    unpack(&made.image(), &plain).unwrap();
    assert_eq!(listing(&plain), listing(&layer));
    assert!(matches!(unpack(&made.image(), &plain), Err(super::Error::NotEmpty(_))));
}

#[test]
fn branches_are_the_layers_and_git_diff_shows_their_files() {
    let made = Made::new("branches")
        .layer("mkdir -p etc usr/share/doc; echo 1 > etc/a; echo 1 > etc/b; echo 1 > usr/share/doc/x; echo 1 > f")
        .layer("mkdir etc; echo 2 > etc/a; mknod etc/b c 0 0; echo new > g")
        .layer("mkdir -p usr/share/doc; setfattr -n trusted.overlay.opaque -v y usr/share/doc; ln -s g h");
    let branches = made.pull();
    made.check();
    let listed = made.git(&["branch", "--format=%(refname:short)"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), branches);
    assert_eq!(made.git(&["rev-parse", "--abbrev-ref", "HEAD"]).trim(), branches[2]);
    let diff =
        |a: usize, b: usize| made.git(&["diff", "--name-status", &branches[a], &branches[b]]);
    assert_eq!(diff(0, 1), "M\tetc/a\nD\tetc/b\nA\tg\n");
    assert_eq!(diff(1, 2), "A\th\nD\tusr/share/doc/x\n");
    assert_eq!(
        made.git(&["log", "--format=%s|%an|%ae|%cd|%ct", "--date=short"]),
        "CMD bash|crun-cargo|crun-cargo|2015-03-01|1425168000\n\
         RUN step 2|Jane|jane@example.org|2015-02-03|1422921600\n\
         RUN step 1|Jane|jane@example.org|2015-02-02|1422835200\n\
         RUN step 0|Jane|jane@example.org|2015-02-01|1422748800\n"
    );
    let trailers = made.git(&["log", "-1", "--format=%(trailers)", &branches[1]]);
    assert!(trailers.starts_with("Diff-Id: sha256:0000"), "{trailers}");
    let notes = made.git(&["log", "-1", "--notes=crun-cargo/layers", &branches[1]]);
    assert!(notes.contains("/etc/b 0 20000 1 0 0 0 0.0"), "the whiteout is in the note: {notes}");
    let again = Made::new("branches-again");
    let options = again.options();
    create(&made.image(), &again.root(), &options).unwrap();
    let head = |made: &Made| made.git(&["rev-parse", "HEAD"]);
    assert_eq!(head(&made), head(&again), "equal images give equal commits");
}

#[test]
fn what_fails_leaves_nothing() {
    let made = Made::new("fails").layer("echo x > a");
    let mut image = made.image();
    image.layers[0].directories.push((made.scratch.path.join("missing"), super::scan::Top::None));
    assert!(create(&image, &made.root(), &made.options()).is_err());
    assert!(!made.root().is_dir());
    assert_eq!(fs::read_dir(made.scratch.path.join("git")).unwrap().count(), 0);
    made.pull();
    made.check();
}

/// Three layers that change every kind of thing into every other, and all metadata besides.
fn changing(name: &str) -> Made {
    Made::new(name)
        .layer(ODD)
        .layer(
            "mkdir -p etc usr/bin run var; chmod 600 etc; echo changed > etc/passwd; chown 3:3 etc/passwd
             mknod etc/shadow c 0 0; mknod dangling p; echo file > run/deep-file; mknod run/deep c 0 0
             mkdir disk; echo in > disk/file; ln disk/file disk/again; mknod new c 1 5; mkdir empty-too
             touch -d 2001-01-01 usr/bin; mkdir -p usr/src/project/.git; echo 2 > usr/src/project/.git/config
             ln -s /elsewhere pipe; mknod usr/bin/ping c 0 0; mknod var/empty c 0 0; mkdir large",
        )
        .layer("mkdir etc; chmod 755 etc; echo back > etc/shadow; mknod disk c 0 0; echo f > var; ln var var2")
}

/// What the image looks like with only so many of its layers.
fn flat(made: &Made, layers: usize) -> String {
    let mut image = made.image();
    image.layers.truncate(layers);
    let directory = made.scratch.path.join(format!("flat{layers}"));
    unpack(&image, &directory).unwrap();
    listing(&directory)
}

fn nothing_large(_: &[u8; 32], _: &Path) -> Option<fs::File> {
    None
}

#[test]
fn every_branch_can_be_checked_out() {
    let made = changing("checkout");
    let branches = made.pull();
    let expected: Vec<_> = (1..=3).map(|layers| flat(&made, layers)).collect();
    assert_eq!(listing(&made.root()), expected[2]);
    for number in [1, 0, 2, 0, 1, 2] {
        let repositories = made.options().repositories;
        checkout(&made.root(), &repositories, &branches[number], false, &nothing_large).unwrap();
        assert_eq!(listing(&made.root()), expected[number], "branch {number}");
        made.check();
        assert_eq!(made.git(&["branch", "--show-current"]).trim(), branches[number]);
    }
}

#[test]
fn stock_gits_checkout_is_completed() {
    let made = changing("hook");
    let branches = made.pull();
    let expected: Vec<_> = (1..=3).map(|layers| flat(&made, layers)).collect();
    for number in [1, 0, 2, 0, 1, 2] {
        let previous: ObjectId = made.git(&["rev-parse", "HEAD"]).trim().parse().unwrap();
        made.git(&["checkout", "-q", &branches[number]]);
        let repositories = made.options().repositories;
        restore(&made.root(), &repositories, Some(previous), &nothing_large).unwrap();
        assert_eq!(listing(&made.root()), expected[number], "branch {number}");
        made.check();
    }
}

#[test]
fn uncommitted_changes_are_not_lost_unasked() {
    let made = changing("uncommitted");
    let branches = made.pull();
    let repositories = made.options().repositories;
    shell(&made.root(), "echo mine > etc/shadow; echo new > usr/new");
    let result = checkout(&made.root(), &repositories, &branches[0], false, &nothing_large);
    assert!(matches!(result, Err(Error::Uncommitted { count: 2, .. })), "{result:?}");
    checkout(&made.root(), &repositories, &branches[2], true, &nothing_large).unwrap();
    // The image's own .gitignore hides it from git, not from us.
    assert!(made.git(&["status", "--porcelain", "--ignored"]).contains("!! usr/new\n"));
    shell(&made.root(), "rm usr/new");
    made.check();
    checkout(&made.root(), &repositories, &branches[2], false, &nothing_large).unwrap();
    assert_eq!(listing(&made.root()), flat(&made, 3));
    assert!(matches!(
        checkout(&made.root(), &repositories, "none", true, &nothing_large),
        Err(Error::NoBranch(_))
    ));
    // Stock git carries a change along, and so do we.
    shell(&made.root(), "echo mine >> usr/src/project/main.c; chmod 700 $'new\\nline'");
    made.git(&["checkout", "-q", &branches[1]]);
    restore(&made.root(), &repositories, None, &nothing_large).unwrap();
    assert_eq!(
        made.git(&["status", "--porcelain"]),
        " M \"new\\nline\"\n M usr/src/project/main.c\n"
    );
}

/// A root filesystem of an image in a real store.
struct Stored {
    scratch: Scratch,
    store: Store,
}

impl Stored {
    fn new(name: &str, script: &str) -> Self {
        let scratch = Scratch::new(name);
        let files = scratch.path.join("files");
        fs::create_dir(&files).unwrap();
        shell(&files, script);
        shell(&files, "tar --xattrs --xattrs-include='*' --format=pax -cf ../layer.tar .");
        let store = Store::open(&scratch.path.join("store")).unwrap();
        let new = NewImage {
            created: "2015-02-01T00:00:00Z".into(),
            author: None,
            comment: None,
            created_by: "base".into(),
            platform: ("linux".into(), "amd64".into()),
            format: Format::Oci,
            compression: (Compression::Gzip, None),
            times: Times::default(),
            squash: false,
            configure: &mut |_| {},
        };
        let tar = fs::File::open(scratch.path.join("layer.tar")).unwrap();
        let image = store.import(tar, Some("base"), new).unwrap();
        let made = Self { scratch, store };
        made.rootfs().pull(&image, Path::new("/bin/true"), None).unwrap();
        made
    }

    fn root(&self) -> PathBuf {
        self.scratch.path.join("root")
    }

    fn rootfs(&self) -> Rootfs<'_> {
        // Lives as long as the test, which is not long.
        Rootfs::new(&self.store, Box::leak(self.root().into_boxed_path()))
    }

    fn commit(&self, text: &str) -> Result<Committed, Error> {
        let message = Message {
            text,
            author: Some("Jane <jane@example.org>"),
            seconds: 1_500_000_000,
            latest: None,
            exclude: &[PathBuf::from("/left/out")],
            large: None,
        };
        self.rootfs().commit(&message)
    }

    #[track_caller]
    fn check(&self, committed: &Committed) {
        let git = |arguments: &[&str]| self.scratch.git_in("root", arguments);
        assert_eq!(git(&["status", "--porcelain"]), "");
        assert_eq!(git(&["fsck", "--strict", "--full"]), "");
        assert_eq!(git(&["branch", "--show-current"]).trim(), committed.branch);
        let flat = self.scratch.path.join(&committed.id);
        Rootfs::new(&self.store, &flat).unpack(&committed.image).unwrap();
        let plain = |text: String| {
            // Directories in which something happened that was not committed have another time.
            let touched =
                |line: &&str| !line.starts_with("\"\" ") && !line.starts_with("\"left\" ");
            let lines = text.lines().filter(touched);
            lines.map(str::to_owned).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(plain(listing(&self.root())), plain(listing(&flat)));
        fs::remove_dir_all(&flat).unwrap();
    }
}

#[test]
fn a_commit_is_a_layer_an_image_and_a_branch() {
    let made = Stored::new("commit", ODD);
    assert!(matches!(made.commit("nothing"), Err(Error::NoChanges)));
    shell(
        &made.root(),
        "echo new > etc/new; ln etc/new etc/newer; chmod 4711 usr/bin/sudo; rm usr/link dangling
         setfattr -n user.more -v 1 usr/bin; chown -h 9:9 disk; rm -r only; mkdir only; mkfifo only/p
         rm -r usr/src; echo file > usr/src; rm empty; mkdir -p empty/deep; touch -d 2011-11-11 large
         mkdir left; echo out > left/out; setfattr -n trusted.overlay.opaque -v y etc
         mkdir nested nested/.git; echo g > nested/.git/config; truncate -s 0 sparse; mkdir dev; mknod dev/zero c 1 5
         printf 'same size' > etc/passwd; ln etc/shadow etc/shadow2; echo w > 'wh.x'; rm \"$(echo -e 't\\tab')\"",
    );
    let first = made.commit("first").unwrap();
    shell(&made.root(), "rm left/out; setfattr -x trusted.overlay.opaque etc");
    made.check(&first);
    assert!(matches!(made.commit("nothing"), Err(Error::NoChanges)));
    let log = made.scratch.git_in("root", &["log", "-1", "--format=%s|%an|%at"]);
    assert_eq!(log, "first|Jane|1500000000\n");

    shell(&made.root(), "echo more >> etc/new; rm -r nested; rm usr/src; mkdir usr/src");
    let second = made.commit("second").unwrap();
    made.check(&second);
    assert_eq!(second.parent.as_ref(), Some(&first.id));
    assert_eq!(second.image.layers.len(), 3);

    made.rootfs().checkout(&first.branch, false).unwrap();
    made.check(&first);
    made.rootfs().checkout(&second.branch, false).unwrap();
    made.check(&second);

    // What we remember can be lost.
    shell(&made.scratch.path, "rm store/git/*/crun-cargo-checkout");
    assert!(matches!(made.commit("nothing"), Err(Error::NoChanges)));
}

#[test]
fn an_older_branch_can_be_gone_on_from() {
    let made = Stored::new("revert", "mkdir etc; echo 1 > etc/a");
    let base = made.rootfs().branch().unwrap().unwrap();
    shell(&made.root(), "echo 2 > etc/a");
    let first = made.commit("first").unwrap();
    shell(&made.root(), "echo 3 > etc/b");
    let second = made.commit("second").unwrap();
    made.rootfs().checkout(&first.branch, false).unwrap();
    assert_eq!(made.rootfs().image().unwrap().layers.len(), 2);
    shell(&made.root(), "echo 4 > etc/c");
    let other = made.commit("other").unwrap();
    made.check(&other);
    assert_eq!(other.parent, second.parent);
    made.rootfs().checkout(&base, false).unwrap();
    assert_eq!(made.rootfs().image().unwrap().layers.len(), 1);
    // A commit of stock git's own is below ours, and its files are in our layer.
    shell(&made.root(), "echo 5 > etc/d");
    made.scratch.git_in("root", &["checkout", "-q", "-b", "mine"]);
    made.scratch.git_in("root", &["add", "etc/d"]);
    made.scratch.git_in("root", &["commit", "-q", "-m", "mine"]);
    let last = made.commit("last").unwrap();
    made.check(&last);
    assert_eq!(last.image.layers.len(), 2);
}

/// What krgo 1.4 did: the tree of each layer added by git, with `json` and `layersize` in it.
const OLD_KRGO: &str = r#"
    git init -q -b start .
    branch() {
        git checkout -q -b "layer_$1_$(printf %064d "$1")"
        echo "{\"id\":\"$1\",\"created\":\"2015-01-0$((1 + $1 % 9))T00:00:00Z\",\"os\":\"linux\",
            \"architecture\":\"amd64\",\"comment\":\"step $1\",\"config\":{\"Cmd\":[\"bash\"],\"Env\":null}}" > json
        echo 100 > layersize
        git add . --all; git commit -q -m "adding layer $1"
    }
    mkdir -p etc bin dev gone/deep; echo p > etc/passwd; chmod 640 etc/passwd; echo su > bin/su; chmod 4755 bin/su
    ln -s su bin/link; echo x > gone/deep/file; echo y > kind; branch 0
    rm -r gone kind; mkdir kind; echo z > kind/file; branch 1
    for n in 2 3 4 5 6 7 8 9 10 11; do echo $n > etc/step; branch $n; done
"#;

#[test]
fn repositories_of_old_krgo_become_images() {
    let truth = Stored::new(
        "adopt",
        "mkdir -p etc bin dev empty; echo p > etc/passwd; chmod 640 etc/passwd; chown 0:42 etc/passwd
         echo su > bin/su; chmod 4755 bin/su; ln -s su bin/link; mknod dev/null c 1 3; chmod 1777 empty",
    );
    let old = truth.scratch.path.join("old");
    fs::create_dir(&old).unwrap();
    shell(
        &old,
        &format!(
            "export GIT_CONFIG_GLOBAL=/dev/null; git() {{ command git -c user.name=k -c user.email=k@k \"$@\"; }}; {OLD_KRGO}"
        ),
    );
    let plain = Rootfs::new(&truth.store, &old).adopt(None).unwrap();
    assert_eq!((plain.image.layers.len(), plain.repaired, plain.nested), (12, 0, 0));
    let config = plain.image.configuration().unwrap();
    let steps = config.history().iter().flatten();
    let comments: Vec<_> = steps.filter_map(|step| step.comment().clone()).collect();
    assert_eq!(comments, (0..12).map(|n| format!("step {n}")).collect::<Vec<_>>());
    assert!(plain.image.config.contains("\"Cmd\":[\"bash\"]"), "{}", plain.image.config);

    let new = truth.scratch.path.join("new");
    Rootfs::new(&truth.store, &new).unpack(&plain.image).unwrap();
    assert_eq!(fs::read_to_string(new.join("etc/step")).unwrap(), "11\n");
    assert_eq!(fs::read_to_string(new.join("kind/file")).unwrap(), "z\n");
    assert!(fs::symlink_metadata(new.join("gone")).is_err());
    assert!(
        fs::symlink_metadata(new.join("layersize")).is_err(),
        "krgo's files are no part of layers"
    );
    assert_eq!(fs::symlink_metadata(new.join("etc/passwd")).unwrap().mode() & 0o7777, 0o644);
    fs::remove_dir_all(&new).unwrap();

    let base = truth.store.image("base").unwrap();
    let repaired = Rootfs::new(&truth.store, &old).adopt(Some(&base)).unwrap();
    assert!(repaired.repaired >= 5, "{}", repaired.repaired);
    Rootfs::new(&truth.store, &new).unpack(&repaired.image).unwrap();
    let passwd = fs::symlink_metadata(new.join("etc/passwd")).unwrap();
    assert_eq!((passwd.mode() & 0o7777, passwd.gid()), (0o640, 42));
    assert_eq!(fs::symlink_metadata(new.join("bin/su")).unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(fs::symlink_metadata(new.join("empty")).unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(fs::symlink_metadata(new.join("dev/null")).unwrap().rdev(), 0x103);
}

#[test]
fn a_hundred_and_thirty_layers_are_as_many_branches() {
    let mut made = Made::new("many").layer("mkdir etc; echo base > etc/base");
    for number in 1..130 {
        made = made
            .layer(&format!("mkdir etc; echo {number} > etc/f{number}; echo {number} > etc/base"));
    }
    let branches = made.pull();
    assert_eq!(branches.len(), 130);
    made.check();
    assert_eq!(made.git(&["rev-list", "--count", "HEAD"]).trim(), "131");
    let shown = made.git(&["show", &format!("{}:etc/base", branches[77])]);
    assert_eq!(shown, "77\n");
}
