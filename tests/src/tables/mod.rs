//! A small site whose routes come from somebody else's table: a LAN host, turnpike, and a far host that is reached over
//! either of two links.

pub mod fpm;
pub mod netlink;
mod page;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use self::page::{block, hurry};
use crate::bird::Bird;
use crate::echo;
use crate::lab::{Lab, Netns};
use crate::router::Router;
use crate::settings;
use crate::stream::{Plan, Stream};
use crate::suite::{Fixture, SOON};
use crate::wait;
use crate::wire::{End, Way, Wire};
use crate::zebra::Zebra;

/// turnpike's port, interface and TAP to the LAN, then those to the far host.
pub const LINKS: [&str; 3] = ["lan", "one", "two"];
/// The far host's addresses on the two links, IPv4 and IPv6.
pub const GATEWAYS: [[&str; 2]; 2] = [["10.2.0.2", "fd00:2::2"], ["10.3.0.2", "fd00:3::2"]];
/// What is behind the links: the far host has the first address of each.
pub const FAR: [&str; 2] = ["198.51.100.0/24", "2001:db8:fa::/48"];
const FAR_HOST: [&str; 2] = ["198.51.100.1", "2001:db8:fa::1"];
/// How many other IPv4 prefixes there are, and IPv6 ones.
pub const MANY: [usize; 2] = [10_000, 1_000];

/// A prefix with its next hops, sorted; `discard` is one, too.
pub type Route = (String, Vec<String>);

/// The site. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub struct Yard {
    /// To the LAN, then the two links.
    pub wires: Vec<Wire>,
    /// FRR, where it is in play.
    pub zebra: Option<Zebra>,
    /// BIRD, where it is in play.
    pub bird: Option<Bird>,
    router: Option<Router>,
    ends: Vec<Arc<End>>,
    /// The LAN host.
    pub lan: Netns,
    /// The far host.
    pub far: Netns,
    /// Where the TAPs are, and whoever fills the table.
    pub vrf: Netns,
    outside: Netns,
    /// Names and files.
    pub lab: Lab,
}

impl Yard {
    /// All but turnpike.
    #[track_caller]
    pub fn new() -> Self {
        let lab = Lab::new();
        let (outside, vrf, lan, far) = (lab.netns("R"), lab.netns("V"), lab.netns("L"), lab.netns("F"));
        outside.sysctl("ipv6/conf/default/disable_ipv6", "1");
        for netns in [&lan, &far] {
            netns.without_dad();
        }
        let ends = vec![End::new(&lan, "eth0", &[]), End::new(&far, "one", &[]), End::new(&far, "two", &[])];
        lan.address("eth0", "10.1.0.10/24");
        lan.address("eth0", "fd00:1::10/64");
        for (n, link) in ["one", "two"].iter().enumerate() {
            // Packets come in on both links, whatever the way back.
            far.sysctl(&format!("ipv4/conf/{link}/rp_filter"), "0");
            far.address(link, &format!("{}/24", GATEWAYS[n][0]));
            far.address(link, &format!("{}/64", GATEWAYS[n][1]));
        }
        far.sysctl("ipv4/conf/all/rp_filter", "0");
        for host in FAR_HOST {
            far.address("lo", &format!("{host}/{}", if host.contains(':') { 128 } else { 32 }));
        }
        lan.ip("route add default via 10.1.0.1");
        lan.ip("route add default via fd00:1::1");
        far.ip("route add 10.1.0.0/24 via 10.2.0.1");
        far.ip("route add fd00:1::/64 via fd00:2::1");
        Self { wires: Vec::new(), zebra: None, bird: None, router: None, ends, lan, far, vrf, outside, lab }
    }

