//! The set-up: turnpike with a LAN and a WAN port, gateways on the WAN that are known by their MAC addresses, and the
//! speakers, which come one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::bird::{BirdSpeaker, By};
use super::exabgp::ExabgpSpeaker;
use super::frr::{FpmSpeaker, FrrSpeaker};
use super::gobgp::GobgpSpeaker;
use super::guarded;
use super::openbgpd::OpenbgpdSpeaker;
use super::page::block;
use super::route::{self, Route, Routes, gateway_mac, mac_of};
use super::speaker::{Site, Speaker};
use super::who::{FPM, GOBGP, KERNEL, WHO, Who};
use crate::bird::Bird;
use crate::frame::{self, Mac};
use crate::lab::{Lab, Netns};
use crate::router::Router;
use crate::settings;
use crate::suite::{Fixture, SOON};
use crate::tables;
use crate::wait;
use crate::wire::{Way, Wire};

/// How long a session may take to come up: some daemons wait before they call.
const LIMIT: Duration = Duration::from_mins(1);
/// How long the routes of whoever is lost stay, in seconds.
pub const RETAIN: u64 = 20;
/// The quiet time of FPM, in seconds.
const QUIET: u64 = 2;

const MACS: [Mac; 2] = [[2, 0, 0x5e, 0, 2, 0xa], [2, 0, 0x5e, 0, 2, 0xb]];
const HOST_MAC: Mac = [2, 0, 0, 0, 0, 0x10];
/// Where probe packets come from.
const HOSTS: [&str; 2] = ["198.51.100.9", "2001:db8:1::9"];

/// The set-up. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub struct Yard {
    wires: Vec<Wire>,
    speakers: [Box<dyn Speaker>; 7],
    /// How often each had connected before it was started.
    starts: [Vec<u64>; 7],
    /// What each is to have.
    pub routes: [Routes; 7],
    /// The peer of the page's section on guarded sessions.
    pub edge: Option<Bird>,
    router: Option<Router>,
    outside: Netns,
    /// Where the speakers live.
    pub site: Site,
}

impl Yard {
    /// The namespaces only.
    #[track_caller]
    pub fn new() -> Self {
        let lab = Lab::new();
        let (outside, inside, beside) = (lab.netns("R"), lab.netns("P"), lab.netns("Q"));
        outside.sysctl("ipv6/conf/default/disable_ipv6", "1");
        for netns in [&inside, &beside] {
            netns.without_dad();
        }
        inside.address("lo", "10.255.255.1/24");
        inside.address("lo", "fd00:255::1/128");
        inside.address("lo", "fd00:255::254/128");
        beside.join("wan", &beside, "other");
        beside.address("wan", "192.0.2.1/24");
        beside.address("wan", "2001:db8:2::1/64");
        let speakers: [Box<dyn Speaker>; 7] = [
            Box::new(FrrSpeaker::default()),
            Box::new(BirdSpeaker::new(By::Bgp)),
            Box::new(GobgpSpeaker::default()),
            Box::new(ExabgpSpeaker::default()),
            Box::new(OpenbgpdSpeaker::default()),
            Box::new(FpmSpeaker::default()),
            Box::new(BirdSpeaker::new(By::Kernel)),
        ];
        let (starts, routes) = <_>::default();
        let site = Site { inside, beside, lab };
        Self { wires: Vec::new(), speakers, starts, routes, edge: None, router: None, outside, site }
    }

    /// Starts turnpike with `[bgp]`, `[fpm]` and `[netlink]` of the pages, and those speakers that take their time to
    /// connect.
    #[track_caller]
    pub fn start(&mut self) {
        let socket = self.site.lab.path("turnpike.sock");
        let text = self.config() + &settings::common(&socket);
        self.router = Some(Router::start(&self.site.lab, &self.outside, &text, &socket));
        self.wires =
            ["tplan", "tpwan"].iter().map(|netdev| Wire::attach(&self.outside, netdev, &[])).collect();
        for who in [FPM, GOBGP] {
            self.launch(who, who.feed());
        }
    }

