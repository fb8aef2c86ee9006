//! What becomes of punted packets: the kernel gets them over the sub-interface's TAP, they wait for a neighbour, or
//! their sender gets an ICMP error.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use dataplane::acl::RuleCounters;
use dataplane::ids::SubIfId;
use dataplane::punt::Punted;
use dataplane::tables::Tables;
use dataplane::verdict::{DropReason, PuntReason};
use dpdk_sys::Mbuf;

use super::forward::{Decided, Forwarder, Outcome, Stage, header};
use super::icmp::{self, Fault, Limiter};
use super::neighbours::{Neighbours, Stranger};
use super::newcomers::{Newcomer, Newcomers};
use super::own_addresses::OwnAddresses;
use super::publish::Publisher;
use super::slow;
use super::tag_checks::TagCheck;
use crate::kernel::{KernelSide, WriteOutcome};
use crate::rib::AdjacencyDesc;
use dataplane::header::{ipv4, ipv6};

/// How packets that control handled ended, by name.
#[derive(Debug, Default)]
pub struct Outcomes {
    counts: BTreeMap<&'static str, u64>,
}

impl Outcomes {
    /// Counts one.
    pub fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.counts.iter().map(|(name, count)| ((*name).to_string(), *count)).collect()
    }
}

/// A packet that waits for a neighbour: to go on to it, if it was punted as unresolved; else to be given to the kernel,
/// whose answer goes there.
pub struct Held {
    punted: Punted<Mbuf>,
    /// From where it goes on.
    stage: Stage,
}

/// The way of punted packets.
pub struct Punts {
    /// How they ended.
    pub outcomes: Outcomes,
    pub(super) forwarder: Forwarder,
    icmp: Limiter,
    newcomers: Newcomers,
    pub(super) own: OwnAddresses,
    /// The checks of ports that put tags on, or may come to.
    pub(super) tag_checks: Vec<TagCheck>,
    /// Identification of the next IPv4 error.
    ident: u16,
}

/// What `Punts` works with, borrowed from the router for one packet.
pub struct Surroundings<'a> {
    /// The tables as published last.
    pub publisher: &'a Publisher,
    /// The TAPs, if there are any.
    pub kernel: Option<&'a KernelSide>,
}

/// Where an IP packet goes.
fn destination(packet: &[u8]) -> IpAddr {
    if slow::is_v4(packet) {
        IpAddr::V4(ipv4::destination(packet).into())
    } else {
        IpAddr::V6(ipv6::destination(packet).into())
    }
}

/// Whether an IP packet does not fit the link of `exit`, and may not be cut.
fn exceeds(packet: &[u8], exit: SubIfId, tables: &Tables) -> bool {
    let Some(exit) = tables.sub_interfaces.get(exit) else { return false };
    let (len, whole) = if slow::is_v4(packet) {
        (usize::from(ipv4::total_len(packet)), ipv4::dont_fragment(packet))
    } else {
        (ipv6::HEADER_LEN + usize::from(ipv6::payload_len(packet)), true)
    };
    whole && len > usize::from(exit.mtu)
}

impl Punts {
    /// The way of punted packets, those that go on over `forwarder`; `icmp` limits our errors, and `newcomers` what
    /// makes neighbours in the kernel's table. `own`: our addresses.
    /// `tag_checks`: those that wait for answers of neighbours.
    pub fn new(
        forwarder: Forwarder,
        icmp: Limiter,
        newcomers: Newcomers,
        own: OwnAddresses,
        tag_checks: Vec<TagCheck>,
    ) -> Self {
        Self { outcomes: Outcomes::default(), forwarder, icmp, newcomers, own, tag_checks, ident: 0 }
    }

    /// Where rules of access lists count what this thread forwards.
    pub fn rule_counters(&self) -> &Arc<RuleCounters> {
        self.forwarder.rule_counters()
    }

