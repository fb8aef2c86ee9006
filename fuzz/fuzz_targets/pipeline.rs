//! Frames through a whole worker, with sub-interfaces, policies and routes of any kind. One at a time each is sent once, and
//! right, or ends once; all at once they end the same way; and with full TX queues the counters still add up.
#![no_main]

// The router in memory of dataplane's own tests.
#[path = "../../dataplane/tests/common/mod.rs"]
mod common;

use std::collections::HashSet;

use arbitrary::Arbitrary;
use common::{OUR_MAC, PEER_MAC, Router, Routes, Target};
use dataplane::counters::Counter;
use dataplane::header::checksum;
use dataplane::ids::{PortId, VrfId};
use dataplane::packet::{HeapPacket, StrippedTags};
use dataplane::policy::{DscpSet, Features, MssClamp, Policies, Policy, ReversePath};
use dataplane::sub_interface::{SubInterface, Tag, Tags};
use libfuzzer_sys::fuzz_target;

const PORTS: usize = 2;
/// Three times as many are within the burst of any reason's punt budget.
const FRAMES: usize = 40;

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Vlan {
    s_tpid: bool,
    vid: u8,
    pcp: u8,
}

#[derive(Arbitrary, Debug)]
struct Place {
    port: bool,
    tags: u8,
    outer: Vlan,
    inner: Vlan,
    other_vrf: bool,
    mtu: u8,
    pcp: Option<u8>,
    guards: Option<Guards>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Guards {
    reverse_path: u8,
    public_sources: bool,
    dscp: Option<u64>,
    pcp_from_dscp: bool,
    mss: Option<u16>,
}

#[derive(Arbitrary, Debug)]
struct Route {
    other_vrf: bool,
    address: Address,
    len: u8,
    target: u8,
}

/// Mostly one of a few, so that packets meet routes.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Address {
    Usual(u8),
    Any([u8; 16]),
}

#[derive(Arbitrary, Debug)]
enum Content {
    V4 {
        tos: u8,
        flags: u16,
        ttl: u8,
        protocol: u8,
        from: Address,
        to: Address,
        options: Vec<u8>,
        wrong_sum: bool,
    },
    V6 {
        class: u8,
        next: u8,
        hops: u8,
        from: Address,
        to: Address,
    },
    Any {
        ethertype: u16,
    },
}

#[derive(Arbitrary, Debug)]
struct Frame {
    port: bool,
    /// One of the sub-interfaces, whose tags it has if it has none of its own.
    place: u8,
    tags: Option<Vec<Vlan>>,
    mac: Option<[u8; 6]>,
    content: Content,
    payload: Vec<u8>,
    padding: u16,
    changes: Vec<(u8, u8)>,
    stripped: Option<(u8, Option<u8>)>,
    segmented: bool,
}

#[derive(Arbitrary, Debug)]
struct Input {
    places: Vec<Place>,
    v4: Vec<Route>,
    v6: Vec<Route>,
    frames: Vec<Frame>,
    room: u8,
    tell: bool,
}

impl Vlan {
    fn tpid(self) -> u16 {
        if self.s_tpid { 0x88a8 } else { 0x8100 }
    }

    fn tag(self) -> Tag {
        Tag { tpid: self.tpid(), vid: u16::from(self.vid % 4) + 1 }
    }
}

impl Place {
    fn sub_interface(&self) -> SubInterface {
        let tags = match self.tags % 3 {
            0 => Tags::Untagged,
            1 => Tags::One(self.outer.tag()),
            _ => Tags::Two(self.outer.tag(), self.inner.tag()),
        };
        SubInterface {
            tags,
            mtu: [1280, 1500, 576, 9000, 68][usize::from(self.mtu % 5)],
            pcp: self.pcp.map(|pcp| pcp & 7),
            ..common::sub_if(self.port.into(), tags, self.other_vrf.into())
        }
    }
}

impl Guards {
    fn policy(self) -> Policy {
        Policy {
            reverse_path: [ReversePath::Off, ReversePath::Loose, ReversePath::Strict][usize::from(self.reverse_path % 3)],
            public_sources: self.public_sources,
            dscp: self.dscp.map_or(DscpSet::ALL, DscpSet),
            pcp_from_dscp: self.pcp_from_dscp.then(|| Box::new(std::array::from_fn(|dscp| dscp as u8 / 8))),
            mss: self.mss.map_or_else(MssClamp::default, |mss| MssClamp { v4: mss, v6: mss.saturating_sub(20) }),
        }
    }
}

