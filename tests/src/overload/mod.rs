//! A circuit with one peering under load: FRR on turnpike's TAPs with BGP and BFD to both edges, a host on the LAN, the
//! cloud behind the edges, and one more port on which DPDK replays a capture file as fast as it is polled. One worker
//! on core 0 serves all ports.

pub mod bfd;
mod feed;
pub mod floods;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cloud;
use crate::customer::{Customer, Speaker};
use crate::echo;
use crate::edge::Edge;
use crate::lab::{Lab, Netns};
use crate::plan::{
    CLOUD, CUSTOMER_AS, LAN, LinkPlan, MICROSOFT_AS, NETDEVS, PRIVATE, RELAY_PORT, S_TAG, TWO_RELAYS,
};
use crate::router::Router;
use crate::settings;
use crate::suite::{Fixture, SOON};
use crate::wait;
use crate::wire::{End, Wire};

/// TPID of the S-tag.
const OUTER_TPID: u16 = 0x8100;
/// Our address on the flooded port, and its prefix length: room for many senders.
const FLOODED: (&str, u8) = ("10.99.0.1", 16);
/// MAC address of the flooded port: DPDK gives it to its first `net_pcap` device.
const FLOODED_MAC: [u8; 6] = [2, 0x70, 0x63, 0x61, 0x70, 0];
/// The LAN has a second prefix, of which next to nobody is there.
const EMPTY_LAN: &str = "10.98.0.1/16";
/// What passes to a port that swallows it: where to, and by way of whom.
const SUNK: (&str, &str) = ("172.20.0.0/14", "10.97.0.2");
/// How long all sessions may take to come up under a flood.
const SETTLE: Duration = Duration::from_mins(2);

/// What the flooded port gets.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Short for it.
    pub name: &'static str,
    /// The reasons for which it is punted.
    pub punts: &'static [&'static str],
    /// Its frames.
    pub frames: fn() -> Vec<Vec<u8>>,
}

/// The set-up. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub struct Overload {
    wires: Vec<Wire>,
    router: Option<Router>,
    customer: Option<Customer>,
    edges: [Edge; 2],
    fabric: crate::bird::Bird,
    /// The host behind the edges.
    cloud: Netns,
    lan: Netns,
    outside: Netns,
    vrf: Netns,
    load: Load,
    lab: Lab,
}

