//! Access lists, with real frames through turnpike: what comes in by port `a`, untagged or by VLAN 30, leaves by port `b`
//! with two tags; a list stands at each of the two.

mod judged;
mod reload;

use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;

use crate::counters::{Counters, Port};
use crate::frame::{self, Mac, Tag};
use crate::lab::{Lab, Netns};
use crate::router::{self, Router};
use crate::settings;
use crate::suite::{Fixture, SOON, Step};
use crate::wait;
use crate::wire::Wire;

const MACS: [Mac; 2] = [[2, 0, 0x5e, 0, 2, 0xa], [2, 0, 0x5e, 0, 2, 0xb]];
const NEIGHBOUR: Mac = [2, 0, 0, 0, 0, 9];

/// What may come in by port `a`.
const FROM_A: &[&str] = &[
    "permit tcp from 10.1.0.0/24 to any port 443, 8000-8010",
    "permit tcp to 10.2.0.2 established",
    "count udp",
    "deny udp to any port dns",
    "permit udp to any port 5000 dscp ef",
    "permit udp from 10.1.0.7 fragments",
    "permit tcp from fd00:1::/64 to fd00:2::2 port ssh",
    "permit icmpv6 type 128",
    "permit udp to any port 6000 outer-vlan 30",
    "permit udp from 10.1.0.2 to any port 7000-7001, 9000",
];
/// What may go out by port `b`.
const TO_B: &[&str] = &["deny udp from any to any port 9000", "deny ipv6 to fd00:2::bad", "permit any"];

/// Where the lists are in force.
#[derive(Debug)]
pub struct Gate {
    wires: Vec<Wire>,
    router: Option<Router>,
    netns: Netns,
    lab: Lab,
}

impl Gate {
    /// The namespace only.
    #[track_caller]
    pub fn new() -> Self {
        let lab = Lab::new();
        let netns = lab.netns("R");
        netns.sysctl("ipv6/conf/default/disable_ipv6", "1");
        Self { wires: Vec::new(), router: None, netns, lab }
    }

    /// Starts turnpike, and joins the wires.
    #[track_caller]
    pub fn start(&mut self) {
        let config = self.config(FROM_A, TO_B);
        self.router = Some(Router::start(&self.lab, &self.netns, &config, &self.socket()));
        self.wires = ["tga0", "tgb0"].iter().map(|netdev| Wire::attach(&self.netns, netdev, &[])).collect();
        Counters::settled(self.router());
    }

    fn router(&self) -> &Router {
        self.router.as_ref().expect("turnpike has been started")
    }

    fn socket(&self) -> PathBuf {
        self.lab.path("turnpike.sock")
    }

    /// The configuration with these lists.
    fn config(&self, from_a: &[&str], to_b: &[&str]) -> String {
        let mut text = String::new();
        for (port, mac) in ["a", "b"].iter().zip(MACS) {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            text += &format!(
                "[[port]]\nname = \"{port}\"\ndevice = \"net_tap_{port},iface=tg{port}0,mac={mac}\"\n\n"
            )
            .replace("net_tap_a", "net_tap0")
            .replace("net_tap_b", "net_tap1");
        }
        for (name, port, keys, net) in [
            ("a", "a", "acl_in = \"from-a\"", 1),
            ("a30", "a", "vlan = 30\nacl_in = \"from-a\"", 3),
            ("b", "b", "s_tag = 100\nc_tag = 10\nacl_out = \"to-b\"", 2),
        ] {
            text += &format!(
                "[[interface]]\nname = \"{name}\"\nport = \"{port}\"\n{keys}\naddresses = [\"10.{net}.0.1/24\", \"fd00:{net}::1/64\"]\n\n"
            );
            for host in ["10.NET.0.2", "10.NET.0.7", "fd00:NET::2", "fd00:NET::bad"] {
                let (address, mac) = (
                    host.replace("NET", &net.to_string()),
                    NEIGHBOUR.map(|byte| format!("{byte:02x}")).join(":"),
                );
                text += &format!(
                    "[[neighbour]]\ninterface = \"{name}\"\naddress = \"{address}\"\nmac = \"{mac}\"\n\n"
                );
            }
        }
        for (name, rules) in [("from-a", from_a), ("to-b", to_b)] {
            text += &format!("[[acl]]\nname = \"{name}\"\nrules = {rules:?}\n\n");
        }
        text + "[kernel]\ntaps = false\n\n" + &settings::common(&self.socket())
    }

    /// Sends one packet into port `a` and returns what was counted of it.
    #[track_caller]
    fn send(&self, tags: &[Tag], packet: &[u8]) -> Port {
        let before = Counters::settled(self.router());
        self.wires[0].inject(&framed(tags, packet));
        wait::until_true(SOON, "the packet to come in", || {
            Counters::read(self.router()).since(&before, "a").received >= 1
        });
        let counted = Counters::settled(self.router()).since(&before, "a");
        assert_eq!(counted.received, 1, "{counted:?}");
        counted
    }

    /// How many packets each rule of a list has counted, the implicit end last.
    #[track_caller]
    fn hits(&self, list: &str) -> Vec<u64> {
        let lists = self.router().show("acls");
        let list = lists.as_array().and_then(|all| all.iter().find(|one| one["name"] == list)).cloned();
        let rules = list.unwrap_or(Value::Null)["rules"].as_array().cloned().unwrap_or_default();
        rules.iter().filter_map(|rule| rule["packets"].as_u64()).collect()
    }

    /// Writes this configuration in the place of the one that turnpike was started with, and has its lists reloaded.
    #[track_caller]
    fn reload(&self, config: &str) -> Output {
        std::fs::write(self.lab.path("turnpike.toml"), config).expect("configuration of turnpike");
        let socket = self.socket();
        router::run(&["acl", "reload", "--socket", socket.to_str().expect("a path in ASCII")])
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture for Gate {
    fn diagnose(&mut self) -> String {
        let Some(router) = &mut self.router else { return String::new() };
        let mut text = router.try_show("acls").map_or_else(|| "no answer".to_owned(), |v| v.to_string());
        text += &router.try_show("drops").map_or_else(|| "no answer".to_owned(), |v| v.to_string());
        text + &format!("-- turnpike:\n{}\n", router.daemon().log_tail(30))
    }
}

/// An IP packet in a frame for port `a`.
fn framed(tags: &[Tag], packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 6 { frame::IPV6 } else { frame::IPV4 };
    frame::build(MACS[0], NEIGHBOUR, tags, ethertype, packet)
}

/// All of them, in order.
pub const STEPS: &[Step<Gate>] = &[
    ("rules_decide_and_count", judged::rules_decide_and_count),
    ("senders_are_told", judged::senders_are_told),
    ("to_us_and_past_the_lists", judged::to_us_and_past_the_lists),
    ("a_wrong_file_changes_nothing", reload::a_wrong_file_changes_nothing),
    ("a_hangup_reloads", reload::a_hangup_reloads),
    ("counts_stay_over_a_reload", reload::counts_stay_over_a_reload),
    ("each_packet_meets_one_list", reload::each_packet_meets_one_list),
];