impl Address {
    fn v4(self) -> [u8; 4] {
        match self {
            Self::Usual(number) => match number % 16 {
                0 => [0, 0, 0, 0],
                1 => [127, 0, 0, 1],
                2 => [224, 0, 0, 5],
                3 => [255; 4],
                4 => [169, 254, 0, number],
                5..8 => [192, 0, 2, number],
                _ => [10, number / 16, 0, number],
            },
            Self::Any([a, b, c, d, ..]) => [a, b, c, d],
        }
    }

    fn v6(self) -> u128 {
        let number = match self {
            Self::Usual(number) => u128::from(number),
            Self::Any(bytes) => return u128::from_be_bytes(bytes),
        };
        match number % 16 {
            0 => 0,
            1 => 1,
            2 => 0xff02 << 112 | 1,
            3 => 0xfe80 << 112 | number,
            4 => 0xffff << 32 | number,
            5..8 => 0xfd00 << 112 | number,
            _ => 0x2001_0db8 << 96 | number << 88 | number,
        }
    }
}

impl Frame {
    fn bytes(&self, sub_ifs: &[SubInterface]) -> Vec<u8> {
        let mac = self.mac.unwrap_or(OUR_MAC);
        let mut frame = [mac, PEER_MAC].concat();
        match &self.tags {
            Some(tags) => tags.iter().take(4).for_each(|vlan| put_tag(&mut frame, vlan.tag(), vlan.pcp)),
            None if self.stripped.is_none() => match self.place(sub_ifs).tags {
                Tags::Untagged => {}
                Tags::One(tag) => put_tag(&mut frame, tag, self.place),
                Tags::Two(outer, inner) => {
                    put_tag(&mut frame, outer, self.place);
                    put_tag(&mut frame, inner, 0);
                }
            },
            None => {}
        }
        let (ethertype, packet) = self.packet();
        frame.extend(ethertype.to_be_bytes());
        frame.extend(packet);
        // Up to more than the largest MTU, but mostly little.
        frame.resize(
            frame.len() + if self.padding < 0x8000 { 0 } else { usize::from(self.padding) % 9100 },
            0xa5,
        );
        for &(at, value) in self.changes.iter().take(4) {
            if let Some(byte) = frame.get_mut(usize::from(at)) {
                *byte = value;
            }
        }
        frame
    }

    fn place<'a>(&self, sub_ifs: &'a [SubInterface]) -> &'a SubInterface {
        &sub_ifs[usize::from(self.place) % sub_ifs.len()]
    }

    fn packet(&self) -> (u16, Vec<u8>) {
        let grown = if self.padding < 0xc000 { 0 } else { usize::from(self.padding) % 9100 };
        match &self.content {
            Content::Any { ethertype } => (*ethertype, self.payload.clone()),
            Content::V6 { class, next, hops, from, to } => {
                let mut packet = vec![0x60 | class >> 4, class << 4, 0, 0, 0, 0, *next, *hops];
                packet[4..6].copy_from_slice(&((self.payload.len() + grown) as u16).to_be_bytes());
                packet.extend(from.v6().to_be_bytes());
                packet.extend(to.v6().to_be_bytes());
                packet.extend(&self.payload);
                (0x86dd, packet)
            }
            Content::V4 { tos, flags, ttl, protocol, from, to, options, wrong_sum } => {
                let words = options.len().min(40).div_ceil(4);
                let mut header =
                    vec![0x45 + words as u8, *tos, 0, 0, 0x12, 0x34, 0, 0, *ttl, *protocol, 0, 0];
                header[6..8].copy_from_slice(&flags.to_be_bytes());
                header.extend(from.v4());
                header.extend(to.v4());
                header.extend(options.iter().take(40));
                header.resize(20 + words * 4, 0);
                let total = (header.len() + self.payload.len() + grown) as u16;
                header[2..4].copy_from_slice(&total.to_be_bytes());
                common::set_ipv4_checksum(&mut header);
                header[10] ^= u8::from(*wrong_sum);
                header.extend(&self.payload);
                (0x0800, header)
            }
        }
    }

    fn received(&self, sub_ifs: &[SubInterface]) -> HeapPacket {
        let mut packet = HeapPacket::new(&self.bytes(sub_ifs));
        packet.segments = 1 + u8::from(self.segmented);
        let tci = |vid: u8| u16::from(vid & 0xe0) << 8 | u16::from(vid % 5);
        packet.stripped = match self.stripped {
            None => StrippedTags::None,
            Some((one, None)) => StrippedTags::One(tci(one)),
            Some((outer, Some(inner))) => StrippedTags::Two { outer: tci(outer), inner: tci(inner) },
        };
        packet
    }
}

