//! Sets up an interface over rtnetlink: MAC, MTU, addresses, up. Runs inside the interface's namespace.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::error::KernelError;
use super::netlink::Netlink;
use super::netns::Place;
use super::side::TapSpec;
use super::sysctl;

/// `lo` has this index in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// The least MTU of IPv6 (RFC 8200, section 5); the kernel has no IPv6 on an interface below it.
const IPV6_MIN_MTU: u16 = 1280;

/// The index of the interface `name`.
pub(super) fn index_of(name: &str, place: &Place) -> Result<u32, KernelError> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with};
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| name_to_index(socket, name))
        .map_err(|errno| KernelError::refused(format!("find the TAP `{name}`"), place, errno.into()))
}

/// Brings `lo` up: a fresh namespace has it down, and nothing reaches its own addresses then.
pub(super) fn loopback_up(netlink: &mut Netlink, place: &Place) -> Result<(), KernelError> {
    up(netlink, LOOPBACK).map_err(|source| KernelError::refused("bring `lo` up", place, source))
}

/// Sets up the TAP of `spec`. Returns its IPv6 addresses, which the kernel has yet to make ready.
pub(super) fn configure(
    netlink: &mut Netlink,
    spec: &TapSpec,
    index: u32,
    place: &Place,
) -> Result<Vec<Ipv6Addr>, KernelError> {
    let name = &spec.name;
    let ipv6 = ipv6_possible(spec)?;
    sysctl::configure(name, ipv6)?;

    set(netlink, index, LinkAttribute::Address(spec.mac.to_vec())).map_err(|source| {
        let mac = spec.mac.map(|byte| format!("{byte:02x}")).join(":");
        let action = format!("give the TAP `{name}` the MAC {mac}");
        KernelError::refused(action, place, source)
    })?;
    set(netlink, index, LinkAttribute::Mtu(spec.mtu.into())).map_err(|source| {
        KernelError::refused(format!("give the TAP `{name}` the MTU {}", spec.mtu), place, source)
    })?;
    up(netlink, index)
        .map_err(|source| KernelError::refused(format!("bring the TAP `{name}` up"), place, source))?;
    let derived = ipv6.then(|| link_local(spec.mac)).filter(|address| !spec.addresses.contains(address));
    let mut pending = Vec::new();
    for &address in spec.addresses.iter().chain(&derived) {
        if let IpAddr::V6(v6) = address.ip() {
            pending.push(v6);
        }
        add_address(netlink, index, address).map_err(|source| {
            KernelError::refused(format!("give the TAP `{name}` the address {address}"), place, source)
        })?;
    }
    if ipv6 {
        sysctl::keep_link_local(name)?;
    }
    Ok(pending)
}

/// Whether the TAP can have IPv6; an error when it must and cannot.
fn ipv6_possible(spec: &TapSpec) -> Result<bool, KernelError> {
    let reason = if spec.mtu < IPV6_MIN_MTU {
        "IPv6 needs an MTU of 1280 at least (RFC 8200); raise the MTU"
    } else if !sysctl::has_ipv6() {
        "this kernel has IPv6 switched off; boot it without `ipv6.disable=1`"
    } else {
        return Ok(true);
    };
    match spec.addresses.iter().find(|address| address.is_ipv6()) {
        Some(address) => Err(KernelError::NoIpv6 { name: spec.name.clone(), address: address.ip(), reason }),
        None => Ok(false),
    }
}

fn set(netlink: &mut Netlink, index: u32, attribute: LinkAttribute) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(attribute);
    netlink.request(RouteNetlinkMessage::SetLink(message), 0)
}

fn up(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    netlink.request(RouteNetlinkMessage::SetLink(message), 0)
}

fn add_address(netlink: &mut Netlink, index: u32, address: IpNetwork) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix();
    let ip = address.ip();
    message.attributes.push(AddressAttribute::Local(ip));
    message.attributes.push(AddressAttribute::Address(ip));
    match ip {
        IpAddr::V4(_) => message.header.family = AddressFamily::Inet,
        IpAddr::V6(ip) => {
            message.header.family = AddressFamily::Inet6;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            if ip.is_unicast_link_local() {
                message.header.scope = AddressScope::Link;
            }
        }
    }
    netlink.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// The link-local address that belongs to a MAC: modified EUI-64 (RFC 4291, appendix A).
fn link_local(mac: [u8; 6]) -> IpNetwork {
    let [oui @ .., _, _, _] = mac;
    let [_, _, _, nic @ ..] = mac;
    let mut octets = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x00ff, 0xfe00, 0).octets();
    octets[8..11].copy_from_slice(&oui);
    octets[8] ^= 2;
    octets[13..].copy_from_slice(&nic);
    let ip = Ipv6Addr::from(octets);
    #[expect(clippy::expect_used, reason = "64 is a length that an IPv6 prefix has")]
    IpNetwork::new(ip.into(), 64).expect("64 <= 128")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_as_in_rfc_4291() {
        // The example of appendix A, 34-56-78-9A-BC-DE.
        let address = link_local([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(address.to_string(), "fe80::3656:78ff:fe9a:bcde/64");
    }
}
