//! What rtnetlink messages say of routes, next-hop objects, links and addresses (linux/rtnetlink.h, linux/nexthop.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::RtnlError;
use super::attributes::{Attribute, attributes};
use super::message::{Message, NLM_F_APPEND, NLM_F_MULTI, NLM_F_REPLACE, field};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// The route is a cached one, made for a single destination.
const RTM_F_CLONED: u32 = 0x200;
/// The next hop's device is down.
const RTNH_F_DEAD: u8 = 1;

/// Members of a group, or hops of a route, that are read; a group of the kernel's has 256 at most in practice.
const MAX_HOPS: usize = 256;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Of a route.
    Route(Route),
    /// Of a next-hop object.
    Object(Object),
    /// Of an interface.
    Link(Link),
    /// An interface has an address more or less, and routes may have gone, or their hops come back, with it, unsaid.
    AddressChanged,
    /// A dump is complete, or a request was done.
    Done,
    /// A request failed with this error number.
    Error(i32),
    /// The receiver was too slow, and messages are lost.
    Overrun,
    /// Nothing of interest.
    Other,
}

/// A route that is there, or is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// It is gone.
    pub gone: bool,
    /// Where it comes among others with its metric.
    pub place: Place,
    /// Destination, host bits zero.
    pub prefix: IpNetwork,
    /// Number of the table; 254 is the main one.
    pub table: u32,
    /// Who made it: `RTPROT_…`.
    pub protocol: u8,
    /// Type of service that it is for; 0: all.
    pub tos: u8,
    /// Among routes to a prefix the lowest is used.
    pub metric: u32,
    /// What it does.
    pub kind: RouteKind,
    /// Where it leads.
    pub lead: Lead,
}

/// Where a route comes among others to its prefix that have its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before them.
    First,
    /// In the place of the first of them.
    Instead,
    /// Behind them.
    Last,
    /// It is part of a reading of the table, which tells them in their order.
    Dumped,
}

impl Place {
    fn of(flags: u16) -> Self {
        match flags {
            _ if flags & NLM_F_MULTI != 0 => Self::Dumped,
            _ if flags & NLM_F_REPLACE != 0 => Self::Instead,
            _ if flags & NLM_F_APPEND != 0 => Self::Last,
            _ => Self::First,
        }
    }
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// It forwards.
    Forward,
    /// It drops, by its type: blackhole, unreachable or prohibit; or throw, which looks into no further route of its
    /// table, and a VRF has but one.
    Discard(u8),
    /// What no other router is concerned with: local, broadcast, multicast.
    Other,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lead {
    /// By a next-hop object.
    Object(u32),
    /// Over these.
    Hops(Vec<Hop>),
}

/// A next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// Gateway; none on a connected prefix.
    pub gateway: Option<IpAddr>,
    /// Index of the interface; 0: none given.
    pub interface: u32,
    /// Relative share, 1 to 256.
    pub weight: u16,
    /// Its interface is down.
    pub dead: bool,
    /// It puts a label or another header on packets.
    pub encapsulated: bool,
}

/// A next-hop object that is there, or is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its number.
    pub id: u32,
    /// It is gone.
    pub gone: bool,
    /// What it is.
    pub kind: ObjectKind,
}

/// What a next-hop object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A single next hop.
    Hop(Hop),
    /// Others, by number and weight.
    Group(Vec<(u32, u16)>),
    /// It drops.
    Discard,
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Whether it is there and up.
    pub up: bool,
}

