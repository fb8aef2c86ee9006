//! Access lists that keep a BGP session from running, as far as the configuration says where sessions run.
//!
//! A session is found to be kept out by asking the compiled list about its packets: with every port that the rules tell
//! apart where the port is not known, and with every DSCP. What BFD is spoken with is not in the configuration.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::acl::{Acl, Address, Classifier, Keys, TCP, read4, read6};
use dataplane::burst::BURST;
use ipnetwork::IpNetwork;

use super::model::{AccessList, BgpMode, BgpPeer, Config, Encapsulation, SubInterface};

/// BGP's port (RFC 4271, section 8.2).
const BGP: u16 = 179;

/// The lowest port that a system gives to a connection of its own.
const FREE: u16 = 1024;

/// A way in which the TCP connection of a session may come about.
#[derive(Clone, Copy)]
enum Call {
    /// They call this address and port.
    Theirs(IpAddr, u16),
    /// We call this port from this address.
    Ours(IpAddr, u16),
}

/// One line for each session that its interface's list for what comes in keeps out.
pub(super) fn sessions(config: &Config, found: &mut Vec<String>) {
    if !config.kernel.taps {
        return;
    }
    for sub in &config.sub_interfaces {
        let Some(list) = sub.acl_in.and_then(|list| config.acls.get(list)) else { continue };
        let neighbours = neighbours(config, sub);
        if neighbours.is_empty() {
            continue;
        }
        // A list that cannot be compiled is an error of its own.
        let Some(compiled) = Compiled::new(list) else { continue };
        for (peer, calls) in neighbours {
            if let [first, ..] = *calls
                && calls.iter().all(|call| !compiled.permits(sub, peer, *call))
            {
                let rule = match first {
                    Call::Theirs(ours, port) => format!("permit tcp from {peer} to {ours} port {port}"),
                    Call::Ours(ours, port) => format!("permit tcp from {peer} port {port} to {ours}"),
                };
                found.push(format!(
                    "{:?}: acl_in {:?} keeps out the BGP session with {peer}: add \"{rule}\" before what denies it",
                    sub.name, list.name
                ));
            }
        }
    }
}

/// The neighbours that BGP is spoken with over an interface, and how their connections come about.
fn neighbours(config: &Config, sub: &SubInterface) -> Vec<(IpAddr, Vec<Call>)> {
    let namespace = |sub: &SubInterface| config.vrfs.get(usize::from(sub.vrf.0)).map(|vrf| &vrf.namespace);
    let peers = config.bgp.iter().flat_map(|bgp| &bgp.peers);
    let here = peers.filter(|peer| namespace(sub) == Some(&peer.namespace));
    let mut all = Vec::new();
    for own in &sub.addresses {
        let on_link = here.clone().filter(|peer| own.contains(peer.address) && own.ip() != peer.address);
        let subs = config.sub_interfaces.iter().filter(|other| namespace(other) == namespace(sub));
        let addresses: Vec<IpAddr> = subs.flat_map(|sub| &sub.addresses).map(IpNetwork::ip).collect();
        all.extend(on_link.clone().map(|peer| (peer.address, calls(config, peer, own.ip(), &addresses))));
        // A circuit's far end always speaks BGP, if not with us then with another speaker on the TAP.
        if sub.link.is_some()
            && let Some(far) = after(own.ip())
            && on_link.clone().all(|peer| peer.address != far)
        {
            all.push((far, vec![Call::Theirs(own.ip(), BGP), Call::Ours(own.ip(), BGP)]));
        }
    }
    all
}

/// How the connection with a peer of `[bgp]` comes about. `own`: our address beside it; `all`: those that it may call.
fn calls(config: &Config, peer: &BgpPeer, own: IpAddr, all: &[IpAddr]) -> Vec<Call> {
    let mut calls = Vec::new();
    if peer.mode != BgpMode::Active {
        let listen = config.bgp.iter().flat_map(|bgp| &bgp.listen);
        for at in listen.filter(|at| at.is_ipv4() == own.is_ipv4() && !at.ip().is_loopback()) {
            if at.ip().is_unspecified() {
                calls.push(Call::Theirs(own, at.port()));
                let others = all.iter().filter(|other| other.is_ipv4() == own.is_ipv4() && **other != own);
                calls.extend(others.map(|other| Call::Theirs(*other, at.port())));
            } else {
                calls.push(Call::Theirs(at.ip(), at.port()));
            }
        }
    }
    if peer.mode != BgpMode::Passive {
        calls.push(Call::Ours(peer.local_address.unwrap_or(own), peer.port));
    }
    calls
}