    /// Handles a packet that a worker punted.
    pub fn handle(&mut self, punted: Punted<Mbuf>, neighbours: &mut Neighbours<Held>, with: &Surroundings) {
        match punted.reason {
            PuntReason::Unresolved => self.unresolved(punted, Stage::Admitted, neighbours, with),
            PuntReason::TtlExpired => self.error(&punted, Fault::TimeExceeded, neighbours, with),
            PuntReason::ExceedsMtu => self.error(&punted, Fault::TooBig(punted.mtu), neighbours, with),
            PuntReason::NoRoute => self.error(&punted, Fault::NoRoute, neighbours, with),
            PuntReason::Prohibited => self.error(&punted, Fault::Prohibited, neighbours, with),
            PuntReason::Fragment => self.fragment(punted, neighbours, with),
            PuntReason::IpOptions => self.ip_options(punted, neighbours, with),
            PuntReason::HopByHop => self.hop_by_hop(punted, neighbours, with),
            PuntReason::Arp => {
                if let Some(sender) = Stranger::of_arp(slow::l3(&punted)) {
                    neighbours.saw(punted.sub_if, sender);
                }
                self.answered(&punted);
                self.give_kernel(punted, neighbours, with);
            }
            PuntReason::NeighbourDiscovery => {
                self.answered(&punted);
                self.give_kernel(punted, neighbours, with);
            }
            PuntReason::Bgp
            | PuntReason::Bfd
            | PuntReason::Local
            | PuntReason::Multicast
            | PuntReason::LinkControl => self.give_kernel(punted, neighbours, with),
        }
    }

    /// Tells those that wait for answers of neighbours.
    fn answered(&mut self, punted: &Punted<Mbuf>) {
        for check in &mut self.tag_checks {
            check.heard(slow::l3(punted), punted.sub_if, Instant::now());
        }
    }

    /// Hands a packet to the kernel, unless its sender would be a new neighbour and there were too many of these. What
    /// the kernel is likely to answer waits until the sender is resolved: its answers would wait otherwise, and all
    /// that wait share the buffer space of one ICMP socket.
    fn give_kernel(&mut self, punted: Punted<Mbuf>, neighbours: &mut Neighbours<Held>, with: &Surroundings) {
        let (from, reason) = (punted.sub_if, punted.reason);
        let sender = self.newcomers.sender(slow::l3(&punted), reason, from);
        let Some((sub_if, sender)) =
            sender.filter(|(sub_if, sender)| !neighbours.is_resolved(*sub_if, *sender))
        else {
            return self.write_to_tap(&punted, with);
        };
        let Some(kind) = Newcomer::of(reason) else {
            let held = Held { punted, stage: Stage::Admitted };
            return self.hold(held, (sub_if, sender), neighbours, with);
        };
        // Whoever was asked for may answer.
        let expected = kind == Newcomer::Asking && neighbours.has_place(sub_if, sender);
        if expected || self.newcomers.allows(kind, from, Instant::now()) {
            self.write_to_tap(&punted, with);
        } else {
            self.outcomes.count("too_many_newcomers");
        }
    }

    fn hold(
        &mut self,
        packet: Held,
        (sub_if, address): (SubIfId, IpAddr),
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) {
        let held = neighbours.hold(sub_if, address, packet.punted.sub_if, packet, with.kernel);
        self.outcomes.count(match held {
            Ok(()) => "held",
            Err(why) => why,
        });
    }

    /// Writes the frame, without its tags, into the TAP.
    fn write_to_tap(&mut self, punted: &Punted<Mbuf>, with: &Surroundings) {
        let Some(kernel) = with.kernel else { return self.outcomes.count("no_tap") };
        let frame = punted.packet.bytes();
        let ethertype = usize::from(punted.l3_offset).saturating_sub(2);
        let (Some(addresses), Some(rest)) = (frame.get(..12), frame.get(ethertype..)) else {
            return self.outcomes.count("frame_too_short");
        };
        let untagged;
        let bytes = if ethertype == 12 {
            frame
        } else {
            untagged = [addresses, rest].concat();
            &untagged
        };
        self.outcomes.count(match kernel.write(punted.sub_if, bytes) {
            WriteOutcome::Written => "to_kernel",
            WriteOutcome::Full => "tap_full",
            WriteOutcome::Down => "tap_down",
            WriteOutcome::Malformed => "tap_malformed",
            WriteOutcome::NoTap => "no_tap",
        });
    }