fn put_tag(frame: &mut Vec<u8>, tag: Tag, pcp: u8) {
    frame.extend(tag.tpid.to_be_bytes());
    frame.extend((tag.vid | u16::from(pcp & 7) << 13).to_be_bytes());
}

/// The tags of a frame that are no priority tags, and where its packet begins.
fn tags_of(frame: &[u8]) -> (Vec<Tag>, usize) {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (mut tags, mut at) = (Vec::new(), 12);
    while matches!(word(at), 0x8100 | 0x88a8) {
        if word(at + 2) & 0xfff != 0 {
            tags.push(Tag { tpid: word(at), vid: word(at + 2) & 0xfff });
        }
        at += 4;
    }
    (tags, at + 2)
}

fn sub_interface<'a>(sub_ifs: &'a [SubInterface], port: usize, tags: &[Tag]) -> &'a SubInterface {
    let tags = match *tags {
        [] => Tags::Untagged,
        [one] => Tags::One(one),
        [outer, inner] => Tags::Two(outer, inner),
        _ => panic!("three tags"),
    };
    sub_ifs
        .iter()
        .find(|s| s.port == PortId(port as u16) && s.tags == tags)
        .expect("a sub-interface has these tags")
}

/// A frame that was sent is the one that was received, as a router passes it on.
fn check_sent(sub_ifs: &[SubInterface], features: Features, from: (usize, &[u8], StrippedTags), to: (usize, &[u8])) {
    let (mut in_tags, in_at) = tags_of(from.1);
    let (out_tags, out_at) = tags_of(to.1);
    let out = sub_interface(sub_ifs, to.0, &out_tags);
    if from.2 == StrippedTags::None {
        in_tags.truncate(3);
        let vrf: VrfId = sub_interface(sub_ifs, from.0, &in_tags).vrf;
        assert_eq!(vrf, out.vrf, "from one VRF into another");
    }
    assert_eq!(to.1[..12], [PEER_MAC, OUR_MAC].concat());
    assert_eq!(from.1[in_at - 2..in_at], to.1[out_at - 2..out_at], "the ethertype");
    let (before, after) = (&from.1[in_at..], &to.1[out_at..]);
    assert!(after.len() <= usize::from(out.mtu), "larger than the MTU");
    assert!(before.len() >= after.len());
    let hop = if after[0] >> 4 == 4 {
        let len = usize::from(after[0] & 15) * 4;
        assert_eq!(checksum::sum(&after[..len]), 0xffff);
        assert_eq!(usize::from(u16::from_be_bytes([after[2], after[3]])), after.len());
        8
    } else {
        assert_eq!(40 + usize::from(u16::from_be_bytes([after[4], after[5]])), after.len());
        7
    };
    assert!(after[hop] > 0 && after[hop] == before[hop] - 1, "the TTL");
    let l4 = if hop == 8 { usize::from(after[0] & 15) * 4 } else { 40 };
    // What may change on the way: besides TTL and checksum the DSCP, and the segment size with TCP's checksum.
    let marks = features.any_of(Features::MARKING);
    let header = |at: usize| match hop {
        8 => at == 8 || (10..12).contains(&at) || (marks && at == 1),
        _ => at == 7 || (marks && at < 2),
    };
    assert!((0..l4).all(|at| header(at) || before[at] == after[at]), "the header has changed");
    let changed = (l4..after.len()).filter(|at| before[*at] != after[*at]).count();
    assert!(changed <= if features.any_of(Features::MSS) { 4 } else { 0 }, "the payload has changed");
    let sum = |packet: &[u8]| checksum::sum(&packet[l4..after.len()]) % 0xffff;
    assert_eq!(sum(before), sum(after), "TCP's checksum");
}

/// By port: received, forwarded, and each end.
fn counts(router: &Router) -> Vec<Vec<u64>> {
    let of = |port: usize| {
        let c = router.counters.port(PortId(port as u16));
        let ends = c.dropped.iter().chain(&c.punted).map(Counter::get);
        [c.received.get(), c.forwarded.get()].into_iter().chain(ends).collect()
    };
    (0..PORTS).map(of).collect()
}

