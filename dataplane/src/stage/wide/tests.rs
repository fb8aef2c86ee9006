//! What the wide parse finds is what the portable one does.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::header::{checksum, ethernet};
use crate::ids::{PortId, VrfId};
use crate::packet::{Checksum, HeapPacket};
use crate::stage::parse;
use crate::sub_interface::{SubInterface, SubInterfaces, Tag, Tags};
use crate::tables::Tables;
use crate::worker::Instructions;

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Port 0 is regular and in two VRFs, port 1 in one, port 2 is not regular.
fn tables() -> Tables {
    let tag = |tpid, vid| Tag { tpid, vid };
    let on = |port, tags, vrf, mac| SubInterface {
        port: PortId(port),
        tags,
        vrf: VrfId(vrf),
        mac,
        mtu: 1500,
        pcp: None,
    };
    let all = vec![
        on(0, Tags::Untagged, 0, OURS),
        on(0, Tags::One(tag(0x8100, 1)), 0, OURS),
        on(0, Tags::One(tag(0x8100, 2)), 1, OURS),
        on(0, Tags::Two(tag(0x88a8, 2), tag(0x8100, 1)), 1, OURS),
        on(0, Tags::Two(tag(0x88a8, 3), tag(0x8100, 3)), 0, OURS),
        on(1, Tags::One(tag(0x8100, 2)), 0, OURS),
        on(1, Tags::Two(tag(0x8100, 1), tag(0x8100, 3)), 0, OURS),
        on(2, Tags::One(tag(0x8100, 1)), 0, OURS),
        on(2, Tags::One(tag(0x88a8, 2)), 0, OURS),
    ];
    Tables::new(Arc::new(SubInterfaces::new(all).unwrap()), Arc::new([]))
}

/// A byte that is changed afterwards: where, to what, and whether the checksum is mended again.
type Change = Option<(usize, u8, bool)>;

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![6 => Just(None), 1 => (0..64usize, any::<u8>(), any::<bool>()).prop_map(Some)]
}

/// Where a frame ends. One that is too short for any IP packet has the whole burst taken another way.
fn cut() -> impl Strategy<Value = usize> {
    prop_oneof![200 => Just(100usize), 15 => 34..80usize, 1 => 0..34usize]
}

/// A frame with these tags (TPID and TCI) that is right but for them, and then a byte of it changed, or its end cut off.
fn frame(tags: &[(u16, u16)], ipv6: bool, bytes: &[u8; 60], change: Change, cut: usize) -> Vec<u8> {
    let mut frame = OURS.to_vec();
    frame.extend(&bytes[..6]);
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(if ipv6 { ethernet::IPV6 } else { ethernet::IPV4 }.to_be_bytes());
    let l3 = frame.len();
    frame.extend(bytes);
    if ipv6 {
        frame[l3..l3 + 8].copy_from_slice(&[0x60, 0, 0, 0, 0, bytes[5] % 30, 17, bytes[7]]);
        frame[l3 + 8] = 0x20;
        frame[l3 + 24] = 0x20;
    } else {
        frame[l3..l3 + 4].copy_from_slice(&[0x45, 0, 0, 20 + bytes[3] % 50]);
        (frame[l3 + 12], frame[l3 + 16]) = (10, 11);
    }
    let mend = |frame: &mut Vec<u8>| {
        if !ipv6 {
            frame[l3 + 10..l3 + 12].fill(0);
            let sum = !checksum::sum(&frame[l3..l3 + 20]);
            frame[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
        }
    };
    mend(&mut frame);
    if let Some((at, value, again)) = change {
        // Bytes that matter are changed to values that matter now and then.
        let value = if value < 100 { [0, 1, 127, 169, 224, 254, 255][usize::from(value % 7)] } else { value };
        frame[at] = value;
        if again {
            mend(&mut frame);
        }
    }
    frame.truncate(cut);
    frame
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let vid = || prop_oneof![0..5u16, any::<u16>()];
    let tpid = || prop_oneof![4 => Just(0x8100u16), 2 => Just(0x88a8), 1 => any::<u16>()];
    let tags = prop::collection::vec((tpid(), vid()), 0..3);
    (tags, any::<bool>(), any::<[u8; 60]>(), change(), cut())
        .prop_map(|(tags, ipv6, bytes, change, cut)| frame(&tags, ipv6, &bytes, change, cut))
}

/// A burst of one kind, nearly all of it right; with one outer VLAN id for all, or several.
fn alike() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let tci = || (prop_oneof![4 => 1..4u16, 1 => 0..5u16], 0..8u16).prop_map(|(vid, pcp)| vid | pcp << 13);
    let change = prop_oneof![30 => Just(None), 1 => change()];
    let cut = prop_oneof![30 => Just(100usize), 1 => cut()];
    let each = prop::collection::vec((tci(), tci(), any::<[u8; 60]>(), change, cut), 1..=BURST);
    let outer_tpid = prop_oneof![Just(0x8100u16), Just(0x88a8u16)];
    (0..3usize, any::<bool>(), outer_tpid, prop::option::of(tci()), each).prop_map(
        |(count, ipv6, outer_tpid, outer, each)| {
            let of = |(tci, inner, bytes, change, cut): &(u16, u16, [u8; 60], Change, usize)| {
                let tags = [(outer_tpid, outer.unwrap_or(*tci)), (0x8100, *inner)];
                frame(&tags[..count], ipv6, bytes, *change, *cut)
            };
            each.iter().map(of).collect()
        },
    )
}

