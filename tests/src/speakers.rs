//! Real BGP daemons that push routes to turnpike: FRR, BIRD, GoBGP, ExaBGP and OpenBGPD, alone and together, each with
//! the configuration of docs/bgp.md and some more routes. What turnpike holds is compared with what the daemon itself
//! says that it has, and packets go where the routes lead.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bird::Bird;
use crate::frame::{self, Mac};
use crate::frr::Frr;
use crate::lab::{Lab, Netns};
use crate::process::{Daemon, output};
use crate::router::Router;
use crate::settings;
use crate::suite::{Fixture, Step};
use crate::wait;
use crate::wire::{Way, Wire};

/// Routes that each daemon has besides the one of the page.
const MORE: usize = 2000;
/// GoBGP takes them one by one over its API.
const MORE_BY_API: usize = 200;
const LIMIT: Duration = Duration::from_mins(1);

const MACS: [Mac; 2] = [[2, 0, 0x5e, 0, 2, 0xa], [2, 0, 0x5e, 0, 2, 0xb]];
const HOST_MAC: Mac = [2, 0, 0, 0, 0, 0x10];
const GATEWAY_MAC: Mac = [2, 0, 0, 0, 0, 0xfe];

/// The five, with the second byte of their routes.
const FRR: (&str, u8) = ("frr", 100);
const BIRD: (&str, u8) = ("bird", 101);
const GOBGP: (&str, u8) = ("gobgp", 102);
const EXABGP: (&str, u8) = ("exabgp", 103);
const OPENBGPD: (&str, u8) = ("openbgpd", 104);

/// The steps, in order.
pub const STEPS: &[Step<Yard>] = &[
    ("frr_pushes_changes_and_withdraws", |yard| {
        yard.start_frr();
        yard.holds(FRR, Yard::frr_dump);
        yard.forwards(FRR.1);
        yard.frr().configure(&[
            "router bgp 65010",
            "address-family ipv4 unicast",
            "no network 10.100.7.0/24",
        ]);
        yard.gone("10.100.7.0/24");
        yard.holds(FRR, Yard::frr_dump);
    }),
    ("bird_pushes_restarts_and_comes_back", |yard| {
        yard.start_bird();
        yard.holds(BIRD, Yard::bird_dump);
        yard.forwards(BIRD.1);
        // Killed, and back with the same routes: none was lost meanwhile.
        let before = yard.routes_of(BIRD);
        yard.bird.as_mut().expect("started").kill();
        yard.not_established(BIRD.0);
        assert_eq!(yard.routes_of(BIRD), before, "they stay");
        yard.forwards(BIRD.1);
        yard.bird.as_mut().expect("started").resume(true);
        yard.established(BIRD.0);
        yard.holds(BIRD, Yard::bird_dump);
        assert_eq!(yard.routes_of(BIRD), before);
    }),
    ("gobgp_pushes_and_withdraws", |yard| {
        yard.start_gobgp();
        yard.holds(GOBGP, Yard::gobgp_dump);
        yard.forwards(GOBGP.1);
        yard.gobgp(&["global", "rib", "del", "10.102.7.0/24"]);
        yard.gone("10.102.7.0/24");
        yard.holds(GOBGP, Yard::gobgp_dump);
    }),
    ("exabgp_pushes", |yard| {
        yard.start_exabgp();
        let wanted = more(EXABGP.1, MORE);
        yard.holds(EXABGP, |_| wanted.clone());
        yard.forwards(EXABGP.1);
    }),
    ("openbgpd_pushes", |yard| {
        yard.start_openbgpd();
        yard.holds(OPENBGPD, Yard::openbgpd_dump);
        yard.forwards(OPENBGPD.1);
    }),
    ("one_that_is_killed_takes_nothing_from_the_others", |yard| {
        let before: Vec<_> = [FRR, BIRD, GOBGP, OPENBGPD].map(|who| yard.routes_of(who)).into();
        yard.exabgp = None;
        yard.not_established(EXABGP.0);
        let after: Vec<_> = [FRR, BIRD, GOBGP, OPENBGPD].map(|who| yard.routes_of(who)).into();
        assert_eq!(before, after);
        for who in [FRR, BIRD, GOBGP, OPENBGPD, EXABGP] {
            yard.forwards(who.1);
        }
    }),
    ("turnpike_takes_leave_of_all_of_them", |yard| {
        let bird = yard.bird.as_ref().expect("started");
        assert!(bird.established("turnpike"));
        assert_eq!(yard.router.as_mut().expect("started").stop(libc::SIGTERM).code(), Some(0));
        let said =
            || yard.bird.as_ref().is_some_and(|bird| bird.log_tail(50).contains("Administrative shutdown"));
        wait::until_true(LIMIT, "BIRD to hear the Cease", said);
    }),
];