    fn config(&self) -> String {
        let mac = |mac: Mac| mac.map(|b| format!("{b:02x}")).join(":");
        let inside = self.site.inside.name();
        let mut text = format!("[[vrf]]\nname = \"inside\"\nnamespace = \"{inside}\"\n\n");
        let addresses =
            ["\"198.51.100.1/24\", \"2001:db8:1::1/64\"", "\"192.0.2.1/24\", \"2001:db8:2::1/64\""];
        for (n, port) in ["lan", "wan"].iter().enumerate() {
            text += &format!(
                "[[port]]\nname = \"{port}\"\ndevice = \"net_tap{n},iface=tp{port},mac={}\"\n\n[[interface]]\n\
                 name = \"{port}\"\nport = \"{port}\"\nvrf = \"inside\"\naddresses = [{}]\n\n",
                mac(MACS[n]),
                addresses[n]
            );
        }
        for n in 0..route::GATEWAYS {
            for v6 in [false, true] {
                text += &format!(
                    "[[neighbour]]\ninterface = \"wan\"\naddress = \"{}\"\nmac = \"{}\"\n\n",
                    route::gateway(n, v6),
                    mac(gateway_mac(n))
                );
            }
        }
        // The page's peers, in the VRF, and with a shorter time to wait for.
        let retain = tables::hurry(&block("turnpike", 0), "retain = 30", &format!("retain = {RETAIN}"));
        let here = format!("vrf = \"inside\"\nnamespace = \"{inside}\"\n");
        let with = |section: &str| section.replace("\n[[", &format!("{here}\n[[")) + &here;
        let (speaker, peers) = retain.split_once("\n[[").expect("peers on the page");
        text += &format!("{speaker}\n[[{}\n", with(peers));
        let guarded = block(guarded::HEADING, 0);
        let guarded =
            tables::hurry(&guarded, "asn = 12076\n", &format!("asn = 12076\nconnect_retry = 1\n{here}"));
        text += &tables::hurry(&guarded, "peer = \"edge\"\n", "peer = \"edge\"\nvrf = \"inside\"\n");
        let fpm = tables::block("toml fpm");
        let fpm = tables::hurry(&fpm, "quiet = 5", &format!("quiet = {QUIET}"));
        let fpm = tables::hurry(&fpm, "retain = 120", &format!("retain = {RETAIN}"));
        let beside = self.site.beside.name();
        for page in [
            fpm.replace("vrf = \"private\"", &format!("vrf = \"inside\"\nnamespace = \"{beside}\"")),
            tables::block("toml netlink").replace("vrf = \"private\"", "vrf = \"inside\""),
        ] {
            // The VRF is there already.
            text += &page.replace("[[vrf]]\nname = \"private\"\nnamespace = \"private\"\n", "");
        }
        text
    }

    /// The program.
    #[track_caller]
    pub fn router(&self) -> &Router {
        self.router.as_ref().expect("turnpike has been started")
    }

    /// The program, to end it.
    #[track_caller]
    pub fn router_mut(&mut self) -> &mut Router {
        self.router.as_mut().expect("turnpike has been started")
    }

    /// Starts a speaker with these routes.
    #[track_caller]
    pub fn launch(&mut self, who: Who, routes: Routes) {
        self.starts[who.index] = self.starts_of(who);
        self.speakers[who.index].start(&self.site, &routes);
        self.routes[who.index] = routes;
    }

    /// Whether it is connected since it was started.
    #[track_caller]
    pub fn is_back(&self, who: Who) -> bool {
        let anew = self.starts_of(who).iter().zip(&self.starts[who.index]).all(|(now, then)| now > then);
        // The kernel is always there.
        who.index == KERNEL.index || anew && who.sources.iter().all(|source| self.is_up(source))
    }

    /// Waits until it is connected.
    #[track_caller]
    pub fn wait_for(&self, who: Who) {
        wait::until_true(LIMIT, &format!("the connection with {}", who.name()), || self.is_back(who));
    }

    /// Has it announce these instead.
    #[track_caller]
    pub fn set(&mut self, who: Who, routes: Routes) {
        let before = std::mem::replace(&mut self.routes[who.index], routes);
        self.speakers[who.index].set(&self.site, &before, &self.routes[who.index]);
    }

    /// Has it leave gracefully, and waits until turnpike knows.
    #[track_caller]
    pub fn leave(&mut self, who: Who) {
        self.speakers[who.index].leave(&self.site);
        self.wait_for_loss(who);
    }

    /// Kills it, and waits until turnpike knows.
    #[track_caller]
    pub fn kill(&mut self, who: Who) {
        self.speakers[who.index].kill();
        self.wait_for_loss(who);
    }

    fn wait_for_loss(&self, who: Who) {
        for source in who.sources.iter().filter(|_| who.index != KERNEL.index) {
            wait::until_true(LIMIT, &format!("the loss of {source}"), || !self.is_up(source));
        }
    }