/// What is known of a packet after `parse`, in words.
fn outcome(burst: &Burst<HeapPacket>, i: usize) -> String {
    let at = |lane: &[u8]| lane.iter().position(|packet| usize::from(*packet) == i);
    let v4 = at(&burst.v4.packet[..burst.v4.len]).map(|at| {
        let aged = if burst.odd >> i & 1 == 1 { 0 } else { burst.aged[at] };
        (burst.v4.destination[at], aged)
    });
    let v6 = at(&burst.v6.packet[..burst.v6.len]).map(|at| burst.v6.destination[at]);
    let bit = |bits: u64| bits >> i & 1;
    let verdict = (bit(burst.alive) == 0).then(|| burst.verdict[i]);
    let arrival = (bit(burst.classified) == 1)
        .then(|| (burst.sub_if[i], burst.vrf[i], burst.l3_offset[i], burst.pcp[i]));
    let l3_len = (bit(burst.classified) == 1 && bit(burst.alive) == 1).then_some(burst.l3_len[i]);
    let odd = bit(burst.odd) == 1;
    format!("{odd} {verdict:?} {arrival:?} {l3_len:?} {} {v4:?} {v6:?}", burst.frame_len[i])
}

fn outcomes<const WIDE: bool>(tables: &Tables, port: u16, frames: &[Vec<u8>]) -> Vec<(Vec<u8>, String)> {
    outcomes_with::<WIDE>(tables, port, frames, &[])
}

/// `said`: what the NIC says of their checksums, if its word counts.
fn outcomes_with<const WIDE: bool>(
    tables: &Tables,
    port: u16,
    frames: &[Vec<u8>],
    said: &[Checksum],
) -> Vec<(Vec<u8>, String)> {
    let mut burst = Burst::new();
    for (slot, frame) in burst.packets.iter_mut().zip(frames) {
        *slot = Some(HeapPacket::new(frame));
    }
    burst.begin(PortId(port), frames.len());
    for (packet, said) in burst.packets.iter_mut().flatten().zip(said) {
        packet.checksum = *said;
    }
    burst.vouched = !said.is_empty();
    parse::run::<HeapPacket, WIDE>(&mut burst, tables);
    (0..frames.len())
        .map(|i| (burst.packets[i].as_ref().unwrap().bytes().to_vec(), outcome(&burst, i)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn an_honest_nic_changes_nothing(
        frames in prop_oneof![prop::collection::vec(any_frame(), 1..=BURST), alike()],
        port in 0..3u16,
        right_only in any::<bool>(),
        of_ipv6 in any::<bool>(),
    ) {
        let tables = tables();
        let wrong = |outcome: &String| outcome.contains("Ipv4Checksum");
        let portable = outcomes::<false>(&tables, port, &frames);
        let kept = |(_, (_, outcome)): &(&Vec<u8>, &(_, String))| !right_only || !wrong(outcome);
        let frames: Vec<_> = frames.iter().zip(&portable).filter(kept).map(|(frame, _)| frame.clone()).collect();
        let portable = outcomes::<false>(&tables, port, &frames);
        let said: Vec<_> = portable
            .iter()
            .map(|(_, outcome)| match outcome {
                outcome if wrong(outcome) => Checksum::Wrong,
                // Drivers differ in whether they call the checksum right of a packet that has none.
                _ if of_ipv6 => Checksum::Right,
                outcome if outcome.ends_with("None None") => Checksum::Unknown,
                _ => Checksum::Right,
            })
            .collect();
        prop_assert_eq!(&outcomes_with::<false>(&tables, port, &frames, &said), &portable);
        if Instructions::of_this_processor() == Instructions::Avx512 {
            prop_assert_eq!(&outcomes_with::<true>(&tables, port, &frames, &said), &portable);
        }
    }

    #[test]
    fn what_is_found_is_what_the_portable_way_finds(
        frames in prop_oneof![prop::collection::vec(any_frame(), 1..=BURST), alike()],
        port in 0..3u16,
    ) {
        if Instructions::of_this_processor() != Instructions::Avx512 {
            return Ok(());
        }
        let tables = tables();
        let portable = outcomes::<false>(&tables, port, &frames);
        let wide = outcomes::<true>(&tables, port, &frames);
        prop_assert!(portable.iter().map(|(frame, _)| frame).eq(&frames));
        prop_assert_eq!(&wide, &portable);
    }
}
