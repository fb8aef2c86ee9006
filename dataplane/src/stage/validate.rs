//! `validate`: is it a well-formed IP packet that may be routed? (RFC 1812, sections 5.2.2 and 5.3.7; RFC 8200,
//! section 3; RFC 4291, section 2.) This is the long way, for any packet; `parse` knows those that are as expected.

use crate::burst::Burst;
use crate::header::{checksum, ipv4, ipv6, options};
use crate::packet::Packet;
use crate::stage::select::local_reason;
use crate::verdict::{DropReason, PuntReason, Verdict};

/// Checks the header of packet `i`, notes its length, and has its destination looked up.
pub fn run<P: Packet>(burst: &mut Burst<P>, i: usize) -> Verdict {
    if burst.is_ipv6(i) { validate6(burst, i) } else { validate4(burst, i) }
}

fn validate4<P: Packet>(burst: &mut Burst<P>, i: usize) -> Verdict {
    let packet = burst.l3(i);
    let header_len = ipv4::header_len(packet);
    if header_len < ipv4::MIN_HEADER_LEN || header_len > packet.len() || packet[0] >> 4 != 4 {
        return Verdict::Drop(DropReason::Ipv4Header);
    }
    let total_len = usize::from(ipv4::total_len(packet));
    if total_len < header_len || total_len > packet.len() {
        return Verdict::Drop(DropReason::Ipv4Length);
    }
    if checksum::sum(&packet[..header_len]) != 0xffff {
        return Verdict::Drop(DropReason::Ipv4Checksum);
    }
    let (source, destination) = (ipv4::source(packet), ipv4::destination(packet));
    burst.l3_len[i] = total_len as u16;
    let multicast = destination >> 28 == 0xe || destination == u32::MAX;
    if is_bogus_source4(source) && !(source == 0 && multicast) {
        return Verdict::Drop(DropReason::MartianSource);
    }
    if multicast {
        return Verdict::Punt(PuntReason::Multicast);
    }
    if burst.link_multicast >> i & 1 == 1 {
        return Verdict::Drop(DropReason::LinkBroadcast);
    }
    // 0/8, 127/8 and 240/4 (RFC 1812, section 5.3.7; RFC 6890).
    if matches!(destination >> 24, 0 | 127 | 240..) {
        return Verdict::Drop(DropReason::MartianDestination);
    }
    let link_local = ipv4::is_link_local(source) || ipv4::is_link_local(destination);
    let verdict = if header_len > ipv4::MIN_HEADER_LEN && !burst.seen_to.options {
        examine(burst.l3(i), header_len)
    } else {
        Verdict::Forward
    };
    burst.link_local |= u64::from(link_local) << i;
    if verdict == Verdict::Forward {
        burst.v4.push(i, destination);
    }
    verdict
}

/// What the options of an IPv4 header ask for.
#[cold]
fn examine(packet: &[u8], header_len: usize) -> Verdict {
    match options::classify(&packet[ipv4::MIN_HEADER_LEN..header_len]) {
        options::Class::Passive => Verdict::Forward,
        options::Class::SourceRoute => Verdict::Drop(DropReason::SourceRoute),
        options::Class::Active => Verdict::Punt(PuntReason::IpOptions),
    }
}

/// 0/8, 127/8, multicast and 240/4 (RFC 1812, section 5.3.7; RFC 6890).
fn is_bogus_source4(source: u32) -> bool {
    matches!(source >> 24, 0 | 127 | 224..)
}

fn validate6<P: Packet>(burst: &mut Burst<P>, i: usize) -> Verdict {
    let packet = burst.l3(i);
    if packet.len() < ipv6::HEADER_LEN || packet[0] >> 4 != 6 {
        return Verdict::Drop(DropReason::Ipv6Header);
    }
    let total_len = ipv6::HEADER_LEN + usize::from(ipv6::payload_len(packet));
    if total_len > packet.len() {
        return Verdict::Drop(DropReason::Ipv6Length);
    }
    let (source, destination) = (ipv6::source(packet), ipv6::destination(packet));
    let discovery = ipv6::is_neighbour_discovery(packet);
    let hop_by_hop = ipv6::next_header(packet) == ipv6::HOP_BY_HOP;
    let link_local = ipv6::is_link_local(destination).then(|| local_reason(packet, true));
    burst.l3_len[i] = total_len as u16;
    let multicast = ipv6::is_multicast(destination);
    // The unspecified source is right in duplicate address detection and MLD only (RFC 4291, section 2.5.2).
    if ipv6::is_multicast(source) || source == 1 || (source == 0 && !multicast) || ipv6::is_mapped(source) {
        return Verdict::Drop(DropReason::MartianSource);
    }
    if multicast {
        let reason = if discovery { PuntReason::NeighbourDiscovery } else { PuntReason::Multicast };
        return Verdict::Punt(reason);
    }
    if burst.link_multicast >> i & 1 == 1 {
        return Verdict::Drop(DropReason::LinkBroadcast);
    }
    if destination <= 1 || ipv6::is_mapped(destination) {
        return Verdict::Drop(DropReason::MartianDestination);
    }
    if let Some(reason) = link_local {
        return Verdict::Punt(reason);
    }
    burst.link_local |= u64::from(ipv6::is_link_local(source)) << i;
    if hop_by_hop && !burst.seen_to.options {
        return Verdict::Punt(PuntReason::HopByHop);
    }
    burst.v6.push(i, destination);
    Verdict::Forward
}
