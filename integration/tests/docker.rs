//! The docker-shaped command line: what a person types and gets back.

use std::{fs, time::Duration};

use integration::{TestEnv, images};
use serde_json::json;

const NOTHING: [&str; 0] = [];

#[test]
fn a_container_runs_and_its_output_and_status_are_ours() {
    let Some(env) = TestEnv::root() else { return };
    env.inside(NOTHING, &["echo", "hello"]).success().stdout("hello\n");
    env.inside(NOTHING, &["sh", "-c", "echo out; echo err >&2; exit 7"])
        .code(7)
        .stdout("out\n")
        .stderr_has("err");
}

#[test]
fn exit_codes_are_dockers() {
    let Some(env) = TestEnv::root() else { return };
    env.inside(NOTHING, &["no-such-program"])
        .code(127)
        .stderr_has("no-such-program")
        .one_clear_line();
    env.inside(NOTHING, &["/bin/no-interpreter"])
        .code(127)
        .stderr_has("/bin/missing")
        .one_clear_line();
    env.inside(NOTHING, &["/bin/not-executable"]).code(126).one_clear_line();
    env.inside(NOTHING, &["/bin/garbage"]).code(126).one_clear_line();
    env.inside(NOTHING, &["/tmp"]).code(126).one_clear_line();
    // Not as process 1, which no signal of its own can end.
    env.inside(["--init"], &["sh", "-c", "kill -9 $$"]).code(137);
    env.inside(["--init"], &["sh", "-c", "kill -TERM $$; sleep 1"]).code(143);
    env.inside(["--no-such-flag"], &["true"]).code(125);
}

#[test]
fn scripts_run_through_their_interpreter() {
    let Some(env) = TestEnv::root() else { return };
    env.inside(NOTHING, &["script", "a", "b c"]).success().stdout("script ran: a b c\n");
}

#[test]
fn standard_input_is_the_programs_with_i() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.busybox();
    let run = |flags: &[&str]| {
        env.command(["run", "--rm", "--network", "none"])
            .args(flags)
            .arg(&name)
            .arg("cat")
            .stdin("typed")
    };
    run(&["-i"]).run().success().stdout("typed");
    run(&[]).run().success().stdout("");
    // A large input and output, both ways at once, to the last byte.
    let large = vec![b'x'; 3 << 20];
    let echoed = run(&["-i"]).stdin(large.clone()).run().success();
    assert_eq!(echoed.stdout.len(), large.len());
}

#[test]
fn the_image_decides_what_the_command_line_leaves_open() {
    let Some(env) = TestEnv::root() else { return };
    let image = images::busybox()
        .set("Entrypoint", json!(["echo", "entry"]))
        .set("Cmd", json!(["default"]))
        .set("WorkingDir", json!("/usr/bin"))
        .set("Env", json!(["PATH=/bin:/usr/bin", "COLOUR=blue"]))
        .build();
    let name = images::registry().push("docker/entry:1", &image);
    let run = |flags: &[&str], words: &[&str]| {
        env.command(["run", "--rm", "--network", "none"]).args(flags).arg(&name).args(words).run()
    };
    run(&[], &[]).success().stdout("entry default\n");
    run(&[], &["given"]).success().stdout("entry given\n");
    run(&["--entrypoint", "pwd"], &[]).success().stdout("/usr/bin\n");
    run(&["--entrypoint", "pwd", "-w", "/tmp"], &[]).success().stdout("/tmp\n");
    run(&["--entrypoint", "sh"], &["-c", "echo $COLOUR"]).success().stdout("blue\n");
    run(&["--entrypoint", "sh", "-e", "COLOUR=red"], &["-c", "echo $COLOUR"])
        .success()
        .stdout("red\n");
    run(&["--entrypoint", ""], &["echo", "only this"]).success().stdout("only this\n");
}

#[test]
fn a_working_directory_that_is_missing_is_made() {
    let Some(env) = TestEnv::root() else { return };
    env.inside(["-w", "/not/there/yet"], &["pwd"]).success().stdout("/not/there/yet\n");
    env.inside(["-w", "relative"], &["pwd"]).code(125).one_clear_line();
}

