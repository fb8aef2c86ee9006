//! A host on the LAN, turnpike, and a host behind a circuit's two tags on a link of a lower MTU: what the tools that
//! people take to look at a path show of us, and whether hosts find out what fits.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::counters::{Counters, Port};
use crate::echo;
use crate::frame::{self, Tag};
use crate::host;
use crate::lab::{Lab, Netns};
use crate::process;
use crate::router::Router;
use crate::settings;
use crate::suite::{Fixture, SOON, Step};
use crate::wait;
use crate::wire::{self, End, Seen, Way, Wire};

/// The host on the LAN and ours there, IPv4 then IPv6.
const LAN: [[&str; 2]; 2] = [["192.0.2.10", "192.0.2.1"], ["2001:db8:1a0::10", "2001:db8:1a0::1"]];
/// The host behind the two tags and ours there.
const FAR: [[&str; 2]; 2] = [["172.16.0.2", "172.16.0.1"], ["fd00:16::2", "fd00:16::1"]];
/// MTU of the far link.
const FAR_MTU: u16 = 1400;
/// Ours in another prefix of that link, where nobody is.
const NOBODY: [&str; 2] = ["172.18.0", "fd00:18:"];
/// What may not leave by that link, nor by the last of [`NARROW`].
const DENIED_PORT: u16 = 5003;
/// C-tag and MTU of two links to the same place.
const NARROW: [(u16, u16); 2] = [(21, 1200), (22, 1000)];
/// What is behind both of them.
const BEYOND: &str = "198.51.100";
/// MTU of both links where frames are large.
const JUMBO: u16 = 9000;

/// The set-up.
#[derive(Debug)]
pub struct Paths {
    wires: Vec<Wire>,
    router: Option<Router>,
    lan: Netns,
    far: Netns,
    outside: Netns,
    vrf: Netns,
    lab: Lab,
    /// MTUs of the ports and the LAN, and of the far link.
    mtu: [u16; 2],
}

impl Paths {
    /// The namespaces only.
    #[track_caller]
    pub fn new() -> Self {
        Self::of_mtu([wire::MTU, FAR_MTU])
    }

    /// The same for jumbo frames on both links. DPDK's TAPs have no MTU over 1504, so these ports are veth pairs.
    #[track_caller]
    pub fn jumbo() -> Self {
        Self::of_mtu([JUMBO, JUMBO])
    }

    #[track_caller]
    fn of_mtu(mtu: [u16; 2]) -> Self {
        let lab = Lab::new();
        let [outside, vrf, lan, far] = ["R", "P", "A", "B"].map(|name| lab.netns(name));
        outside.sysctl("ipv6/conf/default/disable_ipv6", "1");
        Self { wires: Vec::new(), router: None, lan, far, outside, vrf, lab, mtu }
    }

