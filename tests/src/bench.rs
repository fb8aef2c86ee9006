//! A small set-up for frames made by hand: turnpike with two ports, on each of them one sub-interface for every kind
//! of tags, neighbours whose MAC addresses are given, and one real BGP speaker that must not be disturbed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::bird::Bird;
use crate::counters::{self, Counters, Port};
use crate::frame::{self, Mac, Tag};
use crate::lab::{Lab, Netns};
use crate::plan::{CUSTOMER_AS, RELAY_PORT};
use crate::router::Router;
use crate::settings;
use crate::suite::{Fixture, SOON};
use crate::wait;
use crate::wire::{Recording, Seen, Way, Wire};

/// The two ports, by name.
pub const PORTS: [&str; 2] = ["a", "b"];
/// Their MAC addresses.
pub const MACS: [Mac; 2] = [[2, 0, 0x5e, 0, 1, 0xa], [2, 0, 0x5e, 0, 1, 0xb]];
/// The addresses that allowed peers which misbehave connect from.
pub const ROGUES: [&str; 2] = ["127.0.0.2", "127.0.0.4"];
/// What the real speaker announces.
pub const LEARNED: &str = "198.18.0.0/15";

/// The kinds of sub-interface that each port has.
pub const KINDS: [Kind; 5] = [
    Kind { name: "plain", tags: &[], keys: "", pcp: None },
    Kind { name: "vlan", tags: &[Tag::new(0x8100, 30)], keys: "vlan = 30", pcp: None },
    Kind {
        name: "qinq",
        tags: &[Tag::new(0x8100, 100), Tag::new(0x8100, 10)],
        keys: "s_tag = 100\nc_tag = 10",
        pcp: None,
    },
    Kind {
        name: "qinq-ad",
        tags: &[Tag::new(0x88a8, 200), Tag::new(0x8100, 10)],
        keys: "s_tag = 200\nc_tag = 10\nouter_tpid = 0x88a8",
        pcp: None,
    },
    Kind { name: "vlan-pcp", tags: &[Tag::new(0x8100, 31)], keys: "vlan = 31\npcp = 3", pcp: Some(3) },
];

/// One kind of sub-interface.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Short for it.
    pub name: &'static str,
    /// The tags of its frames.
    pub tags: &'static [Tag],
    /// Its keys in the configuration.
    pub keys: &'static str,
    /// The priority of what it sends, if that is fixed.
    pub pcp: Option<u8>,
}

/// Our address on sub-interface `kind` of `port`, in the family of `v6`.
pub fn ours(port: usize, kind: usize, v6: bool) -> IpAddr {
    host(port, kind, v6, 1)
}

/// The neighbour's address there.
pub fn theirs(port: usize, kind: usize, v6: bool) -> IpAddr {
    host(port, kind, v6, 2)
}

/// Address number `host` there.
pub fn host(port: usize, kind: usize, v6: bool, host: u16) -> IpAddr {
    if v6 {
        IpAddr::from([0xfd00, port as u16 + 1, kind as u16, 0, 0, 0, 0, host])
    } else {
        IpAddr::from([10, port as u8 + 1, kind as u8, host as u8])
    }
}

/// The neighbour's MAC address there.
pub fn their_mac(port: usize, kind: usize) -> Mac {
    [2, 0, 0, port as u8, kind as u8, 2]
}

/// The set-up. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub struct Bench {
    /// The wires of both ports.
    pub wires: Vec<Wire>,
    /// The real speaker, in the VRF's namespace.
    pub speaker: Option<Bird>,
    /// The program under test.
    pub router: Option<Router>,
    /// Free packet buffers after the start.
    pub pool: (u64, u64),
    /// Where turnpike runs.
    pub outside: Netns,
    /// Where the TAPs are.
    pub vrf: Netns,
    /// Names and files.
    pub lab: Lab,
}

impl Bench {
    /// The namespaces only.
    #[track_caller]
    pub fn new() -> Self {
        let lab = Lab::new();
        let (outside, vrf) = (lab.netns("R"), lab.netns("P"));
        outside.sysctl("ipv6/conf/default/disable_ipv6", "1");
        Self { wires: Vec::new(), speaker: None, router: None, pool: (0, 0), outside, vrf, lab }
    }

