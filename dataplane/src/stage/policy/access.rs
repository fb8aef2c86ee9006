//! Access lists: which packets may come in by a sub-interface, and which may go out by it.

use crate::acl::{Address, Classifier, DENIED, Ends, Keys, RuleCounters, read4, read6};
use crate::burst::{BURST, Bits, Burst, Lane, common};
use crate::ids::AclId;
use crate::packet::Packet;
use crate::policy::{Direction, Policies};
use crate::stage::policy::refuse;
use crate::sub_interface::Tags;
use crate::tables::Tables;
use crate::verdict::DropReason;

/// Refuses those of `packets` that the lists of their sub-interfaces deny, and counts what each rule matched.
pub fn run<P: Packet>(burst: &mut Burst<P>, tables: &Tables, direction: Direction, packets: u64) {
    // Taken out and put back, so that the burst can be written to.
    let counters = burst.rule_counters.take();
    let mut rest = packets;
    while rest != 0 {
        let list = list_of(burst, &tables.policies, direction, rest.trailing_zeros() as usize);
        let mut together = 0;
        for i in Bits(rest) {
            together |= u64::from(list_of(burst, &tables.policies, direction, i) == list) << i;
        }
        rest &= !together;
        let Some(acl) = list.and_then(|id| tables.policies.list(id)) else { continue };
        let counters = counters.as_deref();
        let denied = judge(burst, tables, together, &burst.v4, &acl.v4, read4, counters)
            | judge(burst, tables, together, &burst.v6, &acl.v6, read6, counters);
        let reason = match direction {
            Direction::In => DropReason::AclDeniedIn,
            Direction::Out => DropReason::AclDeniedOut,
        };
        for i in Bits(denied) {
            refuse(burst, tables, i, reason);
        }
    }
    burst.rule_counters = counters;
}

#[inline(always)]
fn list_of<P>(burst: &Burst<P>, policies: &Policies, direction: Direction, i: usize) -> Option<AclId> {
    let i = i & (BURST - 1);
    let id = match direction {
        Direction::In => burst.sub_if[i],
        Direction::Out => burst.out_sub_if[i],
    };
    policies.access(id, direction)
}

/// Judges those of `packets` that are in one family's lane. Returns those that are denied, as bits.
#[inline(always)]
fn judge<P: Packet, A: Address>(
    burst: &Burst<P>,
    tables: &Tables,
    packets: u64,
    lane: &Lane<A>,
    classifier: &Classifier<A>,
    read: impl Fn(&mut Keys<A>, usize, &[u8]),
    counters: Option<&RuleCounters>,
) -> u64 {
    if lane.len == 0 {
        return 0;
    }
    let mut keys = Keys::default();
    let (mut numbers, mut lens) = ([0u8; BURST], [0u16; BURST]);
    for (_, i) in lane.of(packets) {
        let at = keys.len & (BURST - 1);
        let len = burst.l3_len[i];
        // Padding behind the packet is not part of it.
        let packet = burst.l3(i);
        read(&mut keys, at, packet.get(..usize::from(len)).unwrap_or(packet));
        (numbers[at], lens[at]) = (i as u8, len);
        keys.len = at + 1;
    }
    let len = keys.len;
    if len == 0 {
        return 0;
    }
    if classifier.asks_for_tags() {
        for (at, i) in numbers[..len].iter().enumerate() {
            let received = burst.sub_if[usize::from(*i) & (BURST - 1)];
            let tags = tables.sub_interfaces.get(received).map_or(Tags::Untagged, |sub_if| sub_if.tags);
            (keys.outer_vlan[at], keys.inner_vlan[at]) = match tags {
                Tags::Untagged => (0, 0),
                Tags::One(tag) => (tag.vid, 0),
                Tags::Two(outer, inner) => (outer.vid, inner.vid),
            };
        }
    }
    let mut ends: Ends = [0; BURST];
    let counted = |at: usize, counter: u16| {
        if let Some(counters) = counters {
            counters.add(counter, 1, u64::from(lens[at & (BURST - 1)]));
        }
    };
    let denied = classifier.classify(&keys, &mut ends, counted);
    if let Some(counters) = counters {
        count(counters, &ends[..len], &lens[..len]);
    }
    (0..len).fold(0, |bits, at| bits | (denied >> at & 1) << (numbers[at] & (BURST as u8 - 1)))
}

/// Counts where each packet's way ended.
#[inline(always)]
fn count(counters: &RuleCounters, ends: &[u16], lens: &[u16]) {
    // The highest bit of an end is no part of its counter.
    if let Some(end) = common(ends) {
        let bytes: u32 = lens.iter().map(|len| u32::from(*len)).sum();
        return counters.add(end & !DENIED, ends.len() as u64, u64::from(bytes));
    }
    for (end, len) in ends.iter().zip(lens) {
        counters.add(end & !DENIED, 1, u64::from(*len));
    }
}