/// The set-up. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub struct Yard {
    wires: Vec<Wire>,
    frr: Option<Frr>,
    bird: Option<Bird>,
    gobgp: Option<Daemon>,
    exabgp: Option<Daemon>,
    openbgpd: Option<Daemon>,
    router: Option<Router>,
    outside: Netns,
    inside: Netns,
    lab: Lab,
}

/// The code block number `index` under a heading of docs/bgp.md.
#[track_caller]
pub fn block(heading: &str, index: usize) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bgp.md");
    let page = std::fs::read_to_string(&page).expect("docs/bgp.md");
    let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let section = section.unwrap_or_else(|| panic!("docs/bgp.md has no section {heading}"));
    let block =
        section.split("```").nth(2 * index + 1).unwrap_or_else(|| panic!("{heading}: no block {index}"));
    block.split_once('\n').expect("a block of lines").1.to_owned()
}

/// `10.<second>.0.0/16` and the routes below it.
fn more(second: u8, count: usize) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = (0..count).map(|i| prefix(second, i)).collect();
    all.insert(format!("10.{second}.0.0/16"));
    all
}

/// Number `i` of the routes below `10.<second>.0.0/16`: 256 of /24, then longer ones.
fn prefix(second: u8, i: usize) -> String {
    if i < 256 { format!("10.{second}.{i}.0/24") } else { format!("10.{second}.{}.{}/32", i % 256, i / 256) }
}

/// The routes below `10.<second>.0.0/16`, each between these words of a configuration.
fn lines(second: u8, before: &str, after: &str) -> String {
    let all: Vec<String> = (0..MORE).map(|i| format!("{before}{}{after}", prefix(second, i))).collect();
    all.concat()
}

/// The prefixes within `10.<second>.0.0/16` that a text names.
fn prefixes_in(text: &str, second: u8) -> BTreeSet<String> {
    let start = format!("10.{second}.");
    text.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '/'))
        .filter(|word| word.starts_with(&start) && word.contains('/'))
        .map(str::to_owned)
        .collect()
}

impl Yard {
    /// The namespaces only.
    #[track_caller]
    pub fn new() -> Self {
        let lab = Lab::new();
        let (outside, inside) = (lab.netns("R"), lab.netns("P"));
        outside.sysctl("ipv6/conf/default/disable_ipv6", "1");
        inside.address("lo", "10.255.255.1/24");
        Self {
            wires: Vec::new(),
            frr: None,
            bird: None,
            gobgp: None,
            exabgp: None,
            openbgpd: None,
            router: None,
            outside,
            inside,
            lab,
        }
    }

    /// Starts turnpike with the page's `[bgp]`.
    #[track_caller]
    pub fn start(&mut self) {
        let socket = self.lab.path("turnpike.sock");
        let mac = |mac: Mac| mac.map(|b| format!("{b:02x}")).join(":");
        let mut text = String::new();
        for (n, (port, address)) in [("lan", "198.51.100.1/24"), ("wan", "192.0.2.1/24")].iter().enumerate() {
            let device = format!("net_tap{n},iface=tp{port},mac={}", mac(MACS[n]));
            text += &format!(
                "[[port]]\nname = \"{port}\"\ndevice = \"{device}\"\n\n[[interface]]\nname = \"{port}\"\n"
            );
            text += &format!("port = \"{port}\"\nvrf = \"inside\"\naddresses = [\"{address}\"]\n\n");
        }
        let namespace = self.inside.name();
        text += &format!("[[vrf]]\nname = \"inside\"\nnamespace = \"{namespace}\"\n\n[[neighbour]]\n");
        text +=
            &format!("interface = \"wan\"\naddress = \"192.0.2.254\"\nmac = \"{}\"\n\n", mac(GATEWAY_MAC));
        let bgp = block("turnpike", 0);
        let here = format!("asn = 65010\nvrf = \"inside\"\nnamespace = \"{namespace}\"\n");
        let (speaker, peers) = bgp.split_once("[[bgp.peer]]").expect("peers on the page");
        text += &format!("{speaker}[[bgp.peer]]{}\n", peers.replace("asn = 65010\n", &here));
        text += &settings::common(&socket);
        self.router = Some(Router::start(&self.lab, &self.outside, &text, &socket));
        self.wires =
            ["tplan", "tpwan"].iter().map(|netdev| Wire::attach(&self.outside, netdev, &[])).collect();
    }