#[test]
fn variables_come_from_flags_files_and_the_caller() {
    let Some(env) = TestEnv::root() else { return };
    let file = env.file("variables", "# a comment\nFROM_FILE=yes it does\n\nPASSED\nEMPTY=\n");
    let name = env.busybox();
    let flags =
        ["run", "--rm", "--network", "none", "-e", "SET=1", "-e", "PASSED_TOO", "--env-file"];
    let run = env.command(flags).arg(&file).arg(&name).args(["probe", "env"]);
    let seen = run.env("PASSED", "p").env("PASSED_TOO", "q").env("NOT", "n").run().success().json();
    assert_eq!(seen["SET"], json!("1"));
    assert_eq!(seen["FROM_FILE"], json!("yes it does"));
    assert_eq!((&seen["PASSED"], &seen["PASSED_TOO"]), (&json!("p"), &json!("q")));
    assert_eq!((&seen["EMPTY"], &seen["NOT"]), (&json!(""), &json!(null)));
    env.inside(["-e", "=broken"], &["true"]).code(125).one_clear_line();
    env.inside(["--env-file", "/no/such/file"], &["true"]).code(125).stderr_has("/no/such/file");
}

#[test]
fn containers_are_listed_shown_and_removed() {
    let Some(env) = TestEnv::root() else { return };
    let (name, image) = (env.name("listed"), env.pulled_busybox());
    env.run([
        "run",
        "--network",
        "none",
        "--name",
        &name,
        "--label",
        "colour=blue",
        &image,
        "sh",
        "-c",
        "exit 3",
    ])
    .code(3);
    env.run(["ps"]).success().stdout_lacks(&name);
    env.run(["ps", "-a"]).success().stdout_has(&name).stdout_has("Exited (3)");
    let ids = env.run(["ps", "-aq", "--no-trunc"]).success().word();
    assert_eq!(ids.len(), 64, "{ids}");
    env.run(["ps", "-a", "--format", "{{.Names}} {{.Image}}"])
        .success()
        .stdout(&format!("{name} {image}\n"));
    let listed = env.run(["ps", "-a", "--format", "json"]).success().text();
    assert!(serde_json::from_str::<serde_json::Value>(listed.lines().next().unwrap()).is_ok());
    let shown = env.run(["inspect", &name]).success().json();
    assert!(shown[0]["Config"]["Labels"]["colour"] == json!("blue"), "{shown}");
    env.run(["rm", &ids[..12]]).success();
    env.run(["ps", "-aq"]).success().stdout("");
    env.run(["rm", &name]).failure().stderr_has(&name).one_clear_line();
}

#[test]
fn two_containers_cannot_have_one_name() {
    let Some(env) = TestEnv::root() else { return };
    let (name, image) = (env.name("twice"), env.pulled_busybox());
    env.run(["run", "--network", "none", "--name", &name, &image, "true"]).success();
    env.run(["run", "--network", "none", "--name", &name, &image, "true"])
        .code(125)
        .stderr_has(&name)
        .one_clear_line();
    env.run(["rm", &name]).success();
}

#[test]
fn a_name_is_not_a_path() {
    let Some(env) = TestEnv::root() else { return };
    for name in ["../up", "/absolute", ".hidden", "", "a/b", "new\nline", &"n".repeat(300)] {
        env.inside(["--name", name], &["true"]).code(125).stdout("");
    }
}

#[test]
fn changes_are_kept_with_a_container_and_shown() {
    let Some(env) = TestEnv::root() else { return };
    let (name, image) = (env.name("changes"), env.pulled_busybox());
    let command = "echo new >/new; echo more >>/etc/passwd; rm /etc/group; mkdir -p /a/b";
    env.run(["run", "--network", "none", "--name", &name, &image, "sh", "-c", command]).success();
    let changes = env.run(["diff", &name]).success().text();
    for line in ["A /new", "C /etc", "C /etc/passwd", "D /etc/group", "A /a", "A /a/b"] {
        assert!(changes.lines().any(|found| found == line), "no {line:?} in\n{changes}");
    }
    // The mount points that every container gets are no changes of its own.
    assert!(!changes.contains("resolv.conf") && !changes.contains("/dev"), "{changes}");
    env.run(["rm", &name]).success();
    env.run(["run", "--rm", "--network", "none", &image, "test", "-e", "/new"]).code(1);
}