    /// Starts turnpike with the VRF `private` and this configuration beside the interfaces, and joins the wires.
    #[track_caller]
    pub fn start(&mut self, sources: &str) {
        let socket = self.socket();
        let mut config =
            sources.replace("namespace = \"private\"", &format!("namespace = \"{}\"", self.vrf.name()));
        for (n, link) in LINKS.iter().enumerate() {
            let net = n + 1;
            config += &format!(
                "\n[[port]]\nname = \"{link}\"\ndevice = \"net_tap{n},iface=tp{link},mac=02:00:5e:00:02:0{n}\"\n\
                 [[interface]]\nname = \"{link}\"\nport = \"{link}\"\nvrf = \"private\"\n\
                 addresses = [\"10.{net}.0.1/24\", \"fd00:{net}::1/64\"]\n"
            );
        }
        config += &settings::common(&socket);
        self.router = Some(Router::start(&self.lab, &self.outside, &config, &socket));
        let attach = |(link, end): (&&str, &Arc<End>)| {
            Wire::attach(&self.outside, &format!("tp{link}"), std::slice::from_ref(end))
        };
        self.wires = LINKS.iter().zip(&self.ends).map(attach).collect();
    }

    /// The program.
    #[track_caller]
    pub fn router(&self) -> &Router {
        self.router.as_ref().expect("turnpike has been started")
    }

    /// Its process id.
    #[track_caller]
    pub fn pid(&mut self) -> u32 {
        self.router.as_mut().expect("turnpike has been started").daemon().pid()
    }

    /// Sends turnpike a signal.
    #[track_caller]
    pub fn signal(&mut self, signal: i32) {
        self.router.as_mut().expect("turnpike has been started").daemon().signal(signal);
    }

    /// What turnpike has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.lab.path("turnpike.log")).unwrap_or_default()
    }

    fn socket(&self) -> PathBuf {
        self.lab.path("turnpike.sock")
    }

    /// turnpike's routes of a source, of one family.
    #[track_caller]
    pub fn routes(&self, source: &str, v6: bool) -> Vec<Route> {
        let shown = self.router().show("routes");
        let ours = shown.as_array().expect("routes").iter().filter(|route| route["source"] == source);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let mut all = Vec::new();
        for route in ours.filter(|route| text(&route["prefix"]).contains(':') == v6) {
            assert_eq!(route["installed"], true, "{route}");
            let mut hops: Vec<_> = route["via"].as_array().expect("next hops").iter().map(text).collect();
            hops.sort();
            all.push((text(&route["prefix"]), hops));
        }
        all.sort();
        all
    }

    /// Waits until turnpike's routes of a source are exactly those that somebody else tells.
    #[track_caller]
    pub fn assert_equal(&self, source: &str, theirs: &dyn Fn(bool) -> Vec<Route>) {
        for v6 in [false, true] {
            let same = wait::within(SOON, &mut || (self.routes(source, v6) == theirs(v6)).then_some(()));
            let (ours, theirs) = (self.routes(source, v6), theirs(v6));
            let only = |a: &[Route], b: &[Route]| {
                let b: std::collections::BTreeSet<_> = b.iter().collect();
                a.iter().filter(|route| !b.contains(route)).take(5).cloned().collect::<Vec<_>>()
            };
            assert!(
                same.is_some(),
                "{} routes of {source} here, {} there; only here: {:?}; only there: {:?}",
                ours.len(),
                theirs.len(),
                only(&ours, &theirs),
                only(&theirs, &ours)
            );
            println!("    {} {} routes are equal", ours.len(), if v6 { "IPv6" } else { "IPv4" });
        }
    }

    /// What `show sources` says of the first source of a kind.
    #[track_caller]
    pub fn source(&self, kind: &str) -> Value {
        let shown = self.router().show("sources");
        let found = shown.as_array().expect("sources").iter().find(|source| source["kind"] == kind);
        found.unwrap_or_else(|| panic!("no source of kind {kind}: {shown}")).clone()
    }

    /// A number of `show sources`.
    #[track_caller]
    pub fn count(&self, kind: &str, what: &str) -> u64 {
        self.source(kind)[what].as_u64().unwrap_or_else(|| panic!("{what} of {kind} is no number"))
    }

    /// Whether the far host answers a ping over the link `link` (0 or 1), in the family of `v6`.
    #[track_caller]
    pub fn reaches_over(&self, link: usize, v6: bool) -> bool {
        let target: IpAddr = FAR_HOST[usize::from(v6)].parse().expect("an address");
        self.reaches(link, target, Duration::from_millis(500))
    }

    /// Fails unless it does, however long the answer takes.
    #[track_caller]
    pub fn assert_reaches_over(&self, link: usize, v6: bool, what: &str) {
        let target = FAR_HOST[usize::from(v6)].parse().expect("an address");
        assert!(self.reaches(link, target, echo::PATIENCE), "{what}");
    }

    #[track_caller]
    fn reaches(&self, link: usize, target: IpAddr, patience: Duration) -> bool {
        let record = self.wires[link + 1].record();
        let plan = echo::Plan { source: None, target, size: 56, count: 3, patience, fragments: false };
        let answered = echo::send(&self.lan, &plan).answered == 3;
        let is_to = |frame: &[u8]| crate::frame::ip(frame).is_some_and(|ip| ip.dst == target);
        answered && record.count(Way::FromRouter, is_to) == 3
    }

    /// Waits until it does.
    #[track_caller]
    pub fn wait_for(&self, link: usize) {
        for v6 in [false, true] {
            let what = format!("packets to {} over the link {}", FAR_HOST[usize::from(v6)], LINKS[link + 1]);
            wait::until_true(SOON, &what, || self.reaches_over(link, v6));
        }
    }

    /// Waits until nobody answers.
    #[track_caller]
    pub fn wait_for_none(&self) {
        let reached = || (0..2).any(|link| self.reaches_over(link, false));
        wait::until_true(SOON, "that the far host is not reached any more", || !reached());
    }

    /// A stream from the LAN host to the far host.
    #[track_caller]
    pub fn stream(&self) -> Stream {
        Stream::start(Plan {
            from: &self.lan,
            to: &self.far,
            target: SocketAddr::new(FAR_HOST[0].parse().expect("an address"), 7000),
            flows: 16,
            every: Duration::from_millis(2),
            marker: *b"tables!!",
        })
    }
}