    #[track_caller]
    fn router(&self) -> &Router {
        self.router.as_ref().expect("turnpike has been started")
    }

    fn frr(&self) -> &Frr {
        self.frr.as_ref().expect("FRR has been started")
    }

    /// A daemon in the namespace, by its program and words.
    #[track_caller]
    fn daemon(&self, name: &str, program: &str, words: &[&str], environment: &[(&str, &str)]) -> Daemon {
        let mut command = self.inside.command(program);
        command.args(words).envs(environment.iter().copied());
        Daemon::start(name, &mut command, &self.lab.path(&format!("{name}.log")))
    }

    #[track_caller]
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.lab.path(name);
        std::fs::write(&path, text).expect("a configuration");
        path
    }

    #[track_caller]
    fn start_frr(&mut self) {
        let mut config = block("FRR", 0);
        let lines = lines(FRR.1, "  network ", " route-map VIA\n");
        config = config.replacen(
            "  neighbor 10.255.255.254 addpath",
            &format!("{lines}  neighbor 10.255.255.254 addpath"),
            1,
        );
        self.frr = Some(Frr::start(&self.lab, &self.inside, "speaker", &format!("log stdout\n{config}")));
        self.established(FRR.0);
    }

    fn frr_dump(&self) -> BTreeSet<String> {
        prefixes_in(&self.frr().vtysh(&["show bgp ipv4 unicast json"]).replace("\\/", "/"), FRR.1)
    }

    #[track_caller]
    fn start_bird(&mut self) {
        let lines = lines(BIRD.1, "  route ", " via 192.0.2.254;\n");
        let config = block("BIRD 2", 0).replacen("  ipv4;\n", &format!("  ipv4;\n{lines}"), 1);
        self.bird = Some(Bird::start(&self.lab, &self.inside, "speaker", &config));
        self.established(BIRD.0);
    }

    fn bird_dump(&self) -> BTreeSet<String> {
        prefixes_in(&self.bird.as_ref().expect("started").birdc("show route"), BIRD.1)
    }

    #[track_caller]
    fn start_gobgp(&mut self) {
        let path = self.write("gobgpd.toml", &block("GoBGP", 0));
        let words = ["-f", &path.to_string_lossy(), "-l", "info"];
        self.gobgp = Some(self.daemon("gobgpd", "gobgpd", &words, &[]));
        self.established(GOBGP.0);
        self.gobgp(&["global", "rib", "add", "10.102.0.0/16", "nexthop", "192.0.2.254"]);
        for i in 0..MORE_BY_API {
            self.gobgp(&["global", "rib", "add", &prefix(GOBGP.1, i), "nexthop", "192.0.2.254"]);
        }
    }

    #[track_caller]
    fn gobgp(&self, words: &[&str]) -> String {
        crate::process::run(self.inside.command("gobgp").args(words))
    }

    fn gobgp_dump(&self) -> BTreeSet<String> {
        prefixes_in(&self.gobgp(&["global", "rib"]), GOBGP.1)
    }

    #[track_caller]
    fn start_exabgp(&mut self) {
        let lines = lines(EXABGP.1, "    route ", " next-hop 192.0.2.254;\n");
        let config = block("ExaBGP", 0).replacen("  static {\n", &format!("  static {{\n{lines}"), 1);
        let path = self.write("exabgp.conf", &config);
        let environment = [
            ("exabgp.daemon.user", "root"),
            ("exabgp.api.cli", "false"),
            ("exabgp.log.destination", "stdout"),
        ];
        self.exabgp = Some(self.daemon("exabgp", "exabgp", &[&path.to_string_lossy()], &environment));
        self.established(EXABGP.0);
    }

    #[track_caller]
    fn start_openbgpd(&mut self) {
        let lines = lines(OPENBGPD.1, "network ", " set nexthop 192.0.2.254\n");
        let socket = self.lab.path("bgpd.sock");
        let text = format!("socket \"{}\"\n{lines}{}", socket.display(), block("OpenBGPD", 0));
        let path = self.write("bgpd.conf", &text);
        // Its parts go to live in this directory, which its service makes elsewhere.
        std::fs::create_dir_all("/run/openbgpd").expect("/run/openbgpd");
        // It refuses a file that others can read.
        crate::process::run(Command::new("chmod").arg("600").arg(&path));
        self.openbgpd =
            Some(self.daemon("openbgpd", "/usr/sbin/bgpd", &["-d", "-f", &path.to_string_lossy()], &[]));
        self.established(OPENBGPD.0);
    }

    fn openbgpd_dump(&self) -> BTreeSet<String> {
        let mut command = self.inside.command("/usr/sbin/bgpctl");
        command.arg("-s").arg(self.lab.path("bgpd.sock")).args(["show", "rib"]);
        prefixes_in(&String::from_utf8_lossy(&output(&mut command).stdout), OPENBGPD.1)
    }

    fn state(&self, name: &str) -> Option<String> {
        let shown = self.router().try_show("bgp")?;
        let peer = shown.as_array()?.iter().find(|peer| peer["name"] == name)?.clone();
        Some(peer["state"].as_str()?.to_owned())
    }

    #[track_caller]
    fn established(&self, name: &str) {
        let what = format!("the session with {name}");
        wait::until_true(LIMIT, &what, || self.state(name).as_deref() == Some("Established"));
    }

    #[track_caller]
    fn not_established(&self, name: &str) {
        let what = format!("the session with {name} to end");
        wait::until_true(LIMIT, &what, || self.state(name).is_some_and(|state| state != "Established"));
    }

    /// The installed prefixes that turnpike has of one of the five.
    fn routes_of(&self, (name, second): (&str, u8)) -> BTreeSet<String> {
        let routes = self.router().show("routes");
        let of = |route: &&serde_json::Value| route["source"] == name && route["installed"] == true;
        let all = routes.as_array().into_iter().flatten().filter(of);
        let prefixes = all.filter_map(|route| route["prefix"].as_str()).map(str::to_owned);
        prefixes.filter(|prefix| prefix.starts_with(&format!("10.{second}."))).collect()
    }

    /// Waits until turnpike holds exactly what the daemon says that it has, which must be some hundreds at least.
    #[track_caller]
    fn holds(&self, who: (&str, u8), dump: impl Fn(&Self) -> BTreeSet<String>) {
        // The daemon may still be reading its own routes.
        let same = || {
            let wanted = dump(self);
            wanted.len() >= MORE_BY_API && wanted == self.routes_of(who)
        };
        let held = wait::within(Duration::from_secs(30), &mut || same().then_some(()));
        if held.is_none() {
            let (wanted, got) = (dump(self), self.routes_of(who));
            let missing: Vec<_> = wanted.difference(&got).take(5).collect();
            let surplus: Vec<_> = got.difference(&wanted).take(5).collect();
            panic!("{}: {} of {}; missing {missing:?}, surplus {surplus:?}", who.0, got.len(), wanted.len());
        }
    }

    #[track_caller]
    fn gone(&self, prefix: &str) {
        wait::until_true(LIMIT, &format!("{prefix} to go"), || {
            let routes = self.router().show("routes");
            !routes.as_array().into_iter().flatten().any(|route| route["prefix"] == prefix)
        });
    }

    /// A packet to a host behind one of the routes leaves the WAN port, towards the gateway.
    #[track_caller]
    fn forwards(&self, second: u8) {
        let (from, to) = (IpAddr::from([198, 51, 100, 9]), IpAddr::from([10, second, 3, 99]));
        let packet = frame::udp((from, 4000), (to, 5000), 64, b"speakers");
        let sent = frame::build(MACS[0], HOST_MAC, &[], frame::IPV4, &packet);
        let record = self.wires[1].record();
        let towards_gateway = move |seen: &[u8]| {
            seen.starts_with(&GATEWAY_MAC) && frame::ip(seen).is_some_and(|ip| ip.dst == to)
        };
        self.wires[0].inject(&sent);
        let passed = || record.count(Way::FromRouter, towards_gateway) == 1;
        wait::until_true(Duration::from_secs(5), &format!("a packet to {to} to pass"), passed);
    }
}

impl Default for Yard {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture for Yard {
    fn diagnose(&mut self) -> String {
        let mut text = String::new();
        for daemon in [&self.gobgp, &self.exabgp, &self.openbgpd].into_iter().flatten() {
            text += &format!("-- daemon:\n{}\n", daemon.log_tail(15));
        }
        if let Some(bird) = &self.bird {
            text += &format!("-- bird:\n{}\n", bird.log_tail(10));
        }
        if let Some(frr) = &self.frr {
            text += &format!("-- frr:\n{}\n", frr.log_tail(10));
        }
        let Some(router) = &mut self.router else { return text };
        let shown = router.try_show("bgp").map_or_else(|| "no answer".to_owned(), |v| v.to_string());
        text + &format!("-- show bgp: {shown}\n-- turnpike:\n{}\n", router.daemon().log_tail(20))
    }
}
