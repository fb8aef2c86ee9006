//! The parser and the program it makes, against a simple evaluator of its own on frames made of known fields.

use super::*;
use dataplane::packet::StrippedTags;
use dataplane::verdict::Verdict;
use dataplane::watch::Fields;
use proptest::prelude::*;

/// An expression as a tree.
#[derive(Clone, Debug)]
enum Tree {
    Host(u8, [u8; 4]),
    Net(u8, [u8; 4], u8),
    Port(u8, u16, u16),
    Word(&'static str),
    Vlan(Vec<u16>),
    Tag(&'static str, u16),
    Reason(&'static str),
    Not(Box<Tree>),
    Two(Box<Tree>, &'static str, Box<Tree>),
}

const SIDES: [&str; 3] = ["", "src ", "dst "];

impl std::fmt::Display for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ip = |a: &[u8; 4]| std::net::Ipv4Addr::from(*a);
        match self {
            Self::Host(side, a) => write!(f, "{}host {}", SIDES[usize::from(*side)], ip(a)),
            Self::Net(side, a, len) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(*len)).unwrap_or(0);
                let prefix = std::net::Ipv4Addr::from(u32::from_be_bytes(*a) & mask);
                write!(f, "{}net {prefix}/{len}", SIDES[usize::from(*side)])
            }
            Self::Port(side, first, last) => write!(f, "{}port {first}-{last}", SIDES[usize::from(*side)]),
            Self::Word(word) => write!(f, "{word}"),
            Self::Vlan(vids) => {
                write!(f, "vlan")?;
                vids.iter().try_for_each(|vid| write!(f, " {vid}"))
            }
            Self::Tag(word, vid) => write!(f, "{word} {vid}"),
            Self::Reason(name) => write!(f, "reason {name}"),
            Self::Not(inner) => write!(f, "not ({inner})"),
            Self::Two(a, op, b) => write!(f, "({a}) {op} ({b})"),
        }
    }
}

/// What a frame is made of.
#[derive(Clone, Debug)]
struct Packet {
    vids: Vec<u16>,
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    ports: (u16, u16),
    verdict: Verdict,
}

impl Packet {
    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for vid in &self.vids {
            frame.extend([0x81, 0, 0xe0 | (vid >> 8) as u8, *vid as u8]);
        }
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, self.protocol, 0, 0]);
        frame.extend(self.source);
        frame.extend(self.destination);
        frame.extend(self.ports.0.to_be_bytes());
        frame.extend(self.ports.1.to_be_bytes());
        frame.extend([0; 4]);
        frame
    }

    fn is(&self, tree: &Tree) -> bool {
        let sides = |side: u8| [side != 2, side != 1];
        let under = |a: [u8; 4], b: [u8; 4], len: u8| {
            let bits = |a: [u8; 4]| format!("{:032b}", u32::from_be_bytes(a));
            bits(a)[..usize::from(len)] == bits(b)[..usize::from(len)]
        };
        let addresses = [self.source, self.destination];
        let any = |side: u8, test: &dyn Fn(usize) -> bool| (0..2).any(|i| sides(side)[i] && test(i));
        match tree {
            Tree::Host(side, a) => any(*side, &|i| addresses[i] == *a),
            Tree::Net(side, a, len) => any(*side, &|i| under(addresses[i], *a, *len)),
            Tree::Port(side, first, last) => {
                let ports = [self.ports.0, self.ports.1];
                matches!(self.protocol, 6 | 17) && any(*side, &|i| *first <= ports[i] && ports[i] <= *last)
            }
            Tree::Word(word) => match *word {
                "tcp" => self.protocol == 6,
                "udp" => self.protocol == 17,
                "icmp" => self.protocol == 1,
                "ip" => true,
                "drop" => matches!(self.verdict, Verdict::Drop(_)),
                "punt" => matches!(self.verdict, Verdict::Punt(_)),
                _ => false,
            },
            Tree::Vlan(vids) => self.vids.len() >= vids.len().max(1) && self.vids.starts_with(vids),
            Tree::Tag(word, vid) => {
                let tag = usize::from(*word == "cvlan");
                self.vids.len() == 2 && self.vids[tag] == *vid
            }
            Tree::Reason(name) => match self.verdict {
                Verdict::Drop(reason) => reason.name() == *name,
                Verdict::Punt(reason) => reason.name() == *name,
                _ => false,
            },
            Tree::Not(inner) => !self.is(inner),
            Tree::Two(a, "or", b) => self.is(a) || self.is(b),
            Tree::Two(a, _, b) => self.is(a) && self.is(b),
        }
    }
}

fn address() -> impl Strategy<Value = [u8; 4]> {
    (0..2u8, 0..3u8).prop_map(|(a, b)| [10, a, 0, b])
}

