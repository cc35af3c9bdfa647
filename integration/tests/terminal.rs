//! `run -it` at a terminal, as a person meets it.

use std::process::Command;

use nix::sys::signal::{Signal, kill};

use integration::{Terminal, TestEnv};

fn run(env: &TestEnv, flags: &[&str], words: &[&str]) -> Command {
    let image = env.pulled_busybox();
    let mut command = env.bare();
    command.arg("--root").arg(env.store()).arg("--runroot").arg(env.runroot());
    command.args(["run", "--rm", "--network", "none"]).args(flags).arg(image).args(words);
    command
}

#[test]
fn a_shell_talks() {
    let Some(env) = TestEnv::root() else { return };
    let mut terminal = Terminal::start(&run(&env, &["-it"], &["sh"]));
    terminal.expect("# ");
    terminal.send("echo $((6 * 7)); tty\r");
    terminal.expect("42");
    terminal.expect("/dev/pts/0");
    terminal.send("exit 3\r");
    assert_eq!(terminal.end().code(), Some(3));
    assert!(terminal.is_cooked());
}

#[test]
fn the_window_has_its_size_and_changes_it() {
    let Some(env) = TestEnv::root() else { return };
    let mut terminal = Terminal::start(&run(&env, &["-it"], &["sh"]));
    terminal.expect("# ");
    terminal.send("stty size\r");
    terminal.expect("24 80");
    terminal.send("trap 'echo resized' WINCH\r");
    terminal.resize(50, 132);
    terminal.send("sleep 0.2; stty size\r");
    terminal.expect("50 132");
    terminal.send("exit\r");
    terminal.end();
}

#[test]
fn control_c_interrupts_the_program_and_not_us() {
    let Some(env) = TestEnv::root() else { return };
    let mut terminal = Terminal::start(&run(&env, &["-it"], &["sh"]));
    terminal.expect("# ");
    terminal.send("sleep 100\r");
    terminal.expect("sleep 100");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.send("\x03");
    terminal.expect("# ");
    terminal.send("echo still $((40 + 2)) here\r");
    terminal.expect("still 42 here");
    terminal.send("\x04");
    terminal.end();
    assert!(terminal.is_cooked());
}

#[test]
fn job_control_works_inside() {
    let Some(env) = TestEnv::root() else { return };
    let mut terminal = Terminal::start(&run(&env, &["-it"], &["sh"]));
    terminal.expect("# ");
    terminal.send("sleep 50\r");
    terminal.expect("sleep 50");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.send("\x1a");
    terminal.expect("Stopped");
    terminal.send("kill -9 %1; sleep 0.2; jobs\r");
    terminal.expect("Killed");
    terminal.send("exit 0\r");
    terminal.end();
}

#[test]
fn the_terminal_is_raw_meanwhile_and_restored_however_we_end() {
    let Some(env) = TestEnv::root() else { return };
    // Not SIGQUIT: busybox' shell ignores it.
    // The first three are the program's to die of, the others our own: an abort is how a panic ends.
    for signal in [
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGABRT,
        Signal::SIGILL,
        Signal::SIGKILL,
    ] {
        let mut terminal =
            Terminal::start(&run(&env, &["-it", "--init"], &["sh", "-c", "echo up; sleep 100"]));
        terminal.expect("up");
        assert!(!terminal.is_cooked(), "keys must reach the container");
        kill(terminal.pid(), signal).unwrap();
        terminal.end();
        // Whoever restores it after SIGKILL hears of our end when the test does.
        env.eventually(&format!("{signal} leaves a usable terminal"), || terminal.is_cooked());
    }
    env.eventually("nothing is left", || env.traces().processes.is_empty());
}

