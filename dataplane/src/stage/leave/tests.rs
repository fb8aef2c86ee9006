//! A burst leaves `depart` as it leaves `select` and `rewrite` packet by packet.

use std::sync::Arc;

use proptest::prelude::*;

use crate::adjacency::{Adjacency, Forward};
use crate::burst::{BURST, Burst};
use crate::header::{checksum, ethernet};
use crate::ids::{GroupId, PortId, SubIfId, VrfId};
use crate::packet::{HeapPacket, Packet};
use crate::stage::{depart, each, parse};
use crate::sub_interface::{SubInterface, SubInterfaces, Tag, Tags};
use crate::tables::Tables;
use crate::verdict::DropReason;

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GROUPS: u32 = 9;

fn tags(count: usize) -> Tags {
    let tag = |tpid, vid| Tag { tpid, vid };
    match count {
        0 => Tags::Untagged,
        1 => Tags::One(tag(0x8100, 5)),
        _ => Tags::Two(tag(0x88a8, 7), tag(0x8100, 9)),
    }
}

/// Groups 0 to 2 lead out with as many tags; 3 and 4 with one and two of a priority of their own; 5 to two
/// neighbours; 6 to a port that has no room in an exit; 7 nowhere; 8 is none.
fn tables() -> Tables {
    let on = |port, count, pcp| SubInterface {
        port: PortId(port),
        tags: tags(count),
        vrf: VrfId(0),
        mac: OURS,
        mtu: 1500,
        pcp,
    };
    let ways = [(1, 0, None), (1, 1, None), (1, 2, None), (2, 1, Some(3)), (2, 2, Some(6)), (300, 1, None)];
    let ways = ways.map(|(port, count, pcp)| on(port, count, pcp));
    let arrivals = (0..3).map(|count| on(0, count, None));
    let all = arrivals.chain(ways.iter().cloned()).collect();
    let mut tables = Tables::new(Arc::new(SubInterfaces::new(all).unwrap()), Arc::new([]));
    let ids: Vec<_> = ways
        .iter()
        .zip(3..)
        .map(|(way, id)| {
            tables.add_adjacency(Adjacency::Forward(Forward::new(
                SubIfId(id),
                way,
                [2, 0, 0, 0, 9, id as u8],
            )))
        })
        .collect();
    let nowhere = tables.add_adjacency(Adjacency::Drop(DropReason::DiscardRoute));
    for members in
        [&ids[..1], &ids[1..2], &ids[2..3], &ids[3..4], &ids[4..5], &ids[1..3], &ids[5..], &[nowhere]]
    {
        tables.add_group(members);
    }
    tables
}

/// A packet that is as expected: tags, family, priority, padding, headroom, TTL.
#[derive(Clone, Debug)]
struct Given {
    tags: usize,
    ipv6: bool,
    pcp: u16,
    padding: usize,
    headroom: usize,
    ttl: u8,
    bytes: [u8; 40],
    group: u32,
    /// Whether a policy drops it before.
    dropped: bool,
}

impl Given {
    fn packet(&self) -> HeapPacket {
        let mut frame = OURS.to_vec();
        frame.extend(&self.bytes[..6]);
        let vlans: &[(u16, u16)] = [&[][..], &[(0x8100, 5)], &[(0x88a8, 7), (0x8100, 9)]][self.tags];
        for (tpid, vid) in vlans {
            frame.extend(tpid.to_be_bytes());
            frame.extend((vid | self.pcp << 13).to_be_bytes());
        }
        frame.extend(if self.ipv6 { ethernet::IPV6 } else { ethernet::IPV4 }.to_be_bytes());
        let l3 = frame.len();
        frame.extend(self.bytes);
        if self.ipv6 {
            frame[l3..l3 + 8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 17, self.ttl]);
            (frame[l3 + 8], frame[l3 + 24]) = (0x20, 0x20);
        } else {
            frame[l3..l3 + 4].copy_from_slice(&[0x45, 0, 0, 20 + self.bytes[3] % 21]);
            frame.truncate(l3 + 20 + usize::from(self.bytes[3] % 21));
            (frame[l3 + 8], frame[l3 + 12], frame[l3 + 16]) = (self.ttl, 10, 11);
            frame[l3 + 10..l3 + 12].fill(0);
            let sum = !checksum::sum(&frame[l3..l3 + 20]);
            frame[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
        }
        frame.extend(std::iter::repeat_n(0, self.padding));
        HeapPacket::with_headroom(&frame, self.headroom)
    }
}