fn tree() -> impl Strategy<Value = Tree> {
    let words = prop::sample::select(vec!["tcp", "udp", "icmp", "icmp6", "arp", "ip", "ip6", "drop", "punt"]);
    let leaf = prop_oneof![
        (0..3u8, address()).prop_map(|(side, a)| Tree::Host(side, a)),
        (0..3u8, address(), 0..33u8).prop_map(|(side, a, len)| Tree::Net(side, a, len)),
        (0..3u8, 1..6u16, 0..3u16).prop_map(|(side, first, more)| Tree::Port(side, first, first + more)),
        words.prop_map(Tree::Word),
        prop::collection::vec(1..4u16, 0..3).prop_map(Tree::Vlan),
        (prop::sample::select(vec!["svlan", "cvlan"]), 1..4u16).prop_map(|(word, vid)| Tree::Tag(word, vid)),
        prop::sample::select(vec!["unknown_tag", "no_route", "ttl_expired"]).prop_map(Tree::Reason),
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|tree| Tree::Not(Box::new(tree))),
            (inner.clone(), prop::sample::select(vec!["and", "or", ""]), inner)
                .prop_map(|(a, op, b)| Tree::Two(Box::new(a), op, Box::new(b))),
        ]
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let verdict = prop::sample::select(vec![
        Verdict::Forward,
        Verdict::Drop(DropReason::UnknownTag),
        Verdict::Drop(DropReason::NoRoute),
        Verdict::Punt(PuntReason::NoRoute),
        Verdict::Punt(PuntReason::TtlExpired),
    ]);
    let vids = prop::collection::vec(1..4u16, 0..3);
    let protocol = prop::sample::select(vec![1u8, 6, 17, 47]);
    (vids, address(), address(), protocol, (1..9u16, 1..9u16), verdict).prop_map(
        |(vids, source, destination, protocol, ports, verdict)| Packet {
            vids,
            source,
            destination,
            protocol,
            ports,
            verdict,
        },
    )
}

proptest! {
    #[test]
    fn programs_answer_as_a_simple_evaluator_does(tree in tree(), packets in prop::collection::vec(packet(), 8)) {
        let program = parse(&tree.to_string()).unwrap();
        for packet in packets {
            let fields = Fields::of(&packet.frame(), StrippedTags::None);
            let found = program.matches(&fields, Some(packet.verdict));
            prop_assert_eq!(found, Some(packet.is(&tree)), "{} on {:?}", tree, packet);
        }
    }

    #[test]
    fn nonsense_gets_an_error_or_a_program(text in "[a-z0-9 ()!&|./:-]{0,80}") {
        let _ = parse(&text).map_err(|error| error.to_string());
    }
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn precedence_and_shorthands() {
    let same = |a: &str, b: &str| assert_eq!(parse(a).unwrap(), parse(b).unwrap(), "{a} / {b}");
    same("tcp port 80 or udp port 53", "(tcp and port 80) or (udp and port 53)");
    same("not tcp and udp", "(not tcp) and udp");
    same("! tcp && udp || arp", "((not tcp) and udp) or arp");
    same("src 10.0.0.1", "src host 10.0.0.1");
    same("dst 2001:db8::/32", "dst net 2001:db8::/32");
    same("host 10.0.0.1", "net 10.0.0.1/32");
    same("vlan 10 100", "vlan 10 and cvlan 100");
    same("", "  ");
}

#[test]
fn errors_show_the_place() {
    assert_eq!(
        error("host tcp and udp"),
        "expected an IPv4 or IPv6 address, found `tcp`\n  host tcp and udp\n       ^^^"
    );
    assert_eq!(
        error("net 10.0.0.1/8"),
        "10.0.0.1/8 has bits behind its length; did you mean 10.0.0.0/8?\n  net 10.0.0.1/8\n      ^^^^^^^^^^"
    );
    assert_eq!(error("(tcp or udp"), "this `(` is not closed\n  (tcp or udp\n  ^");
    assert_eq!(error("tcp)"), "there is no `(` for this\n  tcp)\n     ^");
    assert!(error("tcp or").ends_with("at the end\n  tcp or\n        ^"), "{}", error("tcp or"));
    assert!(error("reason unknown_tags").contains("did you mean \"unknown_tag\"?"));
    assert!(error("vlan 4095").starts_with("expected a VLAN id, 1 to 4094, found `4095`"));
    assert!(error("port 70000").contains("expected a port"));
    assert!(error("port 9-3").contains("expected a port"));
    assert!(error("tcp 80").contains("expected `and` or `or`, found `80`"));
    assert!(error("tcp\u{1b}[31m").contains("  tcp [31m"), "no control characters in the message");
}

#[test]
fn size_is_bounded() {
    assert!(error(&"(".repeat(4000)).starts_with("nested deeper"));
    assert!(error(&"not ".repeat(1000)).starts_with("nested deeper"));
    assert!(error(&["tcp"; 200].join(" or ")).contains("longer than 128 operations"));
    assert!(error(&"x".repeat(5000)).starts_with("the expression is longer than 4096 bytes"));
    assert!(parse(&["tcp"; 64].join(" or ")).is_ok());
    assert!(parse(&format!("{}tcp{}", "(".repeat(32), ")".repeat(32))).is_ok());
}
