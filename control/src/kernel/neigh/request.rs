//! What we ask of the kernel's neighbour table.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::neighbour::{self, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::table::{Entry, entry};
use crate::kernel::netlink::Netlink;

/// The whole table of the socket's namespace.
pub(super) fn dump(requests: &mut Netlink) -> io::Result<Vec<Entry>> {
    let answers = requests.dump(&RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
    Ok(answers.iter().filter_map(entry).collect())
}

/// Whether the kernel has `address` on the interface `index` as set by hand for good. `NTF_USE` would spoil such an
/// entry: the kernel makes an ordinary one of it.
pub(in crate::kernel) fn is_permanent(
    requests: &mut Netlink,
    index: u32,
    address: IpAddr,
) -> io::Result<bool> {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    let found = requests.get(RouteNetlinkMessage::GetNeighbour(message))?;
    Ok(matches!(
        found,
        Some(RouteNetlinkMessage::NewNeighbour(message))
            if message.header.state == neighbour::NeighbourState::Permanent
    ))
}

/// The request that makes the kernel find out or confirm a neighbour's MAC, as if it had a packet for it.
pub(in crate::kernel) fn use_request(index: u32, address: IpAddr) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.flags = neighbour::NeighbourFlags::Use;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    RouteNetlinkMessage::NewNeighbour(message)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
