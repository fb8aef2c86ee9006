//! Starts that must not succeed: the program says what is wrong and what to do, exits with a code, and leaves nothing
//! behind.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::lab::{Lab, Netns};
use crate::process;
use crate::router;
use crate::settings;
use crate::suite::{Fixture, SOON, Step};
use crate::wait;

/// A namespace to fail in.
#[derive(Debug)]
pub struct Desk {
    netns: Netns,
    lab: Lab,
}

impl Desk {
    /// Makes it.
    #[track_caller]
    pub fn new() -> Self {
        let lab = Lab::new();
        let netns = lab.netns("R");
        netns.sysctl("ipv6/conf/default/disable_ipv6", "1");
        Self { netns, lab }
    }

    fn socket(&self) -> PathBuf {
        self.lab.path("turnpike.sock")
    }

    /// A configuration that works, with one untagged interface on one port.
    fn config(&self, device: &str, more: &str) -> String {
        format!(
            "[[port]]\nname = \"lan\"\ndevice = \"{device}\"\n\n\
             [[interface]]\nname = \"lan\"\nport = \"lan\"\naddresses = [\"192.0.2.1/24\"]\n\n{more}\n{}",
            settings::common(&self.socket())
        )
    }

    /// `turnpike run` with a file of this content, to its end.
    #[track_caller]
    fn run(&self, config: &[u8]) -> Output {
        let path = self.lab.path("refused.toml");
        std::fs::write(&path, config).expect("configuration");
        self.run_file(path.to_str().expect("a path in ASCII"), &[])
    }

    /// `turnpike run` with this file, to its end, started by way of `before`.
    #[track_caller]
    fn run_file(&self, path: &str, before: &[&str]) -> Output {
        let mut command = self.netns.command("timeout");
        command.args(["-k", "5", "60"]).args(before).arg(router::program()).args(["run", "--config", path]);
        process::output(&mut command)
    }