fn routes(input: &Input, sub_ifs: &[SubInterface]) -> Routes {
    let target = |route: &Route| {
        let vrf = VrfId(route.other_vrf.into());
        let mine: Vec<u16> =
            (0..sub_ifs.len() as u16).filter(|id| sub_ifs[usize::from(*id)].vrf == vrf).collect();
        match route.target % 8 {
            0 => Target::Local,
            1 => Target::Discard,
            2 => Target::Unresolved,
            _ if mine.is_empty() => Target::Discard,
            n => Target::Via(
                (0..1u8 << (n % 3)).map(|i| mine[usize::from(route.target / 8 + i) % mine.len()]).collect(),
            ),
        }
    };
    // A VRF without sub-interfaces has no tables.
    let has_vrf = |route: &&Route| sub_ifs.iter().any(|s| s.vrf.0 >= u16::from(route.other_vrf));
    let v4 = |route: &Route| {
        let len = route.len % 33;
        let prefix =
            u32::from_be_bytes(route.address.v4()) & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
        (route.other_vrf.into(), prefix, len, target(route))
    };
    let v6 = |route: &Route| {
        let len = route.len % 129;
        let prefix = route.address.v6() & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        (route.other_vrf.into(), prefix, len, target(route))
    };
    Routes {
        v4: input.v4.iter().filter(has_vrf).take(16).map(v4).collect(),
        v6: input.v6.iter().filter(has_vrf).take(16).map(v6).collect(),
    }
}

fuzz_target!(|input: Input| {
    let mut seen = HashSet::new();
    let vids = |tags: Tags| match tags {
        Tags::Untagged => (0, 0),
        Tags::One(tag) => (tag.vid, 0),
        Tags::Two(outer, inner) => (outer.vid, inner.vid),
    };
    let places = input.places.iter().take(8).map(|place| {
        let policy = place.guards.map_or_else(Policy::default, Guards::policy);
        (place.sub_interface(), policy)
    });
    let (sub_ifs, all): (Vec<_>, Vec<_>) = places.filter(|(s, _)| seen.insert((s.port.0, vids(s.tags)))).unzip();
    let policies = Policies::new(all, input.tell);
    let features = policies.any();
    if sub_ifs.is_empty() {
        return;
    }
    let mut router = Router::with_policies(PORTS, sub_ifs.clone(), &routes(&input, &sub_ifs), policies);
    let mut frames: Vec<&Frame> = input.frames.iter().take(FRAMES).collect();
    frames.sort_by_key(|frame| frame.port);

    // One at a time.
    let mut sent = vec![Vec::new(); PORTS];
    for frame in &frames {
        let (port, packet) = (usize::from(frame.port), frame.received(&sub_ifs));
        router.receive_packet(port, packet.clone());
        router.run();
        let mut left = 0;
        for (to, all) in sent.iter_mut().enumerate() {
            for bytes in router.sent(to) {
                check_sent(&sub_ifs, features, (port, &frame.bytes(&sub_ifs), packet.stripped), (to, &bytes));
                left += 1;
                all.push(bytes);
            }
        }
        assert!(left <= 1, "sent twice");
    }
    router.assert_adds_up();
    let alone = counts(&router);
    assert_eq!(alone.iter().map(|port| port[0]).sum::<u64>(), frames.len() as u64);
    let forwarded: u64 = alone.iter().map(|port| port[1]).sum();
    assert_eq!(sent.iter().map(Vec::len).sum::<usize>() as u64, forwarded);

    // All at once.
    for frame in &frames {
        router.receive_packet(frame.port.into(), frame.received(&sub_ifs));
    }
    router.run();
    for (to, alone) in sent.iter().enumerate() {
        assert_eq!(&router.sent(to), alone, "otherwise than alone, on port {to}");
    }
    let twice: Vec<Vec<u64>> =
        alone.iter().map(|port| port.iter().map(|count| count * 2).collect()).collect();
    assert_eq!(counts(&router), twice, "otherwise than alone");
    let punted = router.rings.punt.len() + router.rings.urgent.len();
    while router.rings.punt.pop().is_some() || router.rings.urgent.pop().is_some() {}

    // With little room to send.
    router.io.0.lock().unwrap().tx_room = usize::from(input.room % 8);
    for frame in &frames {
        router.receive_packet(frame.port.into(), frame.received(&sub_ifs));
    }
    router.run();
    router.assert_adds_up();
    let again = router.rings.punt.len() + router.rings.urgent.len();
    assert_eq!(again * 2, punted, "what is punted needs no room to send");
});