/// What `message` says.
///
/// # Errors
/// It is malformed.
pub fn decode(message: &Message<'_>) -> Result<Event, RtnlError> {
    let short = || RtnlError::Short { kind: message.kind, length: message.body.len() };
    match message.kind {
        RTM_NEWROUTE | RTM_DELROUTE => {
            let (fixed, rest) = message.body.split_first_chunk().ok_or_else(short)?;
            route(message, fixed, rest)
        }
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => {
            let (_, rest) = message.body.split_first_chunk::<8>().ok_or_else(short)?;
            object(rest, message.kind == RTM_DELNEXTHOP).map(Event::Object)
        }
        RTM_NEWLINK | RTM_DELLINK => {
            let fixed: [u8; 16] = field(message.body).ok_or_else(short)?;
            let [.., i0, i1, i2, i3, f0, f1, f2, f3, _, _, _, _] = fixed;
            let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
            let up = message.kind == RTM_NEWLINK && flags & libc::IFF_UP.cast_unsigned() != 0;
            Ok(Event::Link(Link { index: u32::from_ne_bytes([i0, i1, i2, i3]), up }))
        }
        RTM_NEWADDR | RTM_DELADDR => Ok(Event::AddressChanged),
        NLMSG_DONE => {
            let code = field(message.body).map_or(0, i32::from_ne_bytes);
            Ok(if code < 0 { Event::Error(code.saturating_neg()) } else { Event::Done })
        }
        NLMSG_ERROR => {
            let code = field(message.body).map(i32::from_ne_bytes).ok_or_else(short)?;
            Ok(if code == 0 { Event::Done } else { Event::Error(code.saturating_neg()) })
        }
        NLMSG_OVERRUN => Ok(Event::Overrun),
        _ => Ok(Event::Other),
    }
}

/// struct rtmsg, then attributes.
fn route(message: &Message<'_>, fixed: &[u8; 12], rest: &[u8]) -> Result<Event, RtnlError> {
    let [family, length, source_length, tos, table, protocol, _scope, kind, f0, f1, f2, f3] = *fixed;
    let family = i32::from(family);
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let is_unicast = matches!(family, libc::AF_INET | libc::AF_INET6);
    if !is_unicast || source_length != 0 || flags & RTM_F_CLONED != 0 {
        return Ok(Event::Other);
    }
    let mut destination = None;
    let mut hop = Hop {
        gateway: None,
        interface: 0,
        weight: 1,
        dead: flags as u8 & RTNH_F_DEAD != 0,
        encapsulated: false,
    };
    let (mut metric, mut table, mut object, mut multipath) = (0, u32::from(table), None, None);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            RTA_DST => destination = Some(attribute.address()?),
            RTA_PRIORITY => metric = attribute.number()?,
            RTA_TABLE => table = attribute.number()?,
            RTA_MULTIPATH => multipath = Some(hops(attribute.value)?),
            RTA_NH_ID => object = Some(attribute.number()?),
            _ => hop_attribute(&mut hop, &attribute)?,
        }
    }
    let lead = match (object, multipath) {
        (Some(id), _) => Lead::Object(id),
        (None, Some(hops)) => Lead::Hops(hops),
        (None, None) => Lead::Hops(vec![hop]),
    };
    Ok(Event::Route(Route {
        gone: message.kind == RTM_DELROUTE,
        place: Place::of(message.flags),
        prefix: prefix(family, destination, length)?,
        table,
        protocol,
        tos,
        metric,
        kind: match kind {
            libc::RTN_UNICAST => RouteKind::Forward,
            libc::RTN_BLACKHOLE | libc::RTN_UNREACHABLE | libc::RTN_PROHIBIT | libc::RTN_THROW => {
                RouteKind::Discard(kind)
            }
            _ => RouteKind::Other,
        },
        lead,
    }))
}

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NEWDST: u16 = 19;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_NH_ID: u16 = 30;

fn hop_attribute(hop: &mut Hop, attribute: &Attribute<'_>) -> Result<(), RtnlError> {
    match attribute.kind {
        RTA_OIF => hop.interface = attribute.number()?,
        RTA_GATEWAY => hop.gateway = Some(attribute.address()?),
        RTA_VIA => hop.gateway = Some(attribute.via()?),
        RTA_ENCAP_TYPE => hop.encapsulated |= attribute.short()? != 0,
        RTA_NEWDST => hop.encapsulated = true,
        _ => {}
    }
    Ok(())
}