    /// Has a packet wait that goes on from `stage`.
    pub(super) fn unresolved(
        &mut self,
        punted: Punted<Mbuf>,
        stage: Stage,
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) {
        let packet = slow::l3(&punted);
        let is_v4 = slow::is_v4(packet);
        let (destination, ttl) =
            (destination(packet), packet.get(if is_v4 { ipv4::TTL } else { ipv6::HOP_LIMIT }));
        // It would not go on to a neighbour that is there either, so none is looked for.
        if ttl.is_none_or(|ttl| *ttl <= 1) {
            return self.error(&punted, Fault::TimeExceeded, neighbours, with);
        }
        let wanted = match with.publisher.adjacency(punted.adjacency) {
            AdjacencyDesc::Glean { subif } => Some((subif, destination)),
            AdjacencyDesc::Incomplete { subif, address } => Some((subif, address)),
            _ => None,
        };
        // It may have been resolved, or have gone, while the packet was on its way here.
        match wanted.filter(|(sub_if, address)| !neighbours.is_resolved(*sub_if, *address)) {
            Some((exit, _)) if stage != Stage::Ours && exceeds(packet, exit, &with.publisher.tables) => {
                self.too_large(punted, exit, neighbours, with);
            }
            Some(neighbour) => self.hold(Held { punted, stage }, neighbour, neighbours, with),
            None => self.go_on(Held { punted, stage }, neighbours, with),
        }
    }

    /// Sends on a packet that waited, or gives it to the kernel.
    pub fn go_on(&mut self, held: Held, neighbours: &mut Neighbours<Held>, with: &Surroundings) {
        let Held { punted: held, stage } = held;
        if held.reason != PuntReason::Unresolved {
            return self.write_to_tap(&held, with);
        }
        let from = held.sub_if;
        let tables = &with.publisher.tables;
        let Some(sub_if) = tables.sub_interfaces.get(from) else { return };
        let record = slow::recorder(&self.own, from);
        // What is our own has nothing to be recorded.
        let record = move |egress: SubIfId, packet: &mut [u8]| {
            if stage != Stage::Ours {
                record(egress, packet);
            }
        };
        match self.forwarder.forward(held.packet, stage, sub_if, tables, record) {
            Decided::Done(Outcome::Sent) => self.outcomes.count("released"),
            Decided::Done(Outcome::Ended(why)) => self.outcomes.count(why),
            // It waits once; if it must wait again, the neighbour has gone meanwhile.
            Decided::Punted(punted) if punted.reason == PuntReason::Unresolved => {
                self.outcomes.count("unresolved_again");
            }
            Decided::Punted(punted) => self.handle(punted, neighbours, with),
            Decided::Refused(why, punted) => self.refused(why, &punted, neighbours, with),
        }
    }

    /// Tells the sender of a packet that a guard or an access list refused, for `why`.
    pub(super) fn refused(
        &mut self,
        why: DropReason,
        punted: &Punted<Mbuf>,
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) {
        self.outcomes.count(why.name());
        self.error(punted, Fault::Prohibited, neighbours, with);
    }

    /// Ends a packet that waited in vain. Whoever sent one to us is the one who does not answer.
    pub fn give_up(&mut self, held: &Held, neighbours: &mut Neighbours<Held>, with: &Surroundings) {
        if held.punted.reason != PuntReason::Unresolved {
            return self.outcomes.count("sender_unresolved");
        }
        self.outcomes.count("host_unreachable");
        self.error(&held.punted, Fault::HostUnreachable, neighbours, with);
    }