    fn source(&self, name: &str) -> Option<Value> {
        let shown = self.router().ask([json!({"show": "sources"})]).pop()??;
        shown.as_array()?.iter().find(|source| source["name"] == name).cloned()
    }

    /// Whether a source is connected.
    pub fn is_up(&self, source: &str) -> bool {
        self.source(source).is_some_and(|source| source["up"] == true)
    }

    fn starts_of(&self, who: Who) -> Vec<u64> {
        let starts = |source: &&str| self.source(source).and_then(|source| source["starts"].as_u64());
        who.sources.iter().map(|source| starts(source).unwrap_or(0)).collect()
    }

    /// What turnpike shows of a peer.
    pub fn peer(&self, name: &str) -> Option<Value> {
        let shown = self.router().ask([json!({"show": "bgp"})]).pop()??;
        shown.as_array()?.iter().find(|peer| peer["name"] == name).cloned()
    }

    /// The prefixes that are in turnpike's tables by this speaker alone, with their next hops.
    #[track_caller]
    pub fn installed(&self, who: Who) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for source in who.sources {
            let mut question = json!({"show": "routes", "source": source});
            // It has announced nothing yet.
            while let Some(page) = self.router().ask([question.clone()]).pop().flatten() {
                let routes = page["routes"].as_array().into_iter().flatten();
                for route in routes.filter(|r| r["source"] == **source && r["installed"] == true) {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let hops: Vec<String> = route["via"].as_array().into_iter().flatten().map(text).collect();
                    all.insert(text(&route["prefix"]), hops.join(" "));
                }
                question["after"] = page["next"].clone();
                if question["after"].is_null() {
                    break;
                }
            }
        }
        all
    }

    /// What turnpike has of these prefixes from a speaker, whether it is used or not.
    #[track_caller]
    fn paths(&self, who: Who, prefixes: &[&Route]) -> Routes {
        let questions = prefixes.iter().map(|route| json!({"show": "routes", "target": route.prefix}));
        let answers = self.router().ask(questions);
        let mut all = Routes::new();
        for (route, answer) in prefixes.iter().zip(answers) {
            let exact = answer.into_iter().flat_map(|a| a.as_array().cloned().unwrap_or_default());
            for found in exact.filter(|found| found["prefix"] == route.prefix) {
                let paths = found["paths"].as_array().cloned().unwrap_or_default();
                let ours = |path: &&Value| who.sources.iter().any(|source| path["source"] == **source);
                all.extend(paths.iter().filter(ours).filter_map(|p| Route::of_turnpike(&route.prefix, p)));
            }
        }
        all
    }

    /// All that turnpike says of the way to an address.
    pub fn chain(&self, to: IpAddr) -> String {
        let answer = self.router().ask([json!({"show": "routes", "target": to.to_string()})]).pop();
        format!("{to}: {:#}", answer.flatten().unwrap_or_default())
    }

    /// The routes of which all is compared, and over which packets are sent: the page's, and some of its own and the shared
    /// ones.
    fn sample(routes: &Routes) -> Vec<&Route> {
        let some = |(i, route): &(usize, &Route)| route.on_page() || i % 11 == 0;
        routes.iter().enumerate().filter(some).map(|(_, route)| route).collect()
    }

    /// Waits until what the speaker says that it has, what it is to have, and what turnpike has are the same: all prefixes
    /// with their next hops, and a part of them with all attributes; and until packets follow.
    #[track_caller]
    pub fn holds(&self, who: Who) {
        let wanted = &self.routes[who.index];
        let theirs = wait::within(SOON, &mut || {
            let dump = self.speakers[who.index].dump(&self.site);
            (dump == *wanted).then_some(dump)
        });
        let Some(theirs) = theirs else {
            let dump = self.speakers[who.index].dump(&self.site);
            panic!("{}'s own dump: {}", who.name(), apart(&dump, wanted));
        };
        let own: BTreeMap<String, String> =
            theirs.iter().filter(|r| !r.shared()).map(|r| (r.prefix.clone(), r.hop.clone())).collect();
        let ours = || {
            let mut installed = self.installed(who);
            installed.retain(|prefix, hop| !Route::plain(prefix.clone(), hop.clone()).shared());
            installed
        };
        if wait::within(SOON, &mut || (ours() == own).then_some(())).is_none() {
            let list =
                |all: BTreeMap<String, String>| all.into_iter().map(|(p, h)| Route::plain(p, h)).collect();
            panic!("{}'s routes here: {}", who.name(), apart(&list(ours()), &list(own)));
        }
        let sample = Self::sample(&theirs);
        let wanted: Routes = sample.iter().map(|route| (*route).clone()).collect();
        let ours = || self.paths(who, &sample);
        let same = wait::within(SOON, &mut || (ours() == wanted).then_some(()));
        assert!(
            same.is_some(),
            "{}'s routes here with their attributes: {}",
            who.name(),
            apart(&ours(), &wanted)
        );
        let own: Vec<&Route> = sample.into_iter().filter(|route| !route.shared()).collect();
        self.forwards(&own);
    }

    /// Waits until a packet to each of these routes leaves towards its next hop.
    #[track_caller]
    pub fn forwards(&self, routes: &[&Route]) {
        let wanted: Vec<(IpAddr, Mac)> = routes.iter().map(|r| (r.address(), mac_of(&r.hop))).collect();
        let addresses: Vec<IpAddr> = wanted.iter().map(|(address, _)| *address).collect();
        let right = || self.probe(&addresses).into_iter().zip(&wanted).all(|(to, (_, mac))| to == Some(*mac));
        if wait::within(SOON, &mut || right().then_some(())).is_none() {
            let got = self.probe(&addresses);
            let wrong = got.iter().zip(&wanted).zip(routes).find(|((to, (_, mac)), _)| **to != Some(*mac));
            panic!("a packet by {:?} went to {:02x?}", wrong.map(|w| w.1), wrong.map(|w| w.0.0));
        }
    }

    /// Sends a packet to each of these addresses; yields the MAC address it was sent on to, if it was.
    #[track_caller]
    pub fn probe(&self, addresses: &[IpAddr]) -> Vec<Option<Mac>> {
        let record = self.wires[1].record();
        // The last ones lead to a neighbour, whatever routes there are: when they are through, so are the others of their
        // family.
        let last: [IpAddr; 2] = [false, true].map(|v6| route::gateway(0, v6).parse().expect("an address"));
        for to in addresses.iter().chain(&last) {
            let (from, kind): (IpAddr, u16) = match to {
                IpAddr::V4(_) => (HOSTS[0].parse().expect("an address"), frame::IPV4),
                IpAddr::V6(_) => (HOSTS[1].parse().expect("an address"), frame::IPV6),
            };
            let packet = frame::udp((from, 4000), (*to, 5000), 64, b"speakers");
            self.wires[0].inject(&frame::build(MACS[0], HOST_MAC, &[], kind, &packet));
        }
        let is_to = |to: IpAddr| move |seen: &[u8]| frame::ip(seen).is_some_and(|ip| ip.dst == to);
        wait::until_true(SOON, "packets to a neighbour", || {
            last.iter().all(|last| record.count(Way::FromRouter, is_to(*last)) > 0)
        });
        let mut seen = BTreeMap::new();
        for frame in record.frames(Way::FromRouter, |_| true) {
            if let (Some(ip), Some(mac)) = (frame::ip(&frame.frame), frame.frame.first_chunk::<6>()) {
                seen.insert(ip.dst, *mac);
            }
        }
        addresses.iter().map(|to| seen.get(to).copied()).collect()
    }
}

/// In what two sets of routes differ.
fn apart(got: &Routes, wanted: &Routes) -> String {
    let some = |a: &Routes, b: &Routes| a.difference(b).take(3).cloned().collect::<BTreeSet<Route>>();
    let (surplus, missing) = (some(got, wanted), some(wanted, got));
    format!("{} instead of {}; surplus {surplus:#?}, missing {missing:#?}", got.len(), wanted.len())
}

impl Default for Yard {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture for Yard {
    fn describe(&self) -> String {
        let (inside, socket) = (self.site.inside.name(), self.site.lab.path("turnpike.sock"));
        format!("the speakers are in {inside}; turnpike show sources --socket {}", socket.display())
    }

    fn diagnose(&mut self) -> String {
        let mut text = String::new();
        for (who, speaker) in WHO.iter().zip(&self.speakers) {
            text += &format!("-- {}:\n{}\n", who.name(), speaker.log_tail());
        }
        let Some(router) = &mut self.router else { return text };
        let shown = router.try_show("bgp").map_or_else(|| "no answer".to_owned(), |v| v.to_string());
        text + &format!("-- show bgp: {shown}\n-- turnpike:\n{}\n", router.daemon().log_tail(20))
    }
}
