//! On the running kernel, between network namespaces of our own; needs root and the program ip.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test may panic, and says why it skips"
)]

use std::{
    io::Read,
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use configs::{Bridge, Interface, NetDevice};
use nix::sched::{CloneFlags, unshare};

use super::*;

fn ip(arguments: &str) -> String {
    output(Command::new("ip").args(arguments.split(' ')))
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A process in a network namespace of its own.
struct Container(Child);

impl Container {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["-n", "sh", "-c", "echo ready; sleep 100"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It is in its namespace once it says something.
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        Self(child)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn run(&self, command: &str) -> String {
        let pid = self.0.id().to_string();
        output(Command::new("nsenter").args(["-n", "-t", &pid, "bash", "-c", command]))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Runs a test in a network namespace that plays the host, in a thread that takes it along.
fn on_a_host(test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() || Command::new("ip").output().is_err() {
        eprintln!("skipped: needs root and the program ip");
        return;
    }
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    })
    .join()
    .unwrap();
}

fn network(text: &str) -> Network {
    let (address, prefix) = text.split_once('/').unwrap();
    Network { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
}

#[test]
fn loopback_is_usable() {
    on_a_host(|| {
        assert!(
            TcpListener::bind("127.0.0.1:0")
                .is_ok_and(|it| std::net::TcpStream::connect(it.local_addr().unwrap()).is_err())
        );
        bring_up_loopback().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    });
}

#[test]
fn a_container_reaches_its_bridge() {
    on_a_host(|| {
        ip("link add br0 type bridge");
        ip("addr add 10.9.0.1/24 dev br0");
        ip("link set br0 up");
        let container = Container::new();
        let interface = Interface {
            name: "eth0".into(),
            host_name: "veth".into(),
            host_name_is_prefix: true,
            bridge: Bridge { name: "br0".into(), hairpin: true },
            mac: Some([2, 0, 0, 0, 0, 7]),
            addresses: vec![network("10.9.0.2/24"), network("fd00::2/64")],
            gateways: vec!["10.9.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            mtu: Some(1400),
            tx_queue_length: Some(77),
        };
        let route = Route {
            destination: Some(network("10.10.0.0/16")),
            gateway: Some("10.9.0.9".parse().unwrap()),
            interface: Some("eth0".into()),
            ..Route::default()
        };
        let spec = Spec { interfaces: vec![interface], routes: vec![route], ..Spec::default() };
        let names = connect(&spec, container.pid()).unwrap();
        assert_eq!(names.len(), 1);

        let inside = container.run("ip -d addr show eth0");
        for part in ["10.9.0.2/24", "fd00::2/64", "02:00:00:00:00:07", "mtu 1400", "qlen 77", "UP"]
        {
            assert!(inside.contains(part), "{part} in {inside}");
        }
        let routes = container.run("ip route; ip -6 route");
        for part in ["default via 10.9.0.1", "default via fd00::1", "10.10.0.0/16 via 10.9.0.9"] {
            assert!(routes.contains(part), "{part} in {routes}");
        }
        let outside = ip(&format!("-d link show {}", names[0]));
        for part in ["master br0", "hairpin on", "mtu 1400", "UP"] {
            assert!(outside.contains(part), "{part} in {outside}");
        }

        let listener = TcpListener::bind("10.9.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        container.run(&format!("echo hello > /dev/tcp/10.9.0.1/{port}"));
        let mut said = String::new();
        listener.accept().unwrap().0.read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello\n");

        let statistics = statistics(container.pid()).unwrap();
        let eth0 = statistics.iter().find(|interface| interface.name == "eth0").unwrap();
        assert!(eth0.tx_bytes > 0 && eth0.rx_packets > 0, "{eth0:?}");
    });
}

#[test]
fn a_device_moves_with_its_addresses() {
    on_a_host(|| {
        ip("link add here type veth peer name other");
        ip("addr add 10.8.0.1/24 dev here");
        ip("link set here up");
        let container = Container::new();
        let device = NetDevice { host_name: "here".into(), name: "there".into() };
        let spec = Spec { net_devices: vec![device.clone()], ..Spec::default() };
        connect(&spec, container.pid()).unwrap();
        let inside = container.run("ip addr show there");
        assert!(inside.contains("10.8.0.1/24") && inside.contains("UP"), "{inside}");
        assert!(!ip("link").contains("here@"), "gone from the host");

        let error = connect(&spec, container.pid()).unwrap_err().to_string();
        assert!(error.contains("find the network interface here"), "{error}");
    });
}

#[test]
fn what_cannot_be_is_said() {
    on_a_host(|| {
        let container = Container::new();
        let check = |spec: Spec, expected: &str| {
            let error = connect(&spec, container.pid()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let bridge = Bridge { name: "nobridge".into(), hairpin: false };
        let interface = Interface { name: "eth0".into(), bridge, ..Interface::default() };
        check(Spec { interfaces: vec![interface], ..Spec::default() }, "interface nobridge");
        check(Spec { routes: vec![Route::default()], ..Spec::default() }, "names no address");
        let mixed = Route {
            destination: Some(network("10.0.0.0/8")),
            gateway: Some("::1".parse().unwrap()),
            ..Route::default()
        };
        check(Spec { routes: vec![mixed], ..Spec::default() }, "mixes address families");
    });
}