    /// Starts turnpike, joins the wires, starts the speaker, and notes how many buffers are free.
    #[track_caller]
    pub fn start(&mut self) {
        let socket = self.socket();
        let router = Router::start(&self.lab, &self.outside, &self.config(), &socket);
        self.wires = ["tpa0", "tpb0"].iter().map(|netdev| Wire::attach(&self.outside, netdev, &[])).collect();
        self.router = Some(router);
        let speaker = format!(
            "router id 10.0.0.3;
protocol device {{ }}
protocol static {{ ipv4; route {LEARNED} via {}; }}
protocol bgp relay {{
  local 127.0.0.1 as {CUSTOMER_AS};
  neighbor 127.0.0.1 port {RELAY_PORT} as {CUSTOMER_AS};
  hold time 9; keepalive time 3; connect retry time 1; connect delay time 1; error wait time 1, 2;
  ipv4 {{ import none; export all; next hop keep; }};
}}
",
            theirs(1, 2, false)
        );
        let speaker = Bird::start(&self.lab, &self.vrf, "speaker", &speaker);
        wait::until_true(SOON, "the real speaker's session", || speaker.established("relay"));
        self.speaker = Some(speaker);
        wait::until_true(SOON, "the real speaker's route", || self.knows_the_learned_route());
        Counters::settled(self.router());
        self.pool = counters::pool(self.router());
    }

    /// The program.
    #[track_caller]
    pub fn router(&self) -> &Router {
        self.router.as_ref().expect("turnpike has been started")
    }

    fn socket(&self) -> PathBuf {
        self.lab.path("turnpike.sock")
    }

    /// Whether what the real speaker announced is in the FIB.
    #[track_caller]
    pub fn knows_the_learned_route(&self) -> bool {
        let routes = self.router().show("routes");
        routes
            .as_array()
            .is_some_and(|all| all.iter().any(|r| r["prefix"] == LEARNED && r["installed"] == true))
    }

    fn config(&self) -> String {
        let mut text = String::new();
        for (n, port) in PORTS.iter().enumerate() {
            let mac = text_mac(MACS[n]);
            text += &format!(
                "[[port]]\nname = \"{port}\"\ndevice = \"net_tap{n},iface=tp{port}0,mac={mac}\"\n\
                 offloads = \"rx_checksum\"\n\n"
            );
            for (k, kind) in KINDS.iter().enumerate() {
                let name = format!("{port}-{}", kind.name);
                text += &format!(
                    "[[interface]]\nname = \"{name}\"\nport = \"{port}\"\nvrf = \"bench\"\n{}\n\
                     addresses = [\"{}/24\", \"{}/64\"]\n\n",
                    kind.keys,
                    ours(n, k, false),
                    ours(n, k, true)
                );
                for v6 in [false, true] {
                    let (address, mac) = (theirs(n, k, v6), text_mac(their_mac(n, k)));
                    text += &format!(
                        "[[neighbour]]\ninterface = \"{name}\"\naddress = \"{address}\"\nmac = \"{mac}\"\n\n"
                    );
                }
            }
        }
        let namespace = self.vrf.name();
        text += &format!(
            "[[vrf]]
name = \"bench\"
namespace = \"{namespace}\"

[[route]]
vrf = \"bench\"
prefix = \"203.0.113.0/24\"
discard = true

[[route]]
vrf = \"bench\"
prefix = \"2001:db8:dead::/48\"
discard = true

[bgp]
listen = [\"127.0.0.1:{RELAY_PORT}\", \"{}:{RELAY_PORT}\"]
asn = {CUSTOMER_AS}
router_id = \"10.0.0.2\"
retain = 5
hold_time = 9

",
            ours(0, 1, false)
        );
        for (name, address) in [("speaker", "127.0.0.1"), ("rogue-1", ROGUES[0]), ("rogue-2", ROGUES[1])] {
            text += &format!(
                "[[bgp.peer]]\nname = \"{name}\"\naddress = \"{address}\"\nasn = {CUSTOMER_AS}\nvrf = \"bench\"\n\
                 namespace = \"{namespace}\"\n\n"
            );
        }
        text += &settings::common(&self.socket());
        text
    }

    /// [`send`] to port `a`.
    #[track_caller]
    pub fn send<'a>(&self, frames: impl IntoIterator<Item = &'a Vec<u8>>) -> Port {
        send(self.router(), &self.wires[0], PORTS[0], frames)
    }

