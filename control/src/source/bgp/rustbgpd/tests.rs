//! Arbitrary input to the protocol machine: it never panics, always gets on, ends once, and what it puts out is
//! bounded by what it took in. And what the demo's encoder writes, it reads.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::source::RouteEvent;
use crate::source::bgp::announce::Announcer;
use crate::source::bgp::demo::encode::{Path, announcements, withdrawals};
use crate::source::charge::Account;

fn machine(asn: u32, peer_asn: u32, router_id: u8, add_path: AddPath) -> Rustbgpd {
    Rustbgpd::new(SessionConfig {
        local_asn: asn,
        peer_asn,
        router_id: Ipv4Addr::new(10, 0, 0, router_id),
        hold_time: 90,
        open_time: 15,
        add_path,
        announcer: Announcer::default(),
        account: Account::default(),
    })
}

/// What two machines have to say to each other until both are established: the receiver, and what the sender
/// learned of it.
fn established(asn: u32) -> (Rustbgpd, Negotiated) {
    let mut receiver = machine(65_010, asn, 1, AddPath::Receive);
    let mut sender = machine(asn, 65_010, 2, AddPath::Send);
    let (mut to_sender, mut to_receiver) = (Vec::new(), Vec::new());
    receiver.connected(&mut to_sender);
    sender.connected(&mut to_receiver);
    let mut negotiated = None;
    for _ in 0..2 {
        let (from_receiver, from_sender) = (std::mem::take(&mut to_sender), std::mem::take(&mut to_receiver));
        for output in from_receiver {
            if let Output::Send(bytes) = output {
                assert_eq!(sender.receive(&bytes, &mut to_receiver), bytes.len());
            }
        }
        for output in from_sender {
            match output {
                Output::Send(bytes) => assert_eq!(receiver.receive(&bytes, &mut to_sender), bytes.len()),
                Output::Opened(opened) => negotiated = Some(*opened),
                _ => {}
            }
        }
    }
    assert!(to_sender.contains(&Output::State(State::Established)));
    (receiver, negotiated.unwrap())
}

/// Feeds it all, as a session would, and checks what must hold for any input.
fn feed(machine: &mut Rustbgpd, input: &[u8]) -> Vec<Output> {
    let (mut out, mut taken) = (Vec::new(), 0);
    loop {
        let length = machine.receive(&input[taken..], &mut out);
        if length == 0 {
            break;
        }
        taken += length;
        assert!(taken <= input.len());
    }
    assert!(input.len() - taken < MAX_LENGTH, "it waits for no more than a message");
    let ends: Vec<usize> = (0..out.len()).filter(|index| matches!(out[*index], Output::Close(_))).collect();
    assert!(ends.is_empty() || ends == [out.len() - 1], "it ends once, and last: {out:?}");
    assert_eq!(ends.is_empty(), !machine.closed);
    let mut prefixes = 0;
    for output in &out {
        if let Output::Update(events) = output {
            for event in events {
                if let RouteEvent::Update { withdrawn, announced, .. } = event {
                    prefixes += withdrawn.len() + announced.len();
                }
            }
        }
    }
    assert!(prefixes <= input.len(), "a prefix takes a byte at least");
    assert!(out.len() <= 8 + input.len(), "{} outputs of {} bytes", out.len(), input.len());
    out
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend(((HEADER_LENGTH + body.len()) as u16).to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// An attribute with any flags and type, preferably one that is known, and any value.
fn attribute() -> impl Strategy<Value = Vec<u8>> {
    let flags = prop_oneof![Just(0x40u8), Just(0x80), Just(0xc0), any::<u8>().prop_map(|flags| flags & 0xef)];
    (flags, prop_oneof![1u8..=18, any::<u8>()], vec(any::<u8>(), 0..40)).prop_map(|(flags, kind, value)| {
        let mut bytes = vec![flags, kind, value.len() as u8];
        bytes.extend(value);
        bytes
    })
}

/// An UPDATE whose three lengths are right, and nothing else need be.
fn wild_update() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 0..20), vec(attribute(), 0..8), vec(any::<u8>(), 0..20)).prop_map(
        |(withdrawn, attributes, nlri)| {
            let attributes = attributes.concat();
            let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
            body.extend(withdrawn);
            body.extend((attributes.len() as u16).to_be_bytes());
            body.extend(attributes);
            body.extend(nlri);
            framed(2, &body)
        },
    )
}