/// The address after.
fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// A list that can be asked about packets.
struct Compiled {
    acl: Acl,
    /// The lowest of each range of ports that no rule tells apart.
    ports: BTreeSet<u16>,
}

impl Compiled {
    fn new(list: &AccessList) -> Option<Self> {
        let rules: Vec<_> = list.rules.iter().map(|rule| rule.rule.clone()).collect();
        let counters = vec![0; rules.len() + 1];
        let acl = Acl::new(&rules, &counters).ok()?;
        let ranges = rules.iter().flat_map(|rule| rule.source_ports.iter().chain(&rule.destination_ports));
        let edges = ranges.flat_map(|(first, last)| [*first, last.saturating_add(1)]);
        let mut ports: BTreeSet<u16> = edges.chain([1, FREE]).collect();
        ports.remove(&0);
        Some(Self { acl, ports })
    }

    /// Whether it lets such a connection's packets come in, with any port that is not given and any DSCP.
    fn permits(&self, sub: &SubInterface, peer: IpAddr, call: Call) -> bool {
        let passes = |packet: Segment| match packet.ends {
            (IpAddr::V4(_), IpAddr::V4(_)) => any_passes(&self.acl.v4, &packet, sub.encapsulation, read4),
            (IpAddr::V6(_), IpAddr::V6(_)) => any_passes(&self.acl.v6, &packet, sub.encapsulation, read6),
            _ => false,
        };
        self.ports.iter().any(|free| match call {
            Call::Theirs(ours, port) => {
                let segment = |flags| Segment { ends: (peer, ours), ports: (*free, port), flags };
                passes(segment(SYN)) && passes(segment(ACK))
            }
            // The system gives no low port to who asks for none.
            Call::Ours(ours, port) => {
                *free >= FREE && passes(Segment { ends: (peer, ours), ports: (port, *free), flags: ACK })
            }
        })
    }
}

/// TCP's flags (RFC 9293, section 3.1).
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A TCP segment: from and to addresses and ports, and its flags.
struct Segment {
    ends: (IpAddr, IpAddr),
    ports: (u16, u16),
    flags: u8,
}

/// Whether a list permits the segment with at least one DSCP.
fn any_passes<A: Address>(
    list: &Classifier<A>,
    segment: &Segment,
    encapsulation: Encapsulation,
    read: impl Fn(&mut Keys<A>, usize, &[u8]),
) -> bool {
    let mut keys = Keys::default();
    for dscp in 0..BURST {
        read(&mut keys, dscp, &segment.packet(dscp as u8));
    }
    keys.len = BURST;
    let (outer, inner) = match encapsulation {
        Encapsulation::Untagged => (0, 0),
        Encapsulation::Dot1q(tag) => (tag.vid, 0),
        Encapsulation::QinQ { outer, inner } => (outer.vid, inner.vid),
    };
    (keys.outer_vlan, keys.inner_vlan) = ([outer; BURST], [inner; BURST]);
    list.classify(&keys, &mut [0; BURST], |_, _| ()) != u64::MAX
}

impl Segment {
    fn packet(&self, dscp: u8) -> Vec<u8> {
        let mut packet = match self.ends {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header = vec![0x45, dscp << 2, 0, 40, 0, 0, 0, 0, 64, TCP, 0, 0];
                header.extend(from.octets().into_iter().chain(to.octets()));
                header
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut header = vec![0x60 | dscp >> 2, dscp << 6, 0, 0, 0, 20, TCP, 64];
                header.extend(from.octets().into_iter().chain(to.octets()));
                header
            }
            _ => Vec::new(),
        };
        packet.extend(self.ports.0.to_be_bytes().into_iter().chain(self.ports.1.to_be_bytes()));
        packet.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, self.flags, 0, 0, 0, 0, 0, 0]);
        packet
    }
}