    /// Sends frames of which each must be dropped for this reason, and be counted so.
    #[track_caller]
    pub fn assert_dropped(&self, reason: &str, frames: &[Vec<u8>]) {
        let counted = self.send(frames);
        let want = [(reason.to_owned(), frames.len() as u64)].into();
        assert_eq!(
            (&counted.drops, counted.forwarded, counted.punted),
            (&want, 0, 0),
            "{reason}: {counted:?}"
        );
    }

    /// Sends frames and returns what left port `b` for them, in order.
    #[track_caller]
    pub fn forwarded(&self, frames: &[Vec<u8>]) -> (Port, Vec<Seen>) {
        let record: Recording<'_> = self.wires[1].record();
        let counted = self.send(frames);
        wait::within(SOON, &mut || {
            (record.count(Way::FromRouter, is_ours) as u64 >= counted.forwarded).then_some(())
        });
        (counted, record.frames(Way::FromRouter, is_ours))
    }

    /// Still alive, its pool full, and the real speaker's session and route as they were.
    #[track_caller]
    pub fn assert_unharmed(&mut self) {
        self.router.as_mut().expect("turnpike has been started").daemon().assert_alive();
        counters::assert_pool_refills(self.router(), self.pool);
        assert!(
            self.speaker.as_ref().is_some_and(|s| s.established("relay")),
            "the real speaker's session went down"
        );
        assert!(self.knows_the_learned_route(), "the real speaker's route is gone");
        let log = self.router.as_mut().expect("turnpike has been started").daemon().log();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// A UDP packet from the neighbour on a kind of port `a` to the neighbour on a kind of port `b`.
    pub fn packet(from: usize, to: usize, v6: bool, ttl: u8, payload: &[u8]) -> Vec<u8> {
        frame::udp((theirs(0, from, v6), 4000), (theirs(1, to, v6), 5000), ttl, payload)
    }

    /// An IP packet in a frame as it must arrive on a kind of port `a`.
    pub fn wrap(kind: usize, packet: &[u8]) -> Vec<u8> {
        let ethertype = if packet[0] >> 4 == 6 { frame::IPV6 } else { frame::IPV4 };
        frame::build(MACS[0], their_mac(0, kind), KINDS[kind].tags, ethertype, packet)
    }
}

/// Sends frames to a port in batches that its queue can hold, and returns what the port counted once all is quiet. Panics
/// when it did not receive exactly them.
#[track_caller]
pub fn send<'a>(
    router: &Router,
    wire: &Wire,
    port: &str,
    frames: impl IntoIterator<Item = &'a Vec<u8>>,
) -> Port {
    let before = Counters::settled(router);
    let mut sent = 0;
    for frame in frames {
        wire.inject(frame);
        sent += 1;
        if sent % 64 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let what = "the port to receive what was sent";
    wait::until_true(SOON, what, || Counters::read(router).since(&before, port).received >= sent);
    let counted = Counters::settled(router).since(&before, port);
    assert_eq!(counted.received, sent, "received on port {port}: {counted:?}");
    counted
}

/// Whether a frame is one that a test sent, and not the kernel's own talk on the TAPs.
fn is_ours(frame: &[u8]) -> bool {
    frame::ip(frame).is_some_and(|ip| ip.ports() == Some((4000, 5000)))
}

fn text_mac(mac: Mac) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture for Bench {
    fn describe(&self) -> String {
        format!(
            "\nturnpike in {}, its TAPs in {}, files in {}\nturnpike show ports --socket {}",
            self.outside.name(),
            self.vrf.name(),
            self.lab.dir().display(),
            self.socket().display()
        )
    }

    fn diagnose(&mut self) -> String {
        let Some(router) = &mut self.router else { return String::new() };
        let mut text = String::new();
        for what in ["ports", "drops", "workers", "bgp"] {
            let shown = router.try_show(what).map_or_else(|| "no answer".to_owned(), |v| v.to_string());
            text += &format!("-- turnpike show {what}: {shown}\n");
        }
        text + &format!("-- turnpike:\n{}\n", router.daemon().log_tail(30))
    }
}