    pub(super) fn error(
        &mut self,
        punted: &Punted<Mbuf>,
        fault: Fault,
        neighbours: &mut Neighbours<Held>,
        with: &Surroundings,
    ) {
        let (packet, from) = (slow::l3(punted), punted.sub_if);
        let is_v4 = slow::is_v4(packet);
        let ours = self.own.error_source(from, destination(packet));
        let tables = &with.publisher.tables;
        let (Some(ours), Some(sub_if)) = (ours, tables.sub_interfaces.get(from)) else {
            return self.outcomes.count("icmp_no_address");
        };
        let broadcast = is_v4
            && [ipv4::source(packet), ipv4::destination(packet)]
                .into_iter()
                .any(|address| self.own.is_broadcast(from, address.into()));
        if broadcast {
            return self.outcomes.count("icmp_not_due");
        }
        let Some((error, ethertype)) = icmp::error(packet, fault, ours, self.ident) else {
            return self.outcomes.count("icmp_not_due");
        };
        let whom: IpAddr = if is_v4 {
            IpAddr::V4(ipv4::source(packet).into())
        } else {
            IpAddr::V6(ipv6::source(packet).into())
        };
        if !self.icmp.allows(from, fault, whom, Instant::now()) {
            return self.outcomes.count("icmp_rate_limited");
        }
        self.ident = self.ident.wrapping_add(1);
        let decided = match self.forwarder.wrap(&header(ethertype, 0, sub_if), &error) {
            Ok(frame) => self.forwarder.forward(frame, Stage::Ours, sub_if, tables, |_, _| {}),
            Err(outcome) => Decided::Done(outcome),
        };
        match decided {
            Decided::Done(Outcome::Sent) => self.outcomes.count("icmp_sent"),
            Decided::Done(Outcome::Ended(why)) => self.outcomes.count(why),
            // The sender's own address is not resolved yet: the error waits as any packet does.
            Decided::Punted(punted) if punted.reason == PuntReason::Unresolved => {
                self.unresolved(punted, Stage::Ours, neighbours, with);
            }
            Decided::Punted(punted) => self.outcomes.count(punted.reason.name()),
            Decided::Refused(why, _) => self.outcomes.count(why.name()),
        }
    }

    /// Sends a frame that the kernel wrote into the TAP of `id`.
    pub fn send_from_kernel(&mut self, frame: &[u8], id: SubIfId, tables: &Tables) {
        let Some(sub_if) = tables.sub_interfaces.get(id) else { return };
        let outcome = self.forwarder.send_from_kernel(frame, id, sub_if);
        self.outcomes.count(match outcome {
            Outcome::Sent => "from_kernel",
            Outcome::Ended(why) => why,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_way_to_end() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/drops.md");
        let page = std::fs::read_to_string(page).unwrap();
        let rows = DropReason::ALL.iter().map(|reason| (reason.name(), reason.help()));
        for (name, help) in rows.chain(PuntReason::ALL.iter().map(|reason| (reason.name(), reason.help()))) {
            assert!(page.contains(&format!("| `{name}` | {help} |\n")), "{name}");
        }
        // What this thread counts by name, wherever it does.
        let calls = ["count(\"", "Ended(\"", "Err(\""];
        let sources = [
            (include_str!("slow.rs"), &calls[..]),
            (include_str!("forward.rs"), &calls),
            (include_str!("neighbours.rs"), &calls),
            (include_str!("control.rs"), &calls),
            (include_str!("punts.rs"), &["count(\"", "=> \""]),
            (include_str!("views.rs"), &["\n            (\""]),
        ];
        let mut found = 0;
        for (source, before) in sources {
            let source = source.split("#[cfg(test)]").next().unwrap();
            for names in before.iter().map(|before| source.split(before).skip(1)) {
                for name in names.filter_map(|rest| rest.split('"').next()) {
                    assert!(page.contains(&format!("\n| `{name}` | ")), "{name}");
                    found += 1;
                }
            }
        }
        assert!(found > 30, "{found}");
    }
}
