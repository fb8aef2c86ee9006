//! One packet's way through the stages, as `turnpike trace --json` shows it.

use std::net::IpAddr;

use dataplane::header::ethernet;
use dataplane::ids::{GroupId, PortId, SubIfId};
use dataplane::packet::StrippedTags;
use dataplane::verdict::Verdict;
use dataplane::watch::{Addresses, Fields, Kind, Record};
use serde::{Deserialize, Serialize};

use super::{Names, Question};

/// A packet that was traced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traced {
    /// When it was received or sent, in nanoseconds since 1970 (UTC).
    pub time_ns: u64,
    /// Core of the worker that had it.
    pub core: usize,
    /// `port`: received; `control`: made by the control thread, or sent by the kernel over a TAP.
    pub from: String,
    /// The port it was received on; of one from control, the port it was sent on.
    pub port: String,
    /// The sub-interface; none if its tags are not one's.
    pub interface: Option<String>,
    /// The frame as it was received, or as control made it.
    pub frame: Frame,
    /// Its IP or ARP header; none if it has neither.
    pub packet: Option<Packet>,
    /// The VRF it was routed in.
    pub vrf: Option<String>,
    /// What the look-up found; none if it was not looked up.
    pub route: Option<Route>,
    /// The member of the group that was chosen; none if it did not come to that.
    pub member: Option<Member>,
    /// The frame as it left, or was about to.
    pub sent: Option<Sent>,
    /// `forwarded`, `dropped`, `punted`, or of one from control `sent`.
    pub end: String,
    /// The reason of a drop or punt, by its name in `turnpike show drops`.
    pub reason: Option<String>,
    /// The same for people.
    pub meaning: Option<String>,
}

/// A frame's Ethernet header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Bytes, without FCS.
    pub length: u32,
    /// Sender.
    pub source_mac: String,
    /// Receiver.
    pub destination_mac: String,
    /// Tags, outermost first.
    pub tags: Vec<Tag>,
    /// `ipv4`, `ipv6`, `arp`, or a number.
    pub ethertype: String,
}

/// A VLAN tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    /// Its ethertype, e.g. `0x8100`.
    pub tpid: String,
    /// VLAN id.
    pub vid: u16,
    /// Priority.
    pub pcp: u8,
}

/// An IP header and what follows it, or ARP's addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// `tcp`, `udp`, `icmp`, … or a number; none in ARP.
    pub protocol: Option<String>,
    /// Source port.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// DSCP.
    pub dscp: Option<u8>,
    /// Whether it is a fragment.
    pub fragment: bool,
}

/// What the look-up found. The group is the worker's own; prefix and source are the RIB's, asked right after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The next-hop group; 0: no route.
    pub group: u32,
    /// The prefix that the RIB has for the destination now.
    pub prefix: Option<String>,
    /// Who announced it.
    pub source: Option<String>,
    /// Whether the RIB's prefix leads to another group now: then the route changed since the packet passed.
    pub changed: bool,
}

/// A member of a group. The adjacency is the worker's own; the rest is what it stands for now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Number of the adjacency.
    pub adjacency: u32,
    /// Which of the group's members it is, from 1 on; none if it is no member any more.
    pub number: Option<usize>,
    /// How many members the group has.
    pub of: usize,
    /// `forward`, `unresolved`, `local`, `discard` or `no route`.
    pub kind: String,
    /// The neighbour's address.
    pub next_hop: Option<IpAddr>,
    /// The sub-interface that it is on.
    pub interface: Option<String>,
}

/// A frame as it left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// The port.
    pub port: String,
    /// The sub-interface.
    pub interface: String,
    /// Its Ethernet header.
    pub frame: Frame,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// DSCP.
    pub dscp: Option<u8>,
}