#[test]
fn output_before_the_end_is_not_lost() {
    let Some(env) = TestEnv::root() else { return };
    let mut terminal = Terminal::start(&run(&env, &["-t"], &["seq", "1", "20000"]));
    terminal.expect("20000");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn the_containers_terminal_is_not_ours() {
    let Some(env) = TestEnv::root() else { return };
    // CVE-2017-5226: TIOCSTI into a shared terminal types on the host.
    let mut terminal = Terminal::start(&run(&env, &["-it"], &["sh"]));
    terminal.expect("# ");
    terminal
        .send("ls -l /proc/self/fd/0 | sed 's/.*-> //'; ls /dev/pts; stat -c %t:%T /dev/console\r");
    terminal.expect("/dev/pts/0");
    terminal.expect("88:0");
    terminal.send("exit\r");
    terminal.end();
}

#[test]
fn exec_has_a_terminal_too() {
    let Some(env) = TestEnv::root() else { return };
    let (name, image) = (env.name("term"), env.pulled_busybox());
    let flags = ["run", "--rm", "--network", "none", "--name", &name, &image, "sleep", "60"];
    let running = env.command(flags).start();
    env.eventually("the container runs", || env.run(["exec", &name, "true"]).status.success());
    let mut command = env.bare();
    command.arg("--root").arg(env.store()).arg("--runroot").arg(env.runroot());
    command.args(["exec", "-it", &name, "sh"]);
    let mut terminal = Terminal::start(&command);
    terminal.expect("# ");
    terminal.send("stty size; tty\r");
    terminal.expect("24 80");
    terminal.expect("/dev/pts/");
    terminal.send("exit 2\r");
    assert_eq!(terminal.end().code(), Some(2));
    assert!(terminal.is_cooked());
    env.run(["rm", "-f", &name]).success();
    running.finish();
}

#[test]
fn without_i_keys_do_not_reach_the_program_and_keep_their_meaning() {
    let Some(env) = TestEnv::root() else { return };
    let script = "tty; trap 'echo caught; exit 5' INT; (read -r line && echo heard $line) & \
                  echo up; while :; do sleep 0.1; done";
    let mut terminal = Terminal::start(&run(&env, &["-t"], &["sh", "-c", script]));
    terminal.expect("/dev/pts/0");
    terminal.expect("up");
    assert!(terminal.is_cooked(), "nobody listens, so nobody needs the keys raw");
    terminal.send("word\r");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.send("\x03");
    terminal.expect("caught");
    assert_eq!(terminal.end().code(), Some(5));
    assert!(!terminal.screen_text().contains("heard"), "{}", terminal.screen_text());
}

#[test]
fn without_t_the_terminal_is_an_ordinary_stream() {
    let Some(env) = TestEnv::root() else { return };
    let script =
        "test -t 0 && echo tty; while read -r line; do echo \"heard $line\"; done; echo end";
    let mut terminal = Terminal::start(&run(&env, &["-i"], &["sh", "-c", script]));
    terminal.send("one\r");
    terminal.expect("heard one");
    assert!(terminal.is_cooked());
    terminal.send("\x04");
    terminal.expect("end");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn we_stop_and_go_on_as_part_of_a_job() {
    let Some(env) = TestEnv::root() else { return };
    let stopped = |terminal: &Terminal| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", terminal.pid())).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    // With a terminal of its own, the container keeps Ctrl-Z to itself; whoever stops us from outside
    // finds the terminal usable.
    let mut terminal = Terminal::start(&run(&env, &["-it"], &["sh"]));
    terminal.expect("# ");
    terminal.signal(Signal::SIGTSTP);
    env.eventually("we are stopped", || stopped(&terminal));
    assert!(terminal.is_cooked());
    terminal.signal(Signal::SIGCONT);
    env.eventually("the terminal is raw again", || !terminal.is_cooked());
    terminal.send("echo $((40 + 2)); exit 3\r");
    terminal.expect("42");
    assert_eq!(terminal.end().code(), Some(3));

    // Without one, Ctrl-Z is ours.
    let mut terminal = Terminal::start(&run(&env, &["-i"], &["cat"]));
    terminal.send("one\r");
    terminal.expect("one\r\none");
    terminal.send("\x1a");
    env.eventually("we are stopped", || stopped(&terminal));
    terminal.signal(Signal::SIGCONT);
    terminal.send("two\r\x04");
    terminal.expect("two\r\ntwo");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn a_terminal_can_be_had_without_one_of_ours() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    let flags = ["run", "--rm", "--network", "none", "-it", &image];
    env.command(flags)
        .args(["sh", "-c", "tty; cat"])
        .stdin("typed\n")
        .run()
        .success()
        .stdout_has("/dev/pts/0")
        .stdout_has("typed");
    // The end of our input is the end of the program's.
    env.command(flags).arg("cat").stdin("").run().success();
    // One that closes its input is not in our way.
    let script = "exec <&-; sleep 0.2; echo still here";
    env.command(flags).args(["sh", "-c", script]).stdin("lost\n").run().stdout_has("still here");
}
