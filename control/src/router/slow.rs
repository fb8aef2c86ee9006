//! Packets that a worker does not forward itself, but that go on: IPv4 options to act on, IPv6 hop-by-hop options, and
//! IPv4 packets to be cut into fragments.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use dataplane::adjacency::Adjacency;
use dataplane::header::{ethernet, ipv4, ipv6};
use dataplane::ids::SubIfId;
use dataplane::punt::Punted;
use dataplane::verdict::PuntReason;
use dpdk_sys::Mbuf;

use super::forward::{Decided, Outcome, Stage, header};
use super::fragment;
use super::hop_by_hop::{self, Refusal};
use super::icmp::Fault;
use super::ip_options::{self, Ours};
use super::neighbours::Neighbours;
use super::punts::{Held, Punts, Surroundings};
use crate::config::model::{Config, SubInterface};

impl Punts {
    /// Checks a packet's IPv4 options, and sends it on.
    pub(super) fn ip_options(
        &mut self,
        punted: Punted<Mbuf>,
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) {
        let Some(punted) = self.admitted(punted, neighbours, with) else { return };
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
        let Some(punted) = self.admitted(punted, neighbours, with) else { return };
        let packet = l3(&punted);
        let len = ipv6::HEADER_LEN + usize::from(ipv6::payload_len(packet));
        match hop_by_hop::check(packet.get(..len).unwrap_or(packet)) {
            Ok(()) => self.resume(punted, neighbours, with),
            Err(Refusal::Silent) => self.outcomes.count("hop_by_hop_option"),
            Err(Refusal::Wrong(at)) => self.error(&punted, Fault::Header6(at), neighbours, with),
            Err(Refusal::Unknown(at)) => self.error(&punted, Fault::Option6(at), neighbours, with),
        }
    }

    /// The packet, if it passes the checks of what comes in: whom these keep out gets no answer about options either.
    fn admitted(
        &mut self,
        punted: Punted<Mbuf>,
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) -> Option<Punted<Mbuf>> {
        let tables = &with.publisher.tables;
        let Punted { packet, reason, port, sub_if, l3_offset, adjacency } = punted;
        match self.forwarder.admit(packet, tables.sub_interfaces.get(sub_if)?, tables) {
            Ok(packet) => Some(Punted { packet, reason, port, sub_if, l3_offset, adjacency }),
            Err(decided) => {
                self.decided(decided, neighbours, with);
                None
            }
        }
    }

    /// Forwards a packet whose options are right.
    fn resume(&mut self, punted: Punted<Mbuf>, neighbours: &mut Neighbours<Held>, with: &Surroundings) {
        let tables = &with.publisher.tables;
        let Some(sub_if) = tables.sub_interfaces.get(punted.sub_if) else { return };
        let record = recorder(with.config, punted.sub_if);
        let decided = self.forwarder.forward(punted.packet, Stage::Admitted, sub_if, tables, record);
        self.decided(decided, neighbours, with);
    }

    fn decided(&mut self, decided: Decided, neighbours: &mut Neighbours<Held>, with: &Surroundings) {
        match decided {
            Decided::Done(Outcome::Sent) => self.outcomes.count("forwarded"),
            Decided::Done(Outcome::Ended(why)) => self.outcomes.count(why),
            Decided::Punted(punted) => self.handle(punted, neighbours, with),
            Decided::Refused(why, punted) => self.refused(why, &punted, neighbours, with),
        }
    }

    /// Records us in a packet where that is asked for, and cuts it into fragments for the link that its route leads to.
    pub(super) fn fragment(
        &mut self,
        punted: &Punted<Mbuf>,
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) {
        let mut packet = l3(punted).to_vec();
        if let Adjacency::Forward(adjacency) = with.publisher.tables.adjacency(punted.adjacency) {
            recorder(with.config, punted.sub_if)(adjacency.sub_if, &mut packet);
        }
        self.cut(punted, &packet, neighbours, with);
    }

