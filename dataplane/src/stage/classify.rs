//! `classify`: Ethernet header and tags → sub-interface, by array index. Control protocols are punted, frames
//! for others dropped. This is the long way, for any frame; `parse` knows those that are as expected.

use crate::burst::Burst;
use crate::header::{be16, ethernet};
use crate::packet::{Packet, StrippedTags};
use crate::sub_interface::{SubInterface, Tags};
use crate::tables::Tables;
use crate::verdict::{DropReason, PuntReason, Verdict};

/// The tags of a frame, outermost first; priority tags (VID 0) are left out.
struct Stack {
    /// (TPID, VID) of up to two tags. A TPID of 0 is that of a tag that the NIC took off.
    tags: [(u16, u16); 2],
    count: usize,
    /// Priority of the outermost tag, priority tags included.
    pcp: Option<u8>,
}

impl Stack {
    /// Adds the next tag inwards. `false`: there are two already.
    fn push(&mut self, tpid: u16, tci: u16) -> bool {
        self.pcp = self.pcp.or(Some(ethernet::pcp(tci)));
        let vid = ethernet::vid(tci);
        if vid == 0 {
            return true;
        }
        if self.count == 2 {
            return false;
        }
        self.tags[self.count] = (tpid, vid);
        self.count += 1;
        true
    }

    /// Whether the TPIDs are those that `expected` has.
    fn tpids_match(&self, expected: Tags) -> bool {
        let same = |i: usize, tpid: u16| self.tags[i].0 == tpid || self.tags[i].0 == 0;
        match expected {
            Tags::Untagged => true,
            Tags::One(tag) => same(0, tag.tpid),
            Tags::Two(outer, inner) => same(0, outer.tpid) && same(1, inner.tpid),
        }
    }
}

/// Most tags that are read, priority tags included.
const MAX_TAGS: usize = 3;

/// Finds the sub-interface of packet `i`, and what is above its tags.
pub fn run<P: Packet>(burst: &mut Burst<P>, i: usize, tables: &Tables) -> Verdict {
    let Some(packet) = &burst.packets[i] else { return Verdict::Drop(DropReason::FrameTooShort) };
    if packet.segments() != 1 {
        return Verdict::Drop(DropReason::MultiSegment);
    }
    let frame = packet.bytes();
    if frame.len() < ethernet::HEADER_LEN {
        return Verdict::Drop(DropReason::FrameTooShort);
    }
    let mut stack = Stack { tags: [(0, 0); 2], count: 0, pcp: None };
    let taken = match packet.stripped_tags() {
        StrippedTags::None => 0,
        StrippedTags::One(tci) => {
            stack.push(0, tci);
            1
        }
        StrippedTags::Two { outer, inner } => {
            stack.push(0, outer);
            stack.push(0, inner);
            2
        }
    };
    let mut at = ethernet::HEADER_LEN - 2;
    let mut ethertype = be16(frame, at);
    for _ in 0..MAX_TAGS {
        if !ethernet::is_tpid(ethertype) {
            break;
        }
        if frame.len() < at + ethernet::TAG_LEN + 2 {
            return Verdict::Drop(DropReason::FrameTooShort);
        }
        if !stack.push(ethertype, be16(frame, at + 2)) {
            return Verdict::Drop(DropReason::TooManyTags);
        }
        at += ethernet::TAG_LEN;
        ethertype = be16(frame, at);
    }
    if ethernet::is_tpid(ethertype) {
        return Verdict::Drop(DropReason::TooManyTags);
    }

    let found = tables.sub_interfaces.find(burst.port, stack.tags[0].1, stack.tags[1].1);
    let Some((id, sub_if)) = found.and_then(|id| Some((id, tables.sub_interfaces.get(id)?))) else {
        return Verdict::Drop(DropReason::UnknownTag);
    };
    if !stack.tpids_match(sub_if.tags) {
        return Verdict::Drop(DropReason::UnknownTag);
    }
    let l3_offset = at + 2;
    let verdict = destination_mac(frame, sub_if, ethertype);
    let multicast = frame[0] & 1 == 1;
    let len = burst.frame_len[i];
    // On the wire it had them.
    burst.frame_len[i] = len + taken * ethernet::TAG_LEN as u16;
    burst.sub_if[i] = id;
    burst.classified |= 1 << i;
    burst.pcp[i] = stack.pcp.unwrap_or(0);
    burst.l3_offset[i] = l3_offset as u8;
    burst.l3_len[i] = len.saturating_sub(l3_offset as u16);
    burst.link_multicast |= u64::from(multicast) << i;
    burst.ipv6 |= u64::from(ethertype == ethernet::IPV6) << i;
    verdict
}

fn destination_mac(frame: &[u8], sub_if: &SubInterface, ethertype: u16) -> Verdict {
    let for_us = frame[..6] == sub_if.mac || frame[0] & 1 == 1;
    match ethertype {
        _ if !for_us => Verdict::Drop(DropReason::WrongDestinationMac),
        ethernet::IPV4 | ethernet::IPV6 => Verdict::Forward,
        ethernet::ARP => Verdict::Punt(PuntReason::Arp),
        ethernet::SLOW_PROTOCOLS | ethernet::LLDP => Verdict::Punt(PuntReason::LinkControl),
        _ => Verdict::Drop(DropReason::UnknownEthertype),
    }
}