    /// Starts turnpike, and joins the hosts to it.
    #[track_caller]
    pub fn start(&mut self) {
        let [port_mtu, far_mtu] = self.mtu;
        let socket = self.socket();
        let mut config = String::new();
        for (number, port) in ["lan", "wan"].iter().enumerate() {
            let device = if port_mtu == JUMBO {
                let own = format!("pc{port}");
                self.outside.join(&own, &self.outside, &format!("tp{port}"));
                self.outside.ip(&format!("link set {own} mtu {} promisc on up", JUMBO + 100));
                format!("net_pcap{number},rx_iface_in={own},tx_iface={own}")
            } else {
                format!("net_tap{number},iface=tp{port},mac=02:00:5e:00:03:0{number}")
            };
            config += &format!("[[port]]\nname = \"{port}\"\ndevice = \"{device}\"\nmtu = {port_mtu}\n\n");
        }
        config += &format!(
            "[[vrf]]\nname = \"customer\"\nnamespace = \"{}\"\n\n\
             [[interface]]\nname = \"lan\"\nport = \"lan\"\nvrf = \"customer\"\nvlan = 30\nacl_out = \"others\"\n\
             addresses = [\"{}/24\", \"{}/64\"]\n\n\
             [[interface]]\nname = \"far\"\nport = \"wan\"\nvrf = \"customer\"\ns_tag = 100\nc_tag = 10\nmtu = {far_mtu}\n\
             acl_out = \"not-there\"\naddresses = [\"{}/30\", \"{}/126\", \"{}.1/24\", \"{}:1/64\"]\n\n",
            self.vrf.name(),
            LAN[0][1],
            LAN[1][1],
            FAR[0][1],
            FAR[1][1],
            NOBODY[0],
            NOBODY[1]
        );
        // Errors as we make them: for others' only.
        config += "[[acl]]\nname = \"others\"\nrules = [\"deny icmp type 11\", \"deny icmp type 3 code 4\", \
                   \"deny icmpv6 type 2-3\", \"permit any\"]\n\n";
        config += &format!(
            "[[acl]]\nname = \"not-there\"\nrules = [\"deny udp to any port {DENIED_PORT}\", \"permit any\"]\n\n"
        );
        // Two links with equal routes, one of a lower MTU. Nobody is there.
        for (c_tag, mtu) in NARROW {
            let list = if (c_tag, mtu) == NARROW[1] { "acl_out = \"not-there\"\n" } else { "" };
            config += &format!(
                "[[interface]]\nname = \"narrow-{mtu}\"\nport = \"wan\"\nvrf = \"customer\"\ns_tag = 100\nc_tag = {c_tag}\n\
                 mtu = {mtu}\n{list}addresses = [\"172.17.{c_tag}.1/30\"]\n\n\
                 [[neighbour]]\ninterface = \"narrow-{mtu}\"\naddress = \"172.17.{c_tag}.2\"\nmac = \"02:00:00:00:00:{c_tag}\"\n\n"
            );
        }
        config += &format!(
            "[[route]]\nprefix = \"{BEYOND}.0/24\"\nvrf = \"customer\"\nvia = {:?}\n\n",
            NARROW.map(|(c_tag, _)| format!("172.17.{c_tag}.2"))
        );
        config += &settings::common(&socket);
        self.router = Some(Router::start(&self.lab, &self.outside, &config, &socket));
        let ends = [
            (&self.lan, LAN, [24, 64], vec![Tag::new(0x8100, 30)]),
            (&self.far, FAR, [30, 126], vec![Tag::new(0x8100, 100), Tag::new(0x8100, 10)]),
        ];
        for ((host, addresses, lengths, tags), netdev) in ends.into_iter().zip(["tplan", "tpwan"]) {
            let end = End::of_mtu(host, "eth0", &tags, port_mtu);
            for ([own, via], length) in addresses.into_iter().zip(lengths) {
                host.address("eth0", &format!("{own}/{length}"));
                host.ip(&format!("route add default via {via}"));
            }
            self.wires.push(Wire::attach_of_mtu(&self.outside, netdev, &[end], port_mtu));
        }
        for [far, _] in FAR {
            wait::until_true(SOON, "the far host to answer", || self.answers(far));
        }
    }

    fn socket(&self) -> PathBuf {
        self.lab.path("turnpike.sock")
    }

    #[track_caller]
    fn router(&self) -> &Router {
        self.router.as_ref().expect("turnpike has been started")
    }

    /// What the LAN's port has counted since `before`, once so many frames have come in and been seen to.
    #[track_caller]
    fn settled(&self, before: &Counters, frames: u64) -> Port {
        let received = || Counters::read(self.router()).since(before, "lan").received;
        wait::until_true(SOON, "the frames to come in", || received() >= frames);
        Counters::settled(self.router()).since(before, "lan")
    }

    /// Packs IP packets into frames of the LAN host.
    #[track_caller]
    fn framer(&self) -> impl Fn(&[u8]) -> Vec<u8> {
        let mac = self.lan.mac("eth0");
        let bytes: Vec<u8> = mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let source: frame::Mac = bytes.try_into().expect("six bytes");
        move |packet| {
            let ethertype = if packet[0] >> 4 == 6 { frame::IPV6 } else { frame::IPV4 };
            frame::build([2, 0, 0x5e, 0, 3, 0], source, &[Tag::new(0x8100, 30)], ethertype, packet)
        }
    }

    /// Forgets what the hosts have learned of paths.
    #[track_caller]
    fn forget(&self) {
        for host in [&self.lan, &self.far] {
            host.ip("route flush cache");
            host.ip("-6 route flush cache");
        }
    }