#[test]
fn exec_enters_a_running_container() {
    let Some(env) = TestEnv::root() else { return };
    let (name, image) = (env.name("entered"), env.pulled_busybox());
    let flags = ["run", "--rm", "--network", "none", "--name", &name, "-e", "A=1", &image];
    let running = env.command(flags).args(["sleep", "60"]).start();
    env.eventually("the container runs", || env.run(["exec", &name, "true"]).status.success());
    env.run(["exec", &name, "sh", "-c", "ps | grep -c '[s]leep 60'"]).success().stdout("1\n");
    env.run(["exec", "-e", "B=2", "-w", "/tmp", &name, "sh", "-c", "echo $A $B $PWD"])
        .success()
        .stdout("1 2 /tmp\n");
    env.command(["exec", "-i", &name, "cat"]).stdin("typed").run().success().stdout("typed");
    env.run(["exec", &name, "sh", "-c", "exit 9"]).code(9);
    env.run(["exec", &name, "no-such-program"]).code(127);
    env.run(["exec", "nobody-of-that-name", "true"]).failure().stderr_has("nobody-of-that-name");
    env.run(["rm", "-f", &name]).success();
    running.finish().code(137);
}

/// S3: what `exec` starts is confined exactly as the first process is.
#[test]
fn exec_is_confined_like_the_first_process() {
    let Some(env) = TestEnv::root() else { return };
    let (name, image) = (env.name("confined"), env.pulled_busybox());
    let flags = ["run", "-i", "--rm", "--network", "none", "--name", &name, &image];
    let first = env.command(flags).args(["sh", "-c", "probe all; sleep 60"]).stdin("").start();
    env.eventually("the container runs", || env.run(["exec", &name, "true"]).status.success());
    let second = env.run(["exec", &name, "probe", "all"]).success().json();
    env.run(["rm", "-f", &name]).success();
    let text = first.finish().text();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    for key in [
        "CapEff",
        "CapPrm",
        "CapInh",
        "CapBnd",
        "CapAmb",
        "Seccomp",
        "NoNewPrivs",
        "SigBlk",
        "SigIgn",
    ] {
        assert_eq!(first["status"][key], second["status"][key], "{key}");
    }
    for key in ["namespaces", "cgroup", "limits", "mounts"] {
        assert_eq!(first[key], second[key], "{key}");
    }
    assert_eq!(second["fds"].as_object().unwrap().len(), 3, "{}", second["fds"]);
}

#[test]
fn a_cidfile_gets_the_id_and_is_never_overwritten() {
    let Some(env) = TestEnv::root() else { return };
    let file = env.path("cid");
    env.inside(["--cidfile", file.to_str().unwrap()], &["true"]).success();
    assert_eq!(fs::read_to_string(&file).unwrap().trim().len(), 64);
    env.inside(["--cidfile", file.to_str().unwrap()], &["true"]).code(125).one_clear_line();
    env.run(["ps", "-aq"]).success().stdout("");
}

#[test]
fn init_reaps_orphans_and_passes_signals_on() {
    let Some(env) = TestEnv::root() else { return };
    let seen = env.probe(["--init"], &["ids"]);
    assert_eq!(seen["ppid"], json!(1));
    assert_ne!(seen["pid"], json!(1));
    let command = "(sleep 0.1 &) ; sleep 0.4; ps | grep -c '[Z] '";
    env.inside(["--init"], &["sh", "-c", command]).code(1).stdout("0\n");
    env.inside(["--init"], &["sh", "-c", "exit 5"]).code(5);
}