fn prefix(family: i32, destination: Option<IpAddr>, length: u8) -> Result<IpNetwork, RtnlError> {
    let is_v4 = family == libc::AF_INET;
    let bits = if is_v4 { 32 } else { 128 };
    let too_long = || RtnlError::Prefix { length, bits };
    match destination {
        Some(IpAddr::V4(address)) if is_v4 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            let network = Ipv4Addr::from_bits(address.to_bits() & mask);
            Ok(Ipv4Network::new(network, length).map_err(|_| too_long())?.into())
        }
        Some(IpAddr::V6(address)) if !is_v4 => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            let network = Ipv6Addr::from_bits(address.to_bits() & mask);
            Ok(Ipv6Network::new(network, length).map_err(|_| too_long())?.into())
        }
        Some(_) => Err(RtnlError::Value { kind: RTA_DST, length: if is_v4 { 16 } else { 4 } }),
        // The default route names no destination.
        None if length == 0 && is_v4 => prefix(family, Some(Ipv4Addr::UNSPECIFIED.into()), 0),
        None if length == 0 => prefix(family, Some(Ipv6Addr::UNSPECIFIED.into()), 0),
        None => Err(RtnlError::Value { kind: RTA_DST, length: 0 }),
    }
}

/// `RTA_MULTIPATH`: struct rtnexthop each, with attributes.
fn hops(bytes: &[u8]) -> Result<Vec<Hop>, RtnlError> {
    let mut hops = Vec::new();
    let mut rest = bytes;
    while let Some([l0, l1, flags, weight, i0, i1, i2, i3]) = field(rest) {
        let said = usize::from(u16::from_ne_bytes([l0, l1]));
        let wrong = RtnlError::Attribute { said, left: rest.len() };
        let nested = rest.get(8..said).ok_or(wrong)?;
        let mut hop = Hop {
            gateway: None,
            interface: u32::from_ne_bytes([i0, i1, i2, i3]),
            weight: u16::from(weight) + 1,
            dead: flags & RTNH_F_DEAD != 0,
            encapsulated: false,
        };
        for attribute in attributes(nested) {
            hop_attribute(&mut hop, &attribute?)?;
        }
        if hops.len() < MAX_HOPS {
            hops.push(hop);
        }
        rest = rest.get(said.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(hops)
}

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_FDB: u16 = 11;

/// The attributes behind struct nhmsg.
fn object(rest: &[u8], gone: bool) -> Result<Object, RtnlError> {
    let mut hop = Hop { gateway: None, interface: 0, weight: 1, dead: false, encapsulated: false };
    let (mut id, mut group, mut discard) = (None, None, false);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            NHA_ID => id = Some(attribute.number()?),
            NHA_GROUP => group = Some(members(attribute.value)),
            NHA_BLACKHOLE => discard = true,
            NHA_OIF => hop.interface = attribute.number()?,
            NHA_GATEWAY => hop.gateway = Some(attribute.address()?),
            NHA_ENCAP_TYPE => hop.encapsulated |= attribute.short()? != 0,
            // Of a bridge: no route leads there.
            NHA_FDB => hop.encapsulated = true,
            _ => {}
        }
    }
    let kind = match group {
        Some(members) => ObjectKind::Group(members),
        None if discard => ObjectKind::Discard,
        None => ObjectKind::Hop(hop),
    };
    Ok(Object { id: id.ok_or(RtnlError::NoId)?, gone, kind })
}

/// struct `nexthop_grp` each: number, weight − 1.
fn members(bytes: &[u8]) -> Vec<(u32, u16)> {
    let member = |grp: &[u8; 8]| {
        let [i0, i1, i2, i3, weight, ..] = *grp;
        (u32::from_ne_bytes([i0, i1, i2, i3]), u16::from(weight) + 1)
    };
    bytes.as_chunks().0.iter().take(MAX_HOPS).map(member).collect()
}
