//! Messages as zebra and the kernel write them, for tests.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

pub(crate) const NEW: u16 = 24;
pub(crate) const DELETE: u16 = 25;

/// An attribute.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub(crate) fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_ne_bytes())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(crate) fn address(kind: u16, address: &str) -> Vec<u8> {
    attribute(kind, &octets(address.parse().unwrap()))
}

/// A message of this type.
pub(crate) fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// What a route is, besides where it leads.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub table: u32,
    pub protocol: u8,
    pub kind: u8,
    pub metric: u32,
    pub flags: u16,
}

impl Default for Plan {
    fn default() -> Self {
        Self { table: 254, protocol: 186, kind: 1, metric: 0, flags: 0 }
    }
}

/// `RTM_NEWROUTE` or `RTM_DELROUTE` with the attributes of where it leads.
pub(crate) fn route(message_kind: u16, prefix: &str, plan: Plan, lead: &[u8]) -> Vec<u8> {
    let prefix: IpNetwork = prefix.parse().unwrap();
    let family = if prefix.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let mut body = vec![family, prefix.prefix(), 0, 0, 0, plan.protocol, 0, plan.kind, 0, 0, 0, 0];
    body.extend(attribute(1, &octets(prefix.ip())));
    body.extend(number(15, plan.table));
    body.extend(number(6, plan.metric));
    body.extend(lead);
    message(message_kind, plan.flags, &body)
}

/// Over a gateway on an interface.
pub(crate) fn via(gateway: &str, interface: u32) -> Vec<u8> {
    [address(5, gateway), number(4, interface)].concat()
}

/// Over several gateways: `RTA_MULTIPATH`. Each with its interface and weight.
pub(crate) fn multipath(hops: &[(&str, u32, u8)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (gateway, interface, weight) in hops {
        let nested = address(5, gateway);
        all.extend((8 + nested.len() as u16).to_ne_bytes());
        all.extend([0, weight - 1]);
        all.extend(interface.to_ne_bytes());
        all.extend(nested);
    }
    attribute(9, &all)
}

/// `RTM_NEWNEXTHOP`: a gateway on an interface.
pub(crate) fn object(id: u32, gateway: &str, interface: u32) -> Vec<u8> {
    let body = [vec![0; 8], number(1, id), number(5, interface), address(6, gateway)].concat();
    message(104, 0, &body)
}

/// `RTM_NEWNEXTHOP`: a group of ids with weights.
pub(crate) fn group(id: u32, members: &[(u32, u8)]) -> Vec<u8> {
    let mut grp = Vec::new();
    for (member, weight) in members {
        grp.extend(member.to_ne_bytes());
        grp.extend([weight - 1, 0, 0, 0]);
    }
    message(104, 0, &[vec![0; 8], number(1, id), attribute(2, &grp)].concat())
}

/// `RTM_DELNEXTHOP`.
pub(crate) fn no_object(id: u32) -> Vec<u8> {
    message(105, 0, &[vec![0; 8], number(1, id)].concat())
}