#[test]
fn flags_that_are_not_here_are_refused_by_name() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    for flags in [
        "-d",
        "-itd",
        "--detach",
        "-p 8080:80",
        "-P",
        "--publish-all",
        "--network some-network",
        "--network bridge",
        "--network container:x",
        "--ip 10.0.0.2",
        "--link other",
        "--expose 80",
        "--mac-address 02:00:00:00:00:01",
        "--network-alias x",
        "--restart always",
        "--health-cmd true",
        "--no-healthcheck",
        "--log-driver json-file",
        "--log-opt max-size=1m",
        "--volumes-from other",
        "--volume-driver local",
        "--gpus all",
        "--runtime runc",
        "--userns host",
        "--storage-opt size=1g",
        "--sig-proxy=false",
        "--detach-keys ctrl-x",
        "--device-read-bps /dev/vda:1m",
        "--kernel-memory 1m",
        "--cpu-rt-runtime 1",
        "--isolation default",
        "--disable-content-trust",
    ] {
        let flags: Vec<&str> = flags.split(' ').collect();
        let run = env.command(["run", "--rm"]).args(&flags).args([&image, "true"]).run();
        let name = flags[0].split('=').next().unwrap();
        let name = if name == "-itd" { "-d" } else { name };
        run.code(125).stderr_has(name).stderr_has("hint: ").one_clear_line();
    }
    let mistyped = env.run(["run", "--memry", "1m", &image, "true"]).code(125).one_clear_line();
    mistyped.stderr_has("--memry").stderr_has("did you mean --memory?");
}

#[test]
fn commands_that_are_not_here_are_refused_by_name() {
    let env = TestEnv::new();
    for command in [
        "attach x",
        "build .",
        "buildx build .",
        "stats",
        "logs -f x",
        "port x",
        "restart x",
        "network ls",
        "network create x",
        "volume ls",
        "volume rm x",
        "compose up -d",
        "swarm init",
        "service ls",
        "node ls",
        "stack deploy",
        "secret ls",
        "config ls",
        "context ls",
        "plugin ls",
        "trust sign x",
        "system prune -f",
        "system events",
        "container create x",
        "container stats",
        "container update x",
        "image build .",
        "builder prune",
    ] {
        let run = env.run(command.split(' ')).code(125).stdout("").one_clear_line();
        let name = command.split(' ').next().unwrap();
        run.stderr_has(name).stderr_has("hint: ").stderr_lacks("there is no command");
    }
    let mistyped = env.run(["pusj", "x"]).code(125).one_clear_line();
    mistyped.stderr_has("pusj").stderr_has("did you mean push");
}

#[test]
fn flags_end_at_the_image() {
    let Some(env) = TestEnv::root() else { return };
    env.inside(NOTHING, &["echo", "--rm", "-it", "--frob", "--", "-e"])
        .success()
        .stdout("--rm -it --frob -- -e\n");
    env.inside(["--"], &["echo", "-n", "x"]).success().stdout("x");
    // A flag takes the next word whatever it looks like.
    env.inside(["-e", "-A=1", "--label", "--rm"], &["true"]).success();
    env.inside(["--name", "-x"], &["true"]).code(125).stderr_has("\"-x\"").one_clear_line();
}

#[test]
fn streams_can_be_chosen() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.busybox();
    let script = "cat; echo out; echo err >&2";
    let run = |flags: &[&str]| {
        let run = env.command(["run", "--rm", "--network", "none"]).args(flags);
        run.args([&name, "sh", "-c", script]).stdin("in,").run().success()
    };
    env.pulled_busybox();
    run(&["-i"]).stdout("in,out\n").stderr_has("err");
    run(&["-a", "stdout"]).stdout("out\n").stderr_lacks("err");
    run(&["-a", "STDERR"]).stdout("").stderr_has("err");
    run(&["-a", "stdin", "-a", "stdout"]).stdout("in,out\n").stderr_lacks("err");
    run(&["-i", "-a", "stdout"]).stdout("out\n");
}