impl Traced {
    /// What a record says. `time`: when, in nanoseconds since 1970.
    pub fn new(record: &Record, worker: usize, time: u64, names: &Names) -> Self {
        let port = |id: PortId| Names::of(&names.ports, id.0);
        let interface = |id: SubIfId| Names::of(&names.interfaces, id.0);
        let fields = Fields::of(record.bytes(), StrippedTags::None);
        let from_control = record.kind == Kind::Injected;
        let (end, reason, meaning) = match record.verdict {
            Verdict::Forward => (if from_control { "sent" } else { "forwarded" }, None, None),
            Verdict::Drop(reason) | Verdict::Refuse(reason) => {
                ("dropped", Some(reason.name()), Some(reason.help()))
            }
            Verdict::Punt(reason) => ("punted", Some(reason.name()), Some(reason.help())),
        };
        let sent = record.out.map(|out| {
            let fields = Fields::of(record.sent(), StrippedTags::None);
            Sent {
                port: port(out.port),
                interface: interface(out.sub_if),
                frame: Frame::of(record.sent(), u32::from(out.len), &fields),
                ttl: fields.ttl,
                dscp: fields.dscp,
            }
        });
        Self {
            time_ns: time,
            core: names.cores.get(worker).copied().unwrap_or(worker),
            from: if from_control { "control" } else { "port" }.into(),
            port: port(record.port),
            interface: record.sub_if.map(interface),
            frame: Frame::of(record.bytes(), record.frame_len, &fields),
            packet: Packet::of(&fields),
            vrf: record.vrf.map(|vrf| Names::of(&names.vrfs, vrf.0)),
            route: record.group.map(|GroupId(group)| Route { group, ..Route::default() }),
            member: record.adjacency.map(|id| Member { adjacency: id.0, ..Member::default() }),
            sent,
            end: end.into(),
            reason: reason.map(Into::into),
            meaning: meaning.map(Into::into),
        }
    }

    /// What to ask the RIB about a record, if the packet was looked up.
    pub fn question(record: &Record) -> Option<Question> {
        let destination = match Fields::of(record.bytes(), StrippedTags::None).addresses {
            Addresses::V4(_, destination) => IpAddr::V4(destination.into()),
            Addresses::V6(_, destination) => IpAddr::V6(destination.into()),
            Addresses::None => return None,
        };
        Some(Question { vrf: record.vrf?, destination, group: record.group?, adjacency: record.adjacency })
    }
}

impl Frame {
    fn of(bytes: &[u8], length: u32, fields: &Fields) -> Self {
        let mac = |at: usize| {
            let bytes = bytes.get(at..at + 6).unwrap_or(&[]);
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
        };
        let word =
            |at: usize| bytes.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        let mut tags = Vec::new();
        let mut at = 12;
        while ethernet::is_tpid(word(at)) && bytes.len() >= at + 4 {
            let tci = word(at + 2);
            let tpid = format!("{:#06x}", word(at));
            tags.push(Tag { tpid, vid: ethernet::vid(tci), pcp: ethernet::pcp(tci) });
            at += 4;
        }
        let ethertype = match fields.ethertype {
            ethernet::IPV4 => "ipv4".into(),
            ethernet::IPV6 => "ipv6".into(),
            ethernet::ARP => "arp".into(),
            other => format!("{other:#06x}"),
        };
        Self { length, source_mac: mac(6), destination_mac: mac(0), tags, ethertype }
    }
}

impl Packet {
    fn of(fields: &Fields) -> Option<Self> {
        let (source, destination) = match fields.addresses {
            Addresses::None => return None,
            Addresses::V4(source, destination) => (IpAddr::V4(source.into()), IpAddr::V4(destination.into())),
            Addresses::V6(source, destination) => (IpAddr::V6(source.into()), IpAddr::V6(destination.into())),
        };
        let protocol = fields.protocol.map(|protocol| match protocol {
            1 => "icmp".into(),
            2 => "igmp".into(),
            6 => "tcp".into(),
            17 => "udp".into(),
            47 => "gre".into(),
            50 => "esp".into(),
            58 => "icmp6".into(),
            89 => "ospf".into(),
            132 => "sctp".into(),
            other => other.to_string(),
        });
        Some(Self {
            source,
            destination,
            protocol,
            source_port: fields.ports.map(|ports| ports.0),
            destination_port: fields.ports.map(|ports| ports.1),
            ttl: fields.ttl,
            dscp: fields.dscp,
            fragment: fields.fragment,
        })
    }
}

/// A line that a client gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A packet of a trace.
    Packet(Box<Traced>),
    /// So many bytes of a pcapng file follow the line.
    Bytes(usize),
    /// It is over.
    End(End),
}

/// How a trace or capture ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Packets or frames that the client got.
    pub captured: u64,
    /// Those that matched, but for which workers had no free record.
    pub missed: u64,
}