    /// Whether the far host answers the one on the LAN.
    #[track_caller]
    fn answers(&self, far: &str) -> bool {
        let patience = Duration::from_secs(1);
        let plan =
            echo::Plan { source: None, target: ip(far), size: 56, count: 1, patience, fragments: false };
        echo::send(&self.lan, &plan).answered == 1
    }

    /// Has turnpike forget where a host is.
    #[track_caller]
    fn forget_neighbour(&self, address: &str) {
        wait::until_true(SOON, "the host to be forgotten", || {
            // The host may make itself known again at any time.
            self.vrf.ip(&format!("neigh flush {address}"));
            let shown = self.router().show("neighbours");
            shown
                .as_array()
                .is_some_and(|all| all.iter().all(|n| n["address"] != address || n["mac"].is_null()))
        });
    }

    /// Has a tool print what it finds from the LAN host, which has to be `right`. Tools have little patience, so on a
    /// busy machine they get three tries.
    #[track_caller]
    fn ask(&self, words: &[&str], right: impl Fn(&str) -> bool) {
        println!("    {}", words.join(" "));
        let mut text = String::new();
        for _ in 0..3 {
            text = process::run(self.lan.command("timeout").args(["-k", "5", "60"]).args(words));
            if right(&text) {
                return;
            }
        }
        panic!("{words:?}:\n{text}");
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture for Paths {
    fn describe(&self) -> String {
        format!(
            "\nturnpike in {}, its TAPs in {}, the hosts in {} and {}\nturnpike show ports --socket {}",
            self.outside.name(),
            self.vrf.name(),
            self.lan.name(),
            self.far.name(),
            self.socket().display()
        )
    }

    fn diagnose(&mut self) -> String {
        let Some(router) = &mut self.router else { return String::new() };
        let drops = router.try_show("drops").map_or_else(|| "no answer".to_owned(), |v| v.to_string());
        format!("-- turnpike show drops: {drops}\n-- turnpike:\n{}\n", router.daemon().log_tail(30))
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("the addresses here are right")
}

/// All steps.
pub const STEPS: &[Step<Paths>] = &[
    ("traceroute_shows_us", traceroute_shows_us),
    ("tracepath_finds_the_mtu", tracepath_finds_the_mtu),
    ("mtr_shows_us", mtr_shows_us),
    ("our_errors_pass_lists_when_they_waited_too", our_errors_pass_lists_when_they_waited_too),
    ("tcp_finds_what_fits", tcp_finds_what_fits),
    ("ipv4_is_fragmented_where_it_may_be", ipv4_is_fragmented_where_it_may_be),
    ("fragments_leave_by_the_link_of_their_packet", fragments_leave_by_the_link_of_their_packet),
    ("what_waited_is_recorded_once", what_waited_is_recorded_once),
    ("what_is_too_large_does_not_wait", what_is_too_large_does_not_wait),
    ("ipv6_is_never_fragmented", ipv6_is_never_fragmented),
    ("full_size_frames_keep_both_tags", full_size_frames_keep_both_tags),
    ("errors_are_limited", errors_are_limited),
    ("a_wrong_far_address_is_named", a_wrong_far_address_is_named),
];

/// All steps with jumbo frames.
pub const JUMBO_STEPS: &[Step<Paths>] = &[("jumbo_frames_go_through", jumbo_frames_go_through)];

/// `traceroute -n` by UDP, ICMP and TCP: we are the first hop, by our address on the LAN.
fn traceroute_shows_us(paths: &mut Paths) {
    for (family, ([_, ours], [far, _])) in ["-4", "-6"].iter().zip(LAN.into_iter().zip(FAR)) {
        for method in [&[][..], &["-I"], &["-T", "-p", "7"]] {
            let words =
                [&["traceroute", "-n", family, "-q", "2", "-w", "10", "-m", "4"], method, &[far]].concat();
            paths.ask(&words, |text| {
                let hops = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
                hops.eq([ours, far])
            });
        }
    }
}

/// `tracepath -n`: we are the first hop, and say what fits on the second.
fn tracepath_finds_the_mtu(paths: &mut Paths) {
    for (family, ([_, ours], [far, _])) in ["-4", "-6"].iter().zip(LAN.into_iter().zip(FAR)) {
        paths.forget();
        paths.ask(&["tracepath", "-n", family, "-m", "4", far], |text| {
            let mut first = text.lines().filter(|line| line.trim_start().starts_with("1:"));
            first.any(|line| line.contains(ours))
                && text.contains(&format!("pmtu {FAR_MTU}"))
                && text.lines().any(|line| line.contains("Resume") && line.contains("hops 2"))
        });
    }
}

/// `mtr` in report mode: both hops, nothing lost.
fn mtr_shows_us(paths: &mut Paths) {
    for (family, ([_, ours], [far, _])) in ["-4", "-6"].iter().zip(LAN.into_iter().zip(FAR)) {
        paths.ask(&["mtr", "-n", family, "-r", "-c", "4", "-i", "0.3", far], |text| {
            let row =
                |hop: &str| text.lines().find(|line| line.trim_start().starts_with(&format!("{hop}.|--")));
            [("1", ours), ("2", far)].iter().all(|(hop, address)| {
                row(hop).is_some_and(|row| row.contains(address) && row.contains("0.0%"))
            })
        });
    }
}

/// A TCP connection whose ends both believe in 1500 bytes carries megabytes over the link of less.
fn tcp_finds_what_fits(paths: &mut Paths) {
    for [far, _] in FAR {
        paths.forget();
        let before = Counters::adding_up(paths.router());
        host::tcp_there_and_back(&paths.lan, &paths.far, SocketAddr::new(ip(far), 7001), 1 << 20);
        let counted = Counters::adding_up(paths.router()).since(&before, "lan");
        assert!(counted.punts.get("exceeds_mtu").is_some_and(|count| *count > 0), "{counted:?}");
    }
    paths.forget();
}

/// Pings that may be fragmented arrive whole, cut by us; those that may not do not.
fn ipv4_is_fragmented_where_it_may_be(paths: &mut Paths) {
    paths.forget();
    let record = paths.wires[1].record();
    let before = Counters::settled(paths.router());
    let far = ip(FAR[0][0]);
    let plan = echo::Plan {
        source: None,
        target: far,
        // 1500 bytes in all: the LAN host has no reason to cut.
        size: 1472,
        count: 10,
        patience: echo::PATIENCE,
        fragments: true,
    };
    let got = echo::send(&paths.lan, &plan);
    assert_eq!(got, echo::Pings { sent: 10, answered: 10, duplicates: 0 });
    let counted = Counters::settled(paths.router()).since(&before, "lan");
    assert_eq!(counted.punts.get("fragment"), Some(&10), "{counted:?}");
    let sent =
        record.frames(Way::FromRouter, |f| frame::ip(f).is_some_and(|p| p.dst == far && p.protocol == 1));
    let lengths: Vec<_> = sent.iter().filter_map(|s| frame::ip(&s.frame).map(|p| p.length)).collect();
    // 1376 = 172 × 8 bytes of data fit into 1400, and 104 are left of 1480.
    assert_eq!(lengths, [1396, 124].repeat(10));
    for seen in &sent {
        assert_eq!(frame::ethernet(&seen.frame).map(|e| e.tags.len()), Some(2));
        assert!(frame::ip(&seen.frame).is_some_and(|p| p.checksum_right && p.ttl == 63));
    }
}

/// A packet's fragments leave by the link that its flow takes, and fit it; what that link's access list denies does not
/// leave by it, nor by the other.
fn fragments_leave_by_the_link_of_their_packet(paths: &mut Paths) {
    const SIZE: usize = 1480;
    const SMALL: usize = 100;
    let record = paths.wires[1].record();
    let before = Counters::settled(paths.router());
    let (from, framed) = (ip(LAN[0][0]), paths.framer());
    let flows: Vec<(u8, u16)> =
        (1..=8).flat_map(|host| (0..4).map(move |port| (host, DENIED_PORT - port))).collect();
    for (number, (host, port)) in flows.iter().enumerate() {
        let to = ip(&format!("{BEYOND}.{host}"));
        for size in [SMALL, SIZE] {
            let mut packet = frame::udp((from, 4000), (to, *port), 64, &vec![7; size - 8]);
            // Its own identification, and it may be cut.
            packet[4..8].copy_from_slice(&[u8::from(size == SIZE), number as u8, 0, 0]);
            frame::renew_checksum(&mut packet);
            paths.wires[0].inject(&framed(&packet));
        }
    }
    // Of each packet: bytes of data, and the links.
    let arrived = |seen: &[Seen], number: usize, large: bool| -> (usize, BTreeSet<u16>) {
        let id = [u8::from(large), number as u8];
        let mine = seen.iter().filter_map(|seen| {
            let ethernet = frame::ethernet(&seen.frame)?;
            let packet = frame::ip(&seen.frame)?;
            (packet.src == from && ethernet.payload.get(4..6) == Some(&id))
                .then(|| (packet.payload.len(), ethernet.tags[1].vid))
        });
        mine.fold((0, BTreeSet::new()), |(sum, mut links), (len, link)| {
            links.insert(link);
            (sum + len, links)
        })
    };
    let beyond =
        |f: &[u8]| frame::ip(f).is_some_and(|p| p.src == from && p.dst.to_string().starts_with(BEYOND));
    let counted = paths.settled(&before, 2 * flows.len() as u64);
    let denied = counted.drops.get("acl_denied_out").map_or(0, |both| *both as usize / 2);
    assert!((1..8).contains(&denied), "flows of that port take either link: {counted:?}");
    let passed = |seen: &[Seen]| {
        let whole = |number: &usize| {
            (arrived(seen, *number, false).0, arrived(seen, *number, true).0) == (SMALL, SIZE)
        };
        (0..flows.len()).filter(whole).count()
    };
    wait::until_true(SOON, "all others", || {
        passed(&record.frames(Way::FromRouter, beyond)) == flows.len() - denied
    });
    let seen = record.frames(Way::FromRouter, beyond);
    for (number, (_, port)) in flows.iter().enumerate() {
        let ((_, link), (large, links)) = (arrived(&seen, number, false), arrived(&seen, number, true));
        assert_eq!((&links, link.len()), (&link, usize::from(large > 0)), "port {port}");
        assert!(*port != DENIED_PORT || !links.contains(&NARROW[1].0), "its list denies port {port}");
    }
    for seen in seen {
        let c_tag = frame::ethernet(&seen.frame).map(|ethernet| ethernet.tags[1].vid);
        let (_, mtu) = NARROW.into_iter().find(|(tag, _)| Some(*tag) == c_tag).expect("one of the two links");
        assert!(frame::ip(&seen.frame).is_some_and(|p| p.length <= usize::from(mtu)), "{seen:?}");
    }
}

/// A packet that asks to be recorded, waits for its neighbour, and is cut then: our address stands in it once.
fn what_waited_is_recorded_once(paths: &mut Paths) {
    let record = paths.wires[1].record();
    let [far, ours] = FAR[0];
    paths.forget_neighbour(far);
    let mut packet = frame::udp((ip(LAN[0][0]), 4000), (ip(far), 5000), 64, &[7; 1460]);
    // Room for two addresses, and the end of options.
    packet.splice(20..20, [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    packet[0] = 0x48;
    let length = (packet.len() as u16).to_be_bytes();
    packet[2..4].copy_from_slice(&length);
    packet[6..8].fill(0);
    frame::renew_checksum(&mut packet);
    paths.wires[0].inject(&paths.framer()(&packet));
    let is_part = |f: &[u8]| frame::ip(f).is_some_and(|p| p.dst == ip(far) && p.protocol == frame::UDP);
    wait::until_true(SOON, "both fragments", || record.count(Way::FromRouter, is_part) == 2);
    let seen = record.frames(Way::FromRouter, is_part);
    let first = frame::ethernet(&seen[0].frame).expect("Ethernet").payload;
    let IpAddr::V4(ours) = ip(ours) else { panic!("IPv4") };
    let want = [&[7, 11, 8][..], &ours.octets(), &[0; 5]].concat();
    assert_eq!(first[20..32], want);
}

/// What may not be cut and is too large for the link of a neighbour that is not known is answered at once, or refused as
/// if the neighbour were there: nobody is looked for.
fn what_is_too_large_does_not_wait(paths: &mut Paths) {
    let record = paths.wires[0].record();
    let before = paths.router().show("drops");
    let [mtu_high, mtu_low] = FAR_MTU.to_be_bytes();
    for (port, wants) in [(5000, [[3, 4], [2, 0]]), (DENIED_PORT, [[3, 13], [1, 1]])] {
        for (([lan, _], nobody), want) in LAN.into_iter().zip(NOBODY).zip(wants) {
            let to = if lan.contains(':') { format!("{nobody}:9") } else { format!("{nobody}.9") };
            let packet = frame::udp((ip(lan), 4000), (ip(&to), port), 64, &[7; 1440]);
            let frame = paths.framer()(&packet);
            let quotes = |f: &[u8]| {
                let error = frame::ip(f)?;
                let inner = error.payload.get(8..56)?;
                let is_error = error.dst == ip(lan) && [1, 58].contains(&error.protocol);
                (is_error && inner == &packet[..48]).then(|| error.payload[..8].to_vec())
            };
            paths.wires[0].inject(&frame);
            wait::until_true(SOON, "an error", || record.count(Way::FromRouter, |f| quotes(f).is_some()) > 0);
            let seen = record.frames(Way::FromRouter, |f| quotes(f).is_some());
            let said = quotes(&seen[0].frame).expect("it was one of those");
            assert_eq!((seen.len(), &said[..2]), (1, &want[..]), "{to}: {said:?}");
            if port != DENIED_PORT {
                assert_eq!(said[6..8], [mtu_high, mtu_low], "{to}: the link's MTU");
            }
        }
    }
    let after = paths.router().show("drops");
    let held = |drops: &serde_json::Value| drops["control"]["outcomes"]["held"].as_u64();
    assert_eq!(held(&before), held(&after), "nothing waited");
}

/// IPv6 packets that are too large come back as an error; once the host knows, what it sends fits.
fn ipv6_is_never_fragmented(paths: &mut Paths) {
    paths.forget();
    let record = paths.wires[1].record();
    let far = ip(FAR[1][0]);
    let patience = Duration::from_secs(2);
    let plan = echo::Plan { source: None, target: far, size: 1452, count: 3, patience, fragments: false };
    assert_eq!(echo::send(&paths.lan, &plan).answered, 0, "1500 bytes do not fit, and may not be cut");
    let host = paths.lan.name();
    let learned = || paths.lan.ip(&format!("-6 route get {far}")).contains(&format!("mtu {FAR_MTU}"));
    wait::until_true(SOON, &format!("{host} to learn what fits"), learned);
    let plan = echo::Plan {
        source: None,
        target: far,
        size: 1452,
        count: 5,
        patience: echo::PATIENCE,
        fragments: true,
    };
    // The host has learned what fits, and cuts itself.
    assert_eq!(echo::send(&paths.lan, &plan), echo::Pings { sent: 5, answered: 5, duplicates: 0 });
    let sent = record.frames(Way::FromRouter, |f| frame::ip(f).is_some_and(|p| p.dst == far));
    assert!(sent.iter().all(|s| frame::ip(&s.frame).is_some_and(|p| p.length <= usize::from(FAR_MTU))));
    paths.forget();
}

/// What just fits goes through, with both tags.
fn full_size_frames_keep_both_tags(paths: &mut Paths) {
    for ([far, _], headers) in FAR.into_iter().zip([28, 48]) {
        let record = paths.wires[1].record();
        echo::assert_pings(&paths.lan, None, ip(far), FAR_MTU - headers, 5);
        let full = 14 + 8 + usize::from(FAR_MTU);
        assert_eq!(record.count(Way::FromRouter, |f| f.len() == full), 5);
    }
}

/// The LAN's list denies the errors that we make, and is for what others send. That holds for one that has to wait until
/// its receiver is resolved.
fn our_errors_pass_lists_when_they_waited_too(paths: &mut Paths) {
    let record = paths.wires[0].record();
    let [lan, _] = LAN[0];
    paths.forget_neighbour(lan);
    let dead = frame::udp((ip(lan), 4000), (ip(FAR[0][0]), 5000), 1, b"hop limit");
    paths.wires[0].inject(&paths.framer()(&dead));
    let is_error =
        |f: &[u8]| frame::ip(f).is_some_and(|p| p.dst == ip(lan) && p.payload.first() == Some(&11));
    wait::until_true(SOON, "the error", || record.count(Way::FromRouter, is_error) == 1);
}

/// A host that asks for errors without end gets as many as the configuration says in a second, and no more.
fn errors_are_limited(paths: &mut Paths) {
    let record = paths.wires[0].record();
    let (from, far) = (ip(LAN[0][0]), ip(FAR[0][0]));
    let dead = frame::udp((from, 4000), (far, 5000), 1, b"hop limit");
    let frame = paths.framer()(&dead);
    let (before, start) = (Counters::settled(paths.router()), Instant::now());
    for _ in 0..300 {
        paths.wires[0].inject(&frame);
    }
    paths.settled(&before, 300);
    let is_error = |f: &[u8]| frame::ip(f).is_some_and(|p| p.dst == from && p.payload.first() == Some(&11));
    wait::until_true(SOON, "the errors", || record.count(Way::FromRouter, is_error) >= 20);
    Counters::settled(paths.router());
    let sent = record.count(Way::FromRouter, is_error);
    // 20 at once, and 20 a second more while they were sent.
    let most = 20 + 20 * (start.elapsed().as_secs() as usize + 1);
    assert!((20..=most).contains(&sent), "{sent} errors to one host, not {most} at most");
    let drops = paths.router().show("drops");
    assert!(drops["control"]["outcomes"]["icmp_rate_limited"].as_u64().is_some_and(|n| n > 200), "{drops}");
}

/// The far side of the /30 has another address than it should: what it has is shown beside the one that fails.
fn a_wrong_far_address_is_named(paths: &mut Paths) {
    let [far, ours] = FAR[0];
    let wrong = "172.16.0.6";
    paths.far.ip(&format!("addr del {far}/30 dev eth0"));
    paths.far.address("eth0", &format!("{wrong}/30"));
    let mac = paths.far.mac("eth0");
    // The neighbour entry from before goes first, as it does in time.
    paths.vrf.ip(&format!("neigh flush {far}"));
    let seen = format!("{wrong} at {mac}");
    wait::until_true(SOON, "the wrong address to be shown", || {
        echo::send(
            &paths.far,
            &echo::Plan {
                source: None,
                target: ip("172.16.0.5"),
                size: 8,
                count: 1,
                patience: Duration::from_millis(100),
                fragments: false,
            },
        );
        echo::send(
            &paths.lan,
            &echo::Plan {
                source: None,
                target: ip(far),
                size: 8,
                count: 1,
                patience: Duration::from_millis(100),
                fragments: false,
            },
        );
        let shown = paths.router().show("neighbours");
        shown
            .as_array()
            .is_some_and(|all| all.iter().any(|n| n["address"] == far && n["seen"] == seen.as_str()))
    });
    assert!(paths.router().table("neighbours").contains(&seen));
    paths.far.ip(&format!("addr del {wrong}/30 dev eth0"));
    paths.far.address("eth0", &format!("{far}/30"));
    paths.far.ip(&format!("route replace default via {ours}"));
    wait::until_true(SOON, "the right address to answer", || paths.answers(far));
}

/// Packets of 9,000 bytes, and pings of 8,900, that may not be cut: both ways, with one tag and with two, each in one
/// buffer.
fn jumbo_frames_go_through(paths: &mut Paths) {
    for ((([lan, _], [far, _]), headers), family) in
        LAN.into_iter().zip(FAR).zip([28, 48]).zip(["IPv4", "IPv6"])
    {
        let full = JUMBO - headers;
        for (from, to) in [(&paths.lan, far), (&paths.far, lan)] {
            for size in [8900, full] {
                let records: Vec<_> = paths.wires.iter().map(Wire::record).collect();
                echo::assert_pings(from, None, ip(to), size, 3);
                let packet = usize::from(size + headers);
                for (record, tags) in records.iter().zip([1, 2]) {
                    let seen = record.count(Way::FromRouter, |f| f.len() == 14 + 4 * tags + packet);
                    assert_eq!(seen, 3, "{family} packets of {packet} bytes behind {tags} tags");
                }
            }
        }
    }
    let ports = paths.router().show("ports");
    assert!(ports.as_array().is_some_and(|all| all.iter().all(|port| port["mtu"] == JUMBO)), "{ports}");
    let counted = Counters::adding_up(paths.router());
    assert!(counted.0.values().all(|port| !port.drops.contains_key("multi_segment")), "{counted:?}");
}