#[test]
fn labels_come_from_flags_and_files() {
    let Some(env) = TestEnv::root() else { return };
    let (name, image) = (env.name("labels"), env.pulled_busybox());
    let file = env.file("labels", "# comment\na=file\nb=file\nempty\n");
    let run = env.command(["run", "--network", "none", "--name", &name, "--label", "b=flag"]);
    run.arg("--label-file").arg(&file).args([&image, "true"]).run().success();
    let format = "{{json .Config.Labels}}";
    let labels = env.run(["inspect", "--format", format, &name]).success().json();
    assert_eq!(labels, json!({"a": "file", "b": "flag", "empty": ""}));
    let file = env.file("bad", "a b=c\n");
    let run = env.command(["run", "--label-file"]).arg(file).args([&image, "true"]).run();
    run.code(125).stderr_has("bad:1").one_clear_line();
}

#[test]
fn whoever_shares_the_hosts_network_shares_its_names() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    let inside = |flags: &[&str], words: &[&str]| {
        env.command(["run", "--rm", "--network", "host"]).args(flags).arg(&image).args(words).run()
    };
    let host = |file: &str| fs::read_to_string(file).unwrap_or_default();
    inside(&[], &["hostname"]).stdout(&host("/proc/sys/kernel/hostname"));
    inside(&["-h", "box"], &["hostname"]).stdout("box\n");
    let hosts = inside(&["--add-host", "db:10.0.0.1"], &["cat", "/etc/hosts"]).success().text();
    assert!(hosts.starts_with(&host("/etc/hosts")), "{hosts}");
    assert!(hosts.ends_with("10.0.0.1\tdb\n"), "{hosts}");
}

#[test]
fn annotations_and_kernel_settings_are_set() {
    let Some(env) = TestEnv::root() else { return };
    env.inside(["--sysctl", "net.ipv4.ip_forward=1"], &["cat", "/proc/sys/net/ipv4/ip_forward"])
        .success()
        .stdout("1\n");
    // D-32: only what the container's own namespaces hold.
    env.inside(["--sysctl", "kernel.panic=5"], &["true"])
        .code(125)
        .stderr_has("kernel.panic")
        .one_clear_line();
    env.inside(["--sysctl", "kernel/../vm/swappiness=5"], &["true"]).code(125).one_clear_line();
    env.inside(["--annotation", "org.example.a=b"], &["true"]).success();
}

#[test]
fn the_program_describes_itself() {
    let env = TestEnv::new();
    env.run(["version"]).success().stdout_has(env!("CARGO_PKG_VERSION"));
    env.run(["--version"]).success().stdout_has(env!("CARGO_PKG_VERSION"));
    env.run(["info"]).success().stdout_has("Kernel");
    env.run(["--help"]).success().stdout_has("run").stdout_has("pull");
    env.run(["run", "--help"]).success().stdout_has("--cap-add").stdout_has("--network");
    for shell in ["bash", "zsh", "fish"] {
        env.run(["completion", shell]).success().stdout_has("crun-cargo");
    }
    env.run(["man"]).success().stdout_has(".TH");
    env.run(["no-such-command"]).failure().stderr_has("no-such-command");
}

#[test]
fn bash_completes_commands_and_their_flags() {
    let env = TestEnv::new();
    let script = env.run(["completion", "bash"]).success().text();
    let script = env.file("completion", script);
    let completed = |words: &[&str]| {
        let (last, before) = words.split_last().unwrap();
        let ask = "source \"$1\"; shift; COMP_WORDS=(crun-cargo \"$@\"); COMP_CWORD=$#; \
                   _crun__cargo crun-cargo \"${@: -1}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; \
                   echo \"${COMPREPLY[@]}\"";
        let run = env.other("bash", ["-c", ask, "bash"]).arg(&script).args(before).arg(last);
        run.run().success().word()
    };
    assert_eq!(completed(&["unp"]), "unpause unpack");
    assert!(completed(&["run", "--mem"]).contains("--memory-swap"));
    assert!(completed(&["image", "pr"]).contains("prune"));
}

