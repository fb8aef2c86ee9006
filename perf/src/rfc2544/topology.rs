//! Who sends what to whom: the two sides of the device, and the flows between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::args::{Args, Family, TagList};
use super::error::Error;
use crate::traffic::{Flow, Layer2, Sizes, Traffic};

/// One side of the device.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// Tags of frames to and from the device.
    pub tags: TagList,
    /// The tester's MAC address.
    pub mac: [u8; 6],
    /// The device's MAC address.
    pub gateway: [u8; 6],
    /// First of the hosts behind the tester's port.
    pub hosts4: Ipv4Addr,
    /// The same for IPv6.
    pub hosts6: Ipv6Addr,
}

/// First hosts behind A and B: within RFC 2544's 198.18.0.0/15 (appendix C.2.2) and RFC 5180's `2001:2::/48`.
pub const HOSTS4: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 1, 0), Ipv4Addr::new(198, 19, 1, 0)];
/// The same for IPv6. Not in the first /64 of each half, which is the link to the device.
pub const HOSTS6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 2, 0, 1, 0, 0, 1, 0), Ipv6Addr::new(0x2001, 2, 0, 0x8001, 0, 0, 1, 0)];

/// UDP's echo port (RFC 2544, appendix C.2.6.4).
const DST_PORT: u16 = 7;

impl Side {
    /// The side of port `index` (0 for A) as the arguments say, for a port whose own MAC address is `own`.
    ///
    /// # Errors
    /// No gateway, or hosts that cannot be.
    pub fn new(args: &Args, index: usize, own: [u8; 6], gateway: Option<[u8; 6]>) -> Result<Self, Error> {
        let (tags, mac, given, hosts) = if index == 0 {
            (args.a_tags, args.a_mac, args.a_gateway, &args.a_hosts)
        } else {
            (args.b_tags, args.b_mac, args.b_gateway, &args.b_hosts)
        };
        let option = if index == 0 { 'a' } else { 'b' };
        let gateway = given.map(|mac| mac.0).or(gateway);
        let mut side = Self {
            tags,
            mac: mac.map_or(own, |mac| mac.0),
            gateway: gateway.ok_or(Error::NoGateway { port: option.to_ascii_uppercase(), option })?,
            hosts4: HOSTS4[index],
            hosts6: HOSTS6[index],
        };
        for host in hosts {
            match host {
                IpAddr::V4(host) => side.hosts4 = *host,
                IpAddr::V6(host) => side.hosts6 = *host,
            }
        }
        // The last flow's host must be an address that routers forward to.
        let last = u32::from(side.hosts4).checked_add(args.flows - 1).map(Ipv4Addr::from);
        if last.is_none_or(|last| last >= Ipv4Addr::new(224, 0, 0, 0)) || side.hosts4.is_loopback() {
            let why = format!("{} hosts from {} on are not all unicast addresses", args.flows, side.hosts4);
            return Err(Error::Hosts { option, why });
        }
        if side.hosts6.is_multicast() || side.hosts6.is_loopback() || side.hosts6.is_unspecified() {
            return Err(Error::Hosts { option, why: format!("{} is not a unicast address", side.hosts6) });
        }
        Ok(side)
    }

    fn host(&self, family: Family, n: u32) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::from(u32::from(self.hosts4).wrapping_add(n)).into(),
            Family::V6 => Ipv6Addr::from(u128::from(self.hosts6).wrapping_add(n.into())).into(),
        }
    }
}

/// The flows of a trial: `args.flows` from A to B, and as many back with `--bidirectional`. Each has a host of its own
/// on both sides. With one side only, frames come back on the port that sent them.
///
/// # Errors
/// Sizes that the family cannot have.
pub fn traffic(args: &Args, sides: &[Side], family: Family, sizes: Sizes) -> Result<Traffic, Error> {
    let (Some(a), Some(b)) = (sides.first(), sides.last()) else { return Err(Error::NoPorts) };
    let mut flows = Vec::new();
    let directions = if args.bidirectional && sides.len() == 2 { 2 } else { 1 };
    for direction in 0..directions {
        let (from, to) = if direction == 0 { (a, b) } else { (b, a) };
        let port = if sides.len() == 2 { 1 - direction } else { 0 };
        flows.extend((0..args.flows).map(|n| Flow {
            from: direction,
            to: 1 << port,
            l2: Layer2 { dst: from.gateway, src: from.mac, tags: from.tags.0 },
            src: from.host(family, n),
            dst: to.host(family, n),
            src_port: 49_152 + (n % 16_384) as u16,
            dst_port: DST_PORT,
            hop_limit: 64,
        }));
    }
    Ok(Traffic::new(flows, sizes)?)
}