    /// It must have failed with an exit code of its own, have said all of `words`, and have left nothing.
    #[track_caller]
    fn assert_refused(&self, output: &Output, words: &[&str]) {
        let text = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(code.is_some_and(|c| (1..100).contains(&c)), "{}\n{text}", output.status);
        assert!(!text.contains("panicked"), "{text}");
        let last = text.lines().next_back().unwrap_or_default();
        println!("    {}", text.lines().rfind(|l| l.contains("turnpike")).unwrap_or(last));
        for word in words {
            assert!(text.contains(word), "`{word}` is not in:\n{text}");
        }
        // The kernel may take a moment.
        wait::within(SOON, &mut || self.netns.links().is_empty().then_some(()));
        assert!(self.netns.links().is_empty(), "left behind: {:?}", self.netns.links());
        assert!(!self.socket().exists(), "the socket was left behind");
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture for Desk {}

const TAP: &str = "net_tap0,iface=tpl0";

/// All of them.
pub const STEPS: &[Step<Desk>] = &[
    ("file_missing", |d| {
        let output = d.run_file("/nonexistent/turnpike.toml", &[]);
        d.assert_refused(&output, &["/nonexistent/turnpike.toml"]);
    }),
    ("file_is_a_directory", |d| {
        let output = d.run_file("/tmp", &[]);
        d.assert_refused(&output, &["/tmp", "directory"]);
    }),
    ("file_is_binary", |d| {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        d.assert_refused(&d.run(&bytes), &["refused.toml"]);
        d.assert_refused(&d.run(b"\xff\xfe[\0p\0o\0r\0t\0]\0"), &["refused.toml"]);
    }),
    ("file_is_empty", |d| d.assert_refused(&d.run(b""), &["refused.toml", "port"])),
    ("ten_errors_at_once", ten_errors_at_once),
    ("no_such_pci_device", |d| {
        let output = d.run(d.config("0000:ff:1f.7", "").as_bytes());
        d.assert_refused(&output, &["`lan`", "0000:ff:1f.7"]);
    }),
    ("no_such_driver", |d| {
        let output = d.run(d.config("net_nosuch0", "").as_bytes());
        d.assert_refused(&output, &["`lan`", "net_nosuch0"]);
    }),
    ("wrong_device_arguments", |d| {
        let wrong = [
            ("net_pcap0,rx_pcap=/nonexistent.pcap", "/nonexistent.pcap"),
            ("net_pcap0,nosuch=1", "net_pcap0"),
            ("net_tap0,iface=a-name-too-long-for-it", "net_tap0"),
        ];
        for (device, word) in wrong {
            d.assert_refused(&d.run(d.config(device, "").as_bytes()), &["`lan`", word]);
        }
    }),
    ("too_few_queues", too_few_queues),
    ("no_such_core", |d| {
        let config = d.config(TAP, "").replace("[workers]", "[workers]\ncores = [1000]");
        d.assert_refused(&d.run(config.as_bytes()), &["1000", "core"]);
    }),
    ("no_huge_pages", no_huge_pages),
    ("wrong_eal_argument", |d| {
        let config = d.config(TAP, "").replace("\"never\"", "\"never\"\neal_args = [\"--nonsense\"]");
        d.assert_refused(&d.run(config.as_bytes()), &["--nonsense"]);
    }),
    ("not_root", not_root),
    ("no_such_namespace", |d| {
        let config = d.config(TAP, "[[vrf]]\nname = \"default\"\nnamespace = \"tpe-nowhere\"\n");
        d.assert_refused(&d.run(config.as_bytes()), &["tpe-nowhere", "ip netns add"]);
    }),
    ("tap_name_is_taken", tap_name_is_taken),
    ("bgp_port_is_taken", bgp_port_is_taken),
    ("metrics_port_is_taken", |d| {
        let _there = d.netns.enter(|| TcpListener::bind(settings::METRICS)).expect("a free port");
        let output = d.run(d.config(TAP, "").as_bytes());
        d.assert_refused(&output, &[settings::METRICS, "`[api] metrics`", "another program"]);
    }),
    ("metrics_address_is_not_here", |d| {
        let config = d.config(TAP, "").replace(settings::METRICS, "203.0.113.7:9477");
        d.assert_refused(&d.run(config.as_bytes()), &["203.0.113.7:9477", "`[api] metrics`", "no address"]);
    }),
    ("socket_is_taken", socket_is_taken),
    ("show_without_a_router", show_without_a_router),
    ("check_says_it_without_root", check_says_it_without_root),
];

/// Huge pages are required, and there are none. Where there are some this cannot be tried.
fn no_huge_pages(desk: &mut Desk) {
    let free = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().filter_map(|size| {
        std::fs::read_to_string(size.ok()?.path().join("free_hugepages")).ok()?.trim().parse::<u64>().ok()
    });
    if free.sum::<u64>() > 0 {
        println!("    not tried: this machine has free huge pages");
        return;
    }
    let config = desk.config(TAP, "").replace("\"never\"", "\"require\"");
    desk.assert_refused(&desk.run(config.as_bytes()), &["huge page", "vm.nr_hugepages"]);
}

/// Another user than root, who may write the socket or may not.
fn not_root(desk: &mut Desk) {
    let path = desk.lab.path("refused.toml");
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    for socket in ["/run/turnpike.sock", "/tmp/turnpike-of-nobody.sock"] {
        let config = desk.config(TAP, "").replace(desk.socket().to_str().expect("ASCII"), socket);
        std::fs::write(&path, config).expect("configuration");
        let output = desk.run_file(path.to_str().expect("ASCII"), &nobody);
        desk.assert_refused(&output, &["root"]);
        assert!(!std::path::Path::new(socket).exists(), "{socket} was left behind");
    }
}

/// Ten different mistakes, each named with its line.
fn ten_errors_at_once(desk: &mut Desk) {
    let config = "[[port]]
name = \"lan\"
device = \"net_tap0\"
mtu = 20000
qeues = 1

[[circuit]]
name = \"er1\"
bandwidth = \"fast\"
billing = \"metered\"
encapsulation = \"qinq\"
s_tag = 5000

[[circuit.peering]]
kind = \"public\"
c_tag = 0
peer_asn = 65515
primary = { port = \"wan\", v4 = \"10.0.0.0/29\" }

[[interface]]
name = \"lan\"
port = \"lan\"
addresses = [\"192.0.2.0/24\"]

[[route]]
prefix = \"10.0.0.1/8\"
via = \"192.0.2.7\"

[workers]
idle = \"often\"
";
    let lines = [4, 5, 9, 12, 15, 16, 17, 18, 23, 26, 30];
    for output in [desk.run(config.as_bytes()), check(desk)] {
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        desk.assert_refused(&output, &[]);
        for line in lines {
            assert!(text.contains(&format!("refused.toml:{line}:")), "no error of line {line} in:\n{text}");
        }
    }
}

fn check(desk: &Desk) -> Output {
    let path = desk.lab.path("refused.toml");
    process::output(desk.netns.command(router::program()).arg("check").arg(path))
}

/// Two workers on a device with one queue.
fn too_few_queues(desk: &mut Desk) {
    let (rx, tx) = (desk.lab.path("rx.pcap"), desk.lab.path("tx.pcap"));
    crate::pcap::write(&rx, []).expect("a capture file");
    let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", rx.display(), tx.display());
    let config = desk.config(&device, "").replace("[workers]", "[workers]\ncores = [0, 1]");
    desk.assert_refused(&desk.run(config.as_bytes()), &["`lan`", "queue"]);
}

/// An interface of another has the name of our TAP: it is left alone.
fn tap_name_is_taken(desk: &mut Desk) {
    desk.netns.ip("link add lan type veth peer name other");
    let output = desk.run(desk.config(TAP, "").as_bytes());
    assert!(desk.netns.has_link("lan"), "it took away an interface that is not its own");
    desk.netns.ip("link del lan");
    desk.assert_refused(&output, &["`lan`"]);
}

/// Somebody listens already where our BGP should.
fn bgp_port_is_taken(desk: &mut Desk) {
    let taken = desk.netns.enter(|| TcpListener::bind("127.0.0.1:1790")).expect("a free port");
    let bgp = "[bgp]\nasn = 65010\nrouter_id = \"10.0.0.2\"\n\n\
               [[bgp.peer]]\naddress = \"127.0.0.1\"\nasn = 65010\n";
    let output = desk.run(desk.config(TAP, bgp).as_bytes());
    drop(taken);
    desk.assert_refused(&output, &["127.0.0.1:1790"]);
}

/// A second turnpike on the same socket is refused and the first one unharmed; a file that is no socket is not
/// removed; the socket of one that was killed does not stand in the way.
fn socket_is_taken(desk: &mut Desk) {
    let socket = desk.socket();
    let mut first = router::Router::start(&desk.lab, &desk.netns, &desk.config(TAP, ""), &socket);
    let second = desk.run(desk.config("net_tap1,iface=tpl1", "").as_bytes());
    assert!(!second.status.success(), "a second turnpike took the socket over");
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("turnpike.sock") && !text.contains("panicked"), "{text}");
    first.daemon().assert_alive();
    assert!(first.try_show("ports").is_some(), "the first turnpike does not answer any more");

    first.daemon().kill();
    assert!(socket.exists(), "SIGKILL leaves no time to remove the socket");
    let mut third = router::Router::start(&desk.lab, &desk.netns, &desk.config(TAP, ""), &socket);
    assert!(third.stop(libc::SIGTERM).success());

    std::fs::write(&socket, "a file of somebody else").expect("a file");
    let output = desk.run(desk.config(TAP, "").as_bytes());
    assert!(!output.status.success(), "it ran over a file that is no socket");
    let kept = std::fs::read_to_string(&socket).expect("the file is still there");
    assert_eq!(kept, "a file of somebody else");
    std::fs::remove_file(&socket).expect("our own file");
    desk.assert_refused(&output, &["turnpike.sock"]);
}

/// `turnpike show` where nothing runs says so.
fn show_without_a_router(desk: &mut Desk) {
    let mut command = Command::new(router::program());
    let output = process::output(command.args(["show", "ports", "--socket"]).arg(desk.socket()));
    desk.assert_refused(&output, &["turnpike.sock", "turnpike run"]);
}

/// `turnpike check` needs no rights.
fn check_says_it_without_root(desk: &mut Desk) {
    let path = desk.lab.path("refused.toml");
    std::fs::write(&path, desk.config(TAP, "")).expect("configuration");
    let mut command = desk.netns.command("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(router::program())
        .arg("check")
        .arg(&path);
    let output = process::output(&mut command);
    assert!(output.status.success(), "{output:?}");
    std::fs::write(&path, desk.config(TAP, "[[rout]]\n")).expect("configuration");
    desk.assert_refused(&process::output(&mut command), &["rout"]);
}