    /// Sends `packet`, which is to go the way of `punted`, in fragments.
    fn cut(
        &mut self,
        punted: &Punted<Mbuf>,
        packet: &[u8],
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
        let Some(fragments) = fragment::fragments(packet, adjacency.mtu) else {
            return self.outcomes.count("not_to_be_fragmented");
        };
        let l2 = received_header(punted, sub_if);
        for fragment in fragments {
            let decided = match self.forwarder.wrap(&l2, &fragment) {
                Ok(frame) => self.forwarder.forward(frame, Stage::Ours, sub_if, tables, |_, _| {}),
                Err(outcome) => Decided::Done(outcome),
            };
            match decided {
                Decided::Done(Outcome::Sent) => self.outcomes.count("fragment_sent"),
                Decided::Done(Outcome::Ended(why)) => self.outcomes.count(why),
                Decided::Punted(punted) if punted.reason == PuntReason::Unresolved => {
                    self.unresolved(punted, Stage::Ours, neighbours, with);
                }
                // By addresses alone, fragments may take another link than the packet, and one of a lower MTU. Theirs
                // take the same, and fit.
                Decided::Punted(again) if again.reason == PuntReason::Fragment => {
                    let packet = l3(&again).to_vec();
                    self.cut(&again, &packet, neighbours, with);
                }
                Decided::Punted(punted) => self.outcomes.count(punted.reason.name()),
                Decided::Refused(why, _) => self.outcomes.count(why.name()),
            }
        }
    }
}

/// The IP or ARP packet, with whatever lies behind its end.
pub(super) fn l3(punted: &Punted<Mbuf>) -> &[u8] {
    punted.packet.bytes().get(usize::from(punted.l3_offset)..).unwrap_or(&[])
}

/// The L2 header that a packet came with; with the tags that the NIC took off, but for a priority tag.
fn received_header(punted: &Punted<Mbuf>, sub_if: &dataplane::sub_interface::SubInterface) -> Vec<u8> {
    let stripped = punted.packet.stripped_qinq().map(|(outer, _)| outer).or(punted.packet.stripped_vlan());
    match (stripped, punted.packet.bytes().get(..usize::from(punted.l3_offset))) {
        (None, Some(l2)) => l2.to_vec(),
        (tci, _) => header(ethernet::IPV4, ethernet::pcp(tci.unwrap_or(0)), sub_if),
    }
}

/// Records our addresses and the time where the IPv4 options of a packet, received on `ingress`, ask for it. The first
/// argument of what is returned is the sub-interface that the packet leaves by.
pub(super) fn recorder(config: &Config, ingress: SubIfId) -> impl Fn(SubIfId, &mut [u8]) {
    move |egress, packet| {
        if ipv4::header_len(packet) <= ipv4::MIN_HEADER_LEN {
            return;
        }
        let by_id = |id: SubIfId| config.sub_interfaces.get(usize::from(id.0));
        let (Some(ingress), Some(egress)) = (by_id(ingress), by_id(egress)) else { return };
        // A link without an IPv4 address goes unrecorded.
        let Some((in_address, out_address)) = first_v4(ingress).zip(first_v4(egress)) else { return };
        let ours = Ours { egress: out_address, ingress: in_address, millis: millis_of_the_day() };
        let is_ours =
            |wanted: Ipv4Addr| config.addresses_in(ingress.vrf).any(|address| address.ip() == wanted);
        ip_options::record(packet, ours, is_ours);
    }
}

fn first_v4(sub_if: &SubInterface) -> Option<Ipv4Addr> {
    sub_if.addresses.iter().find_map(|address| match address.ip() {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    })
}

/// Milliseconds since midnight UTC (RFC 791, section 3.1).
fn millis_of_the_day() -> u32 {
    const DAY: u128 = 86_400_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    (now % DAY) as u32
}