#[test]
fn directories_come_from_the_environment_too() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.busybox();
    let mut command = env.bare();
    command.env("CRUN_CARGO_ROOT", env.store()).env("CRUN_CARGO_RUNROOT", env.runroot());
    command.args(["run", "--rm", "--network", "none", &name, "echo", "here"]);
    integration::Invocation::new(command).run().success().stdout("here\n");
    assert!(fs::read_dir(env.store()).unwrap().count() > 0);
    env.run(["images", "-q"]).success().stdout_has("");
}

#[test]
fn logs_go_where_they_are_sent() {
    let Some(env) = TestEnv::root() else { return };
    let (image, log) = (env.pulled_busybox(), env.path("log"));
    let run = env.command(["--debug", "--log-format", "json", "--log"]).arg(&log);
    run.args(["run", "--rm", "--network", "none", &image, "true"]).run().success();
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.lines().count() > 0);
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
}

#[test]
fn running_needs_no_network_when_the_image_is_there() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    let image = registry.push("gone:1", &images::busybox().build());
    env.run(["pull", "-q", &image]).success();
    drop(registry);
    env.run(["run", "--rm", "--network", "none", &image, "echo", "still"])
        .success()
        .stdout("still\n");
    env.run(["run", "--rm", "--network", "none", "--pull", "always", &image, "true"]).code(125);
    env.run(["run", "--rm", "--network", "none", "--pull", "never", "never/pulled", "true"])
        .code(125)
        .stderr_has("never/pulled")
        .one_clear_line();
}

#[test]
fn many_containers_run_at_once() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    let all: Vec<_> = (0..8)
        .map(|number: u32| {
            let word = number.to_string();
            let run = ["run", "--rm", "--network", "none", &image, "echo", &word];
            (word.clone(), env.command(run).limit(Duration::from_secs(120)).start())
        })
        .collect();
    for (word, running) in all {
        running.finish().success().stdout(&format!("{word}\n"));
    }
}

#[test]
fn lists_are_filtered() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    let names = ["first", "second", "third"].map(|name| env.name(name));
    for name in &names {
        let run = ["run", "--network", "none", "--name", name, "-l", &format!("is={name}"), &image];
        env.command(run).args(["sh", "-c", "head -c 5000 /dev/zero >/file"]).run().success();
    }
    let [first, second, third] = &names;
    let listed = |filters: &[&str]| {
        let flags = filters.iter().flat_map(|filter| ["--filter", filter]);
        let run = env.command(["ps", "-a", "--format", "{{.Names}}"]).args(flags).run().success();
        run.text().lines().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(listed(&[]), format!("{third} {second} {first}"));
    assert_eq!(listed(&[&format!("since={first}")]), format!("{third} {second}"));
    assert_eq!(listed(&[&format!("before={second}")]), *first);
    assert_eq!(listed(&[&format!("since={first}"), &format!("before={third}")]), *second);
    assert_eq!(listed(&[&format!("label=is={second}")]), *second);
    assert_eq!(listed(&["status=running"]), "");
    env.run(["ps", "-a", "--filter", "since=nobody"])
        .failure()
        .stderr_has("nobody")
        .one_clear_line();
    env.run(["ps", "-a", "--filter", "colour=red"]).failure().one_clear_line();
    env.run(["ps", "-as"]).success().stdout_has("SIZE").stdout_has("5.00kB");
    env.run(["ps", "-n", "1", "--format", "{{.Names}} {{.Size}}"]).success().stdout_has("5.00kB");

    let ids = |flags: &[&str]| {
        let run = env.command(["images", "-q"]).args(flags).run().success();
        run.text().lines().count()
    };
    env.run(["tag", &image, "other/name:1"]).success();
    assert_eq!(ids(&["-a"]), 2);
    assert_eq!(ids(&["--filter", "reference=other/*"]), 1);
    assert_eq!(ids(&["--filter", "dangling=true"]), 0);
    assert_eq!(ids(&["--filter", "dangling=false"]), 2);
    assert_eq!(ids(&["--filter", "label=nothing"]), 0);
    assert_eq!(ids(&["--filter", &format!("before={image}")]), 0);
    env.run(["images", "--filter", "colour=red"]).failure().one_clear_line();
}
