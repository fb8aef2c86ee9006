//! Packets that a worker does not forward itself, but that go on: IPv4 options to act on, IPv6 hop-by-hop options, and
//! IPv4 packets to be cut into fragments.

use std::time::{SystemTime, UNIX_EPOCH};

use dataplane::header::{ipv4, ipv6};
use dataplane::ids::SubIfId;
use dataplane::punt::Punted;
use dpdk_sys::Mbuf;

use super::forward::{Decided, Outcome, Stage};
use super::hop_by_hop::{self, Refusal};
use super::icmp::Fault;
use super::ip_options::{self, Ours};
use super::neighbours::Neighbours;
use super::own_addresses::OwnAddresses;
use super::punts::{Held, Punts, Surroundings};

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
        let sub_if = tables.sub_interfaces.get(punted.sub_if)?;
        match self.forwarder.admit(punted.packet, sub_if, tables) {
            Ok(packet) => Some(Punted { packet, ..punted }),
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
        let record = recorder(&self.own, punted.sub_if);
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

    /// Records us in a packet where that is asked for, and sends it in fragments.
    pub(super) fn fragment(
        &mut self,
        punted: Punted<Mbuf>,
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) {
        let tables = &with.publisher.tables;
        let Some(sub_if) = tables.sub_interfaces.get(punted.sub_if) else { return };
        let record = recorder(&self.own, punted.sub_if);
        match self.forwarder.fragment(punted.packet, sub_if, tables, record) {
            Ok(outcomes) => {
                for outcome in outcomes {
                    self.outcomes.count(match outcome {
                        Outcome::Sent => "fragment_sent",
                        Outcome::Ended(why) => why,
                    });
                }
            }
            Err(decided) => self.decided(decided, neighbours, with),
        }
    }

    /// Tells the sender of a packet that waits for nothing but its neighbour, and that the neighbour's link is too small
    /// for: that it is, or that it may not go there.
    pub(super) fn too_large(
        &mut self,
        punted: Punted<Mbuf>,
        exit: SubIfId,
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) {
        let tables = &with.publisher.tables;
        let sub_if = |id| tables.sub_interfaces.get(id);
        let (Some(ingress), Some(mtu)) = (sub_if(punted.sub_if), sub_if(exit).map(|exit| exit.mtu)) else {
            return;
        };
        match self.forwarder.judge(punted.packet, ingress, exit, tables) {
            Ok(packet) => {
                self.error(&Punted { packet, ..punted }, Fault::TooBig(mtu), neighbours, with);
            }
            Err(decided) => self.decided(decided, neighbours, with),
        }
    }
}

/// The IP or ARP packet, with whatever lies behind its end.
pub(super) fn l3(punted: &Punted<Mbuf>) -> &[u8] {
    punted.packet.bytes().get(usize::from(punted.l3_offset)..).unwrap_or(&[])
}

/// Whether it is IPv4.
pub(super) fn is_v4(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 4)
}

/// Records our addresses and the time where the IPv4 options of a packet, received on `ingress`, ask for it. The first
/// argument of what is returned is the sub-interface that the packet leaves by.
pub(super) fn recorder(own: &OwnAddresses, ingress: SubIfId) -> impl Fn(SubIfId, &mut [u8]) {
    move |egress, packet| {
        if ipv4::header_len(packet) <= ipv4::MIN_HEADER_LEN {
            return;
        }
        // A link without an IPv4 address goes unrecorded.
        let Some((in_address, out_address)) = own.first_v4(ingress).zip(own.first_v4(egress)) else { return };
        let ours = Ours { egress: out_address, ingress: in_address, millis: millis_of_the_day() };
        ip_options::record(packet, ours, |wanted| own.is_ours(ingress, wanted.into()));
    }
}

/// Milliseconds since midnight UTC (RFC 791, section 3.1).
fn millis_of_the_day() -> u32 {
    const DAY: u128 = 86_400_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    (now % DAY) as u32
}