/// The many prefixes, IPv4 then IPv6, each with a gateway of one of the links by turns.
pub fn many() -> Vec<Route> {
    let v4 = (0..MANY[0]).map(|n| format!("10.{}.{}.0/24", 64 + n / 250, n % 250));
    let v6 = (0..MANY[1]).map(|n| format!("2001:db8:a:{n:x}::/64"));
    let gateway = |n: usize, prefix: &str| GATEWAYS[n % 2][usize::from(prefix.contains(':'))].to_owned();
    v4.chain(v6).enumerate().map(|(n, p)| (p.clone(), vec![gateway(n, &p)])).collect()
}

impl Default for Yard {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture for Yard {
    fn describe(&self) -> String {
        format!(
            "\nturnpike in {}, its TAPs and the routing daemon in {}, files in {}\nturnpike show sources --socket {}",
            self.outside.name(),
            self.vrf.name(),
            self.lab.dir().display(),
            self.socket().display()
        )
    }

    fn recover(&mut self) {
        if let Some(zebra) = &mut self.zebra {
            zebra.resume();
        }
        if let Some(bird) = &mut self.bird {
            bird.resume(false);
        }
    }

    fn diagnose(&mut self) -> String {
        let mut text = String::new();
        if let Some(zebra) = &self.zebra {
            text += &format!("-- zebra:\n{}\n", zebra.log_tail(20));
        }
        let Some(router) = &mut self.router else { return text };
        for what in ["sources", "groups", "neighbours", "drops"] {
            let shown = router.try_show(what).map_or_else(|| "no answer".to_owned(), |v| v.to_string());
            text += &format!("-- turnpike show {what}: {}\n", shown.chars().take(4000).collect::<String>());
        }
        text + &format!("-- turnpike:\n{}\n", router.daemon().log_tail(40))
    }
}