fn paths() -> impl Strategy<Value = Vec<Path>> {
    let v4 = (any::<u32>(), 0u8..=32, 1u32..4, 1u8..4).prop_map(|(address, length, id, hop)| Path {
        prefix: network(Ipv4Network::new(Ipv4Addr::from(address), length).unwrap().into()),
        id,
        next_hop: IpAddr::V4(Ipv4Addr::new(192, 0, 2, hop)),
    });
    let v6 = (any::<u128>(), 0u8..=128, 1u32..4, 1u16..4).prop_map(|(address, length, id, hop)| Path {
        prefix: network(Ipv6Network::new(Ipv6Addr::from(address), length).unwrap().into()),
        id,
        next_hop: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, hop)),
    });
    vec(prop_oneof![v4, v6], 0..400)
}

/// With host bits zero.
fn network(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).unwrap()
}

proptest! {
    #[test]
    fn any_bytes_before_the_open(input in vec(any::<u8>(), 0..300)) {
        let mut machine = machine(65_010, 65_010, 1, AddPath::Receive);
        machine.connected(&mut Vec::new());
        feed(&mut machine, &input);
    }

    #[test]
    fn any_body_before_the_open(kind in 0u8..7, body in vec(any::<u8>(), 0..300)) {
        let mut machine = machine(65_010, 65_010, 1, AddPath::Receive);
        machine.connected(&mut Vec::new());
        feed(&mut machine, &framed(kind, &body));
    }

    #[test]
    fn any_messages_when_established(
        asn in prop_oneof![Just(65_010u32), Just(12_076)],
        messages in vec((0u8..7, vec(any::<u8>(), 0..100)), 0..10),
    ) {
        let (mut machine, _) = established(asn);
        let input: Vec<u8> = messages.iter().flat_map(|(kind, body)| framed(*kind, body)).collect();
        feed(&mut machine, &input);
    }

    #[test]
    fn any_updates_when_established(
        asn in prop_oneof![Just(65_010u32), Just(12_076)],
        updates in vec(wild_update(), 1..10),
    ) {
        let (mut machine, _) = established(asn);
        feed(&mut machine, &updates.concat());
    }

    #[test]
    fn a_good_update_with_flipped_bytes(
        paths in paths(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut machine, negotiated) = established(65_010);
        let mut input = announcements(&paths, &negotiated).concat();
        for (index, value) in flips {
            if !input.is_empty() {
                let index = index.index(input.len());
                input[index] = value;
            }
        }
        feed(&mut machine, &input);
    }

    #[test]
    fn what_the_demo_encodes_is_read_back(paths in paths()) {
        let (mut machine, negotiated) = established(65_010);
        let mut got = BTreeSet::new();
        for output in feed(&mut machine, &announcements(&paths, &negotiated).concat()) {
            match output {
                Output::Update(events) => for event in events {
                    let RouteEvent::Update { announced, attributes, .. } = event else { panic!("{event:?}") };
                    let hop = attributes.next_hops[0].address;
                    got.extend(announced.into_iter().map(|nlri| (nlri.prefix, nlri.path_id, hop)));
                },
                other => prop_assert!(matches!(other, Output::Start(Timer::Hold, _)), "{:?}", other),
            }
        }
        let wanted: BTreeSet<_> = paths.iter().map(|path| (path.prefix, path.id, path.next_hop)).collect();
        prop_assert_eq!(got, wanted);

        let ids: Vec<_> = paths.iter().map(|path| (path.prefix, path.id)).collect();
        let mut gone = BTreeSet::new();
        for output in feed(&mut machine, &withdrawals(&ids, &negotiated).concat()) {
            if let Output::Update(events) = output {
                for event in events {
                    let RouteEvent::Update { withdrawn, .. } = event else { panic!("{event:?}") };
                    gone.extend(withdrawn.into_iter().map(|nlri| (nlri.prefix, nlri.path_id)));
                }
            }
        }
        prop_assert_eq!(gone, ids.into_iter().collect::<BTreeSet<_>>());
    }
}
