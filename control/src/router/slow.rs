//! Packets that a worker does not forward itself, but that go on: IPv4 options to act on, IPv6 hop-by-hop options, and
//! IPv4 packets to be cut into fragments.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use dataplane::adjacency::Adjacency;
use dataplane::header::{be16, ethernet, ipv4, ipv6};
use dataplane::ids::SubIfId;
use dataplane::punt::Punted;
use dataplane::verdict::PuntReason;
use dpdk_sys::Mbuf;

use super::forward::{Decided, Outcome};
use super::hop_by_hop::{self, Refusal};
use super::icmp::Fault;
use super::neighbours::Neighbours;
use super::punts::{Held, Punts, Surroundings};
use super::{fragment, ip_options};
use crate::config::model::Config;

impl Punts {
    /// Checks a packet's IPv4 options, and sends it on.
    pub(super) fn ip_options(
        &mut self,
        punted: Punted<Mbuf>,
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) {
        match ip_options::check(l3(&punted)) {
            Err(pointer) => self.error(&punted, Fault::Header(pointer), neighbours, with),
            Ok(checked) if checked.source_route => self.outcomes.count("source_route"),
            Ok(_) => self.resume(punted, neighbours, with),
        }
    }

    /// Checks a packet's hop-by-hop options, and sends it on.
    pub(super) fn hop_by_hop(
        &mut self,
        punted: Punted<Mbuf>,
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) {
        let packet = l3(&punted);
        let len = ipv6::HEADER_LEN + usize::from(ipv6::payload_len(packet));
        match hop_by_hop::check(packet.get(..len).unwrap_or(packet)) {
            Ok(()) => self.resume(punted, neighbours, with),
            Err(Refusal::Silent) => self.outcomes.count("hop_by_hop_option"),
            Err(Refusal::Wrong(at)) => self.error(&punted, Fault::Header6(at), neighbours, with),
            Err(Refusal::Unknown(at)) => self.error(&punted, Fault::Option6(at), neighbours, with),
        }
    }

    /// Forwards a packet whose options are right.
    fn resume(&mut self, punted: Punted<Mbuf>, neighbours: &mut Neighbours<Held>, with: &Surroundings) {
        let tables = &with.publisher.tables;
        let Some(sub_if) = tables.sub_interfaces.get(punted.sub_if) else { return };
        match self.forwarder.forward(punted.packet, sub_if, tables, recorder(with.config)) {
            Decided::Done(Outcome::Sent) => self.outcomes.count("forwarded"),
            Decided::Done(Outcome::Ended(why)) => self.outcomes.count(why),
            Decided::Punted(punted) => self.handle(punted, neighbours, with),
        }
    }

    /// Cuts a packet into fragments for the link that its route leads to, and sends them on.
    pub(super) fn fragment(
        &mut self,
        punted: &Punted<Mbuf>,
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) {
        let tables = &with.publisher.tables;
        // The route may have gone while the packet was on its way here.
        let (Adjacency::Forward(adjacency), Some(sub_if)) =
            (tables.adjacency(punted.adjacency), tables.sub_interfaces.get(punted.sub_if))
        else {
            return self.outcomes.count("fragment_no_route");
        };
        let mut packet = l3(punted).to_vec();
        recorder(with.config)(adjacency.sub_if, &mut packet);
        let Some(fragments) = fragment::fragments(&packet, adjacency.mtu) else {
            return self.outcomes.count("not_to_be_fragmented");
        };
        for fragment in fragments {
            let pcp = received_priority(punted);
            let decided = match self.forwarder.wrap(&fragment, ethernet::IPV4, pcp, sub_if) {
                Ok(frame) => self.forwarder.forward(frame, sub_if, tables, |_, _| {}),
                Err(outcome) => Decided::Done(outcome),
            };
            match decided {
                Decided::Done(Outcome::Sent) => self.outcomes.count("fragment_sent"),
                Decided::Done(Outcome::Ended(why)) => self.outcomes.count(why),
                Decided::Punted(punted) if punted.reason == PuntReason::Unresolved => {
                    self.unresolved(punted, neighbours, with);
                }
                // By addresses alone, fragments may take another link than the packet: one of a lower MTU, say.
                Decided::Punted(punted) => self.outcomes.count(punted.reason.name()),
            }
        }
    }
}

/// The IP packet, with whatever lies behind its end.
fn l3(punted: &Punted<Mbuf>) -> &[u8] {
    punted.packet.bytes().get(usize::from(punted.l3_offset)..).unwrap_or(&[])
}

/// Priority of the outermost tag.
fn received_priority(punted: &Punted<Mbuf>) -> u8 {
    let stripped = punted.packet.stripped_vlan().or(punted.packet.stripped_qinq().map(|(outer, _)| outer));
    let tci = match stripped {
        None if punted.l3_offset > 14 => be16(punted.packet.bytes(), 14),
        stripped => stripped.unwrap_or(0),
    };
    ethernet::pcp(tci)
}

/// Records our address on the link that a packet leaves by, and the time, where its IPv4 options ask for it.
pub(super) fn recorder(config: &Config) -> impl Fn(SubIfId, &mut [u8]) {
    move |egress, packet| {
        if ipv4::header_len(packet) <= ipv4::MIN_HEADER_LEN {
            return;
        }
        let Some(sub_if) = config.sub_interfaces.get(usize::from(egress.0)) else { return };
        let addresses = |sub_if: &crate::config::model::SubInterface| -> Vec<Ipv4Addr> {
            let v4 = |address: IpAddr| match address {
                IpAddr::V4(v4) => Some(v4),
                IpAddr::V6(_) => None,
            };
            sub_if.addresses.iter().filter_map(|address| v4(address.ip())).collect()
        };
        let Some(ours) = addresses(sub_if).first().copied() else { return };
        let is_ours = |wanted: Ipv4Addr| {
            let mut in_vrf = config.sub_interfaces.iter().filter(|other| other.vrf == sub_if.vrf);
            in_vrf.any(|other| addresses(other).contains(&wanted))
        };
        ip_options::record(packet, ours, millis_of_the_day(), is_ours);
    }
}

/// Milliseconds since midnight UTC (RFC 791, section 3.1).
fn millis_of_the_day() -> u32 {
    const DAY: u128 = 86_400_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    (now % DAY) as u32
}