/// The sessions of one end: (BGP neighbour, times it was lost), and (BFD peer, times it came up).
type Sessions = (Vec<(&'static str, u64)>, std::collections::BTreeMap<String, u64>);

impl Overload {
    /// All but turnpike and the customer's FRR.
    #[track_caller]
    pub fn new(load: Load) -> Self {
        leave_the_workers_core();
        let lab = Lab::new();
        let outside = lab.netns("R");
        outside.sysctl("ipv6/conf/default/disable_ipv6", "1");
        let cloud = cloud::netns(&lab, &PRIVATE);
        let edges = [0, 1].map(|n| Edge::start(&lab, &PRIVATE, n, OUTER_TPID, &cloud));
        let fabric = cloud::start(&lab, &cloud, &PRIVATE);
        let lan = lab.netns("L");
        lan.without_dad();
        let vrf = lab.netns("P");
        Speaker::Frr.prepare(&vrf);
        Self {
            wires: Vec::new(),
            router: None,
            customer: None,
            edges,
            fabric,
            cloud,
            lan,
            outside,
            vrf,
            load,
            lab,
        }
    }

    /// Starts turnpike under its load, then FRR, and waits until all sessions are up, those of BFD among them, and
    /// packets pass.
    #[track_caller]
    pub fn start(&mut self) {
        let (flood, frames) = (self.lab.path("flood.pcap"), (self.load.frames)());
        crate::pcap::write(&flood, frames.iter().map(|frame| (0, frame.as_slice()))).expect("a capture file");
        let socket = self.socket();
        self.router = Some(Router::start(&self.lab, &self.outside, &self.config(), &socket));
        let lan_end = End::new(&self.lan, "eth0", &[]);
        for site in LAN {
            self.lan.address("eth0", &format!("{}/{}", site.host, site.length));
            self.lan.ip(&format!("route add default via {}", site.router));
        }
        let ends = [lan_end, self.edges[0].end.clone(), self.edges[1].end.clone()];
        let attach = |(netdev, end)| Wire::attach(&self.outside, netdev, &[end]);
        self.wires = NETDEVS.into_iter().zip(ends).map(attach).collect();
        self.customer = Some(Customer::start(&self.lab, &self.vrf, &PRIVATE, Speaker::Frr));
        self.start_bfd();
        self.settle();
    }

    #[track_caller]
    fn start_bfd(&mut self) {
        let neighbours: Vec<&str> = edges().collect();
        match &mut self.customer {
            Some(Customer::Frr(frr)) => frr.start_bfd(CUSTOMER_AS, &neighbours),
            _ => panic!("FRR has not been started"),
        }
        for edge in &mut self.edges {
            edge.frr.start_bfd(MICROSOFT_AS, &[edge.link.v4.ours, edge.link.v6.ours]);
        }
        self.bfd_is_up();
    }

    /// Waits until all BFD sessions are up, at all ends.
    #[track_caller]
    fn bfd_is_up(&self) {
        wait::until_true(SETTLE, "the BFD sessions", || {
            let at_edge = |edge: &Edge| edge.frr.bfd_sessions().len() == 2;
            self.customer().1.len() == edges().count() && self.edges.iter().all(at_edge)
        });
    }

    /// Waits until all BGP sessions are up, and packets pass.
    #[track_caller]
    fn settle(&self) {
        for edge in &self.edges {
            let what = format!("BGP of the customer with the {} edge", edge.link.role);
            wait::until_true(SETTLE, &what, || edge.established());
        }
        let customer = self.customer.as_ref().expect("started");
        wait::until_true(SETTLE, "the relay sessions", || customer.relays());
        for (lan, site) in LAN.iter().zip(CLOUD) {
            wait::until_true(SOON, "both paths", || customer.paths(site.prefix).len() == 2);
            wait::until_true(SOON, "the way back", || self.fabric.paths(lan.host).len() == 2);
            let what = format!("ping from {} to {}", lan.host, site.host);
            wait::until_true(SOON, &what, || self.pings(site.address(), 1) == 1);
        }
    }

    /// How many of so many pings from the LAN host are answered.
    #[track_caller]
    fn pings(&self, target: IpAddr, count: u32) -> u32 {
        let patience = Duration::from_secs(2);
        let plan = echo::Plan { source: None, target, size: 56, count, patience, fragments: false };
        echo::send(&self.lan, &plan).answered
    }

    /// What the customer's FRR says of its sessions with the edges and with turnpike.
    #[track_caller]
    fn customer(&self) -> Sessions {
        let Some(Customer::Frr(frr)) = &self.customer else { panic!("FRR has not been started") };
        let relays = TWO_RELAYS.iter().map(|relay| relay.turnpike);
        (edges().chain(relays).map(|peer| (peer, frr.dropped(peer))).collect(), frr.bfd_sessions())
    }

    /// What all three FRRs say of their sessions.
    #[track_caller]
    fn sessions(&self) -> Vec<Sessions> {
        let of_edge = |edge: &Edge| {
            let peers = [edge.link.v4.ours, edge.link.v6.ours];
            (peers.map(|peer| (peer, edge.frr.dropped(peer))).to_vec(), edge.frr.bfd_sessions())
        };
        std::iter::once(self.customer()).chain(self.edges.iter().map(of_edge)).collect()
    }

    #[track_caller]
    fn router(&self) -> &Router {
        self.router.as_ref().expect("turnpike has been started")
    }

    fn socket(&self) -> PathBuf {
        self.lab.path("turnpike.sock")
    }

    fn config(&self) -> String {
        let mut text = String::new();
        for (number, (name, netdev)) in ["lan", "primary", "secondary"].iter().zip(NETDEVS).enumerate() {
            let device = format!("net_tap{number},iface={netdev},mac=02:00:5e:00:04:0{number}");
            text += &format!("[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\n\n");
        }
        let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", self.lab.path("flood.pcap").display());
        text += &format!(
            "[[port]]\nname = \"flooded\"\ndevice = \"{device}\"\n\n\
             [[port]]\nname = \"sink\"\ndevice = \"net_null0,no-rx=1\"\n\n\
             [[interface]]\nname = \"sink\"\nport = \"sink\"\nvrf = \"private\"\naddresses = [\"10.97.0.1/24\"]\n\n\
             [[neighbour]]\ninterface = \"sink\"\naddress = \"{1}\"\nmac = \"02:00:00:00:97:02\"\n\n\
             [[route]]\nvrf = \"private\"\nprefix = \"{0}\"\nvia = [\"{1}\"]\n\n",
            SUNK.0, SUNK.1
        );
        text += &format!(
            "[[circuit]]\nname = \"er1\"\nbandwidth = \"1G\"\nencapsulation = \"qinq\"\nbilling = \"metered\"\ns_tag = {S_TAG}\n\
             outer_tpid = {OUTER_TPID:#06x}\n\n[[circuit.peering]]\nkind = \"private\"\nc_tag = {}\n",
            PRIVATE.c_tag
        );
        for LinkPlan { role, v4, v6 } in PRIVATE.links {
            text += &format!(
                "{role} = {{ port = \"{role}\", v4 = \"{}\", v6 = \"{}\" }}\n",
                v4.prefix, v6.prefix
            );
        }
        let (vrf, [lan4, lan6]) =
            (self.vrf.name(), LAN.map(|site| format!("{}/{}", site.router, site.length)));
        text += &format!(
            "\n[[vrf]]\nname = \"private\"\nnamespace = \"{vrf}\"\n\n\
             [[interface]]\nname = \"lan\"\nport = \"lan\"\nvrf = \"private\"\n\
             addresses = [\"{lan4}\", \"{lan6}\", \"{EMPTY_LAN}\"]\n\n\
             [[interface]]\nname = \"flooded\"\nport = \"flooded\"\nvrf = \"private\"\naddresses = [\"{}/{}\"]\n\n\
             [bgp]\nlisten = [\"{}:{RELAY_PORT}\", \"[{}]:{RELAY_PORT}\", \"127.0.0.1:{RELAY_PORT}\"]\nasn = {CUSTOMER_AS}\n\
             router_id = \"10.0.0.2\"\nhold_time = 9\n\n",
            FLOODED.0, FLOODED.1, TWO_RELAYS[0].turnpike, TWO_RELAYS[1].turnpike
        );
        let peers =
            [("frr4", TWO_RELAYS[0].customer), ("frr6", TWO_RELAYS[1].customer), ("feed", "127.0.0.1")];
        for (name, address) in peers {
            text += &format!(
                "[[bgp.peer]]\nname = \"{name}\"\naddress = \"{address}\"\nasn = {CUSTOMER_AS}\n\
                 vrf = \"private\"\nnamespace = \"{vrf}\"\n\n"
            );
        }
        text + &settings::common(&self.socket()).replace("[workers]", "[workers]\ncores = [0]")
    }
}

/// The edges' addresses, both families of both links.
fn edges() -> impl Iterator<Item = &'static str> {
    PRIVATE.links.into_iter().flat_map(|link| [link.v4.edge, link.v6.edge])
}

/// Keeps this process and all that it starts off core 0, where there are others: as with `isolcpus`, the worker has its
/// core to itself, and pins itself there.
#[track_caller]
fn leave_the_workers_core() {
    if std::path::Path::new("/sys/devices/system/cpu/cpu1").exists() {
        let (others, own) = ("0xfffffffffffffffe", std::process::id().to_string());
        crate::process::run(std::process::Command::new("taskset").args(["-a", "-p", others, &own]));
    }
}

/// Seconds of load: those of `TURNPIKE_LOAD_SECONDS`, or a few.
fn load_time(otherwise: u64) -> Duration {
    let asked = std::env::var("TURNPIKE_LOAD_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(otherwise))
}

impl Fixture for Overload {
    fn describe(&self) -> String {
        format!(
            "\nturnpike in {}, its TAPs and FRR in {}, files in {}\nturnpike show ports --socket {}",
            self.outside.name(),
            self.vrf.name(),
            self.lab.dir().display(),
            self.socket().display()
        )
    }

    fn diagnose(&mut self) -> String {
        let mut text = String::new();
        if let Some(customer) = &self.customer {
            text += &format!("-- customer:\n{}\n", customer.log_tail(10));
        }
        let Some(router) = &mut self.router else { return text };
        for what in ["drops", "neighbours", "workers", "bgp"] {
            let shown = router.try_show(what).map_or_else(|| "no answer".to_owned(), |v| v.to_string());
            text += &format!("-- turnpike show {what}: {}\n", shown.chars().take(4000).collect::<String>());
        }
        text + &format!("-- turnpike:\n{}\n", router.daemon().log_tail(30))
    }
}