fn given() -> impl Strategy<Value = Given> {
    let headroom = prop_oneof![9 => Just(128usize), 1 => 0..9usize];
    let padding = prop_oneof![3 => Just(0usize), 1 => 0..20usize];
    let pcp = prop_oneof![2 => Just(0u16), 1 => 0..8u16];
    let group = prop_oneof![9 => 0..5u32, 1 => 0..GROUPS];
    let dropped = prop_oneof![60 => Just(false), 1 => Just(true)];
    (0..3usize, any::<bool>(), pcp, padding, headroom, 2..=255u8, any::<[u8; 40]>(), (group, dropped))
        .prop_map(|(tags, ipv6, pcp, padding, headroom, ttl, bytes, (group, dropped))| Given {
            tags,
            ipv6,
            pcp,
            padding,
            headroom,
            ttl,
            bytes,
            group,
            dropped,
        })
}

/// What becomes of them, in words.
fn outcome(all: &[Given], tables: &Tables, go: impl FnOnce(&mut Burst<HeapPacket>)) -> Vec<String> {
    let mut burst = Burst::new();
    for (slot, given) in burst.packets.iter_mut().zip(all) {
        *slot = Some(given.packet());
    }
    burst.begin(PortId(0), all.len());
    parse::run::<HeapPacket, false>(&mut burst, tables);
    assert_eq!(burst.odd, 0, "all are as expected");
    for (i, _) in all.iter().enumerate().filter(|(_, given)| given.dropped) {
        burst.drop_packet(i, DropReason::AclDeniedIn);
    }
    burst.close_ranks();
    let group = |i: u8| GroupId(GroupId::FIRST_FREE.0 + all[usize::from(i)].group);
    for at in 0..burst.v4.len {
        burst.v4.group[at] = group(burst.v4.packet[at]);
    }
    for at in 0..burst.v6.len {
        burst.v6.group[at] = group(burst.v6.packet[at]);
    }
    go(&mut burst);
    (0..all.len())
        .map(|i| {
            let bytes = burst.packets[i].as_ref().unwrap().bytes();
            if burst.alive >> i & 1 == 0 {
                return format!("{:?} {bytes:?}", burst.verdict[i]);
            }
            let out = (burst.adjacency[i], burst.out_sub_if[i], burst.out_port[i], burst.out_len[i]);
            format!("{out:?} {bytes:?}")
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 1000 }))]
    #[test]
    fn a_burst_leaves_as_its_packets_would(
        mut all in prop::collection::vec(given(), 1..=BURST),
        alike in 0..4u8,
    ) {
        // The same shape for all, the same exit too, or neither.
        let first = all[0].clone();
        for given in &mut all {
            if alike > 0 {
                (given.tags, given.ipv6) = (first.tags, first.ipv6);
            }
            match alike {
                1 => given.group = first.group,
                // Of those with two tags.
                2 => given.group = [2, 4][given.group as usize % 2],
                _ => {}
            }
        }
        let tables = tables();
        let one_by_one = outcome(&all, &tables, |burst| {
            each::<HeapPacket, false, false>(burst, &tables);
            each::<HeapPacket, true, false>(burst, &tables);
        });
        let portable = outcome(&all, &tables, |burst| {
            assert!(depart::run::<HeapPacket, false>(burst, &tables));
        });
        prop_assert_eq!(&portable, &one_by_one);
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if crate::worker::Instructions::of_this_processor() == crate::worker::Instructions::Avx512 {
            let wide = outcome(&all, &tables, |burst| {
                assert!(depart::run::<HeapPacket, true>(burst, &tables));
            });
            prop_assert_eq!(&wide, &one_by_one);
        }
    }
}
