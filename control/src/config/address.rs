//! Addresses and prefixes: from text, and the rules for who has which address on a link.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnetwork::IpNetwork;
use toml_span::Value;

use super::values::{is_digits, string};

/// `address/length`, as written.
pub(super) fn network(value: &Value<'_>) -> Result<IpNetwork, String> {
    let text = string(value)?;
    let Some((address, length)) = text.split_once('/') else {
        return Err(match text.parse::<IpAddr>() {
            Ok(ip) => format!("{text:?} has no prefix length: write \"{text}/{}\" or shorter", bits(ip)),
            Err(_) => not_a_prefix(text),
        });
    };
    let address: IpAddr = address.parse().map_err(|_| not_a_prefix(text))?;
    let length = Some(length).filter(|l| is_digits(l)).and_then(|l| l.parse::<u8>().ok());
    length
        .and_then(|length| IpNetwork::new(address, length).ok())
        .ok_or_else(|| format!("{text:?} has no valid prefix length: it goes from 0 to {}", bits(address)))
}

fn not_a_prefix(text: &str) -> String {
    format!("{text:?} is no prefix: write address/length, for example \"192.0.2.0/24\" or \"2001:db8::/64\"")
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A prefix with no host bits.
pub(super) fn prefix(value: &Value<'_>) -> Result<IpNetwork, String> {
    let given = network(value)?;
    if given.ip() == given.network() {
        return Ok(given);
    }
    Err(format!("{given} has host bits: write \"{}/{}\"", given.network(), given.prefix()))
}

/// An address of ours with its prefix length.
pub(super) fn interface_address(value: &Value<'_>) -> Result<IpNetwork, String> {
    let given = network(value)?;
    if given.prefix() == 0 {
        return Err(format!("{given}: no interface has the whole Internet on it; give the subnet's length"));
    }
    check_unicast(given.ip())?;
    if let IpAddr::V6(ip) = given.ip()
        && ip.is_unicast_link_local()
    {
        return Err(format!("{ip} is link-local: the kernel gives each interface its own, leave it out"));
    }
    if is_network_address(given) {
        let first = add(given.network(), 1);
        return Err(format!(
            "{} is the subnet's own address, not a host's: the first host is \"{first}/{}\"",
            given.ip(),
            given.prefix()
        ));
    }
    if is_broadcast_address(given) {
        return Err(format!("{} is the subnet's broadcast address: give a host address", given.ip()));
    }
    Ok(given)
}

/// Whether the address is the subnet's number (IPv4) or subnet-router anycast address (IPv6, RFC 4291 section
/// 2.6.1). Point-to-point lengths have none (RFC 3021, RFC 6164).
pub(super) fn is_network_address(given: IpNetwork) -> bool {
    given.prefix() < bits(given.ip()) - 1 && given.ip() == given.network()
}

/// Whether the address is the subnet's IPv4 broadcast address.
pub(super) fn is_broadcast_address(given: IpNetwork) -> bool {
    given.is_ipv4() && given.prefix() < 31 && given.ip() == given.broadcast()
}

/// Whether one host may have the address.
pub(super) fn check_unicast(ip: IpAddr) -> Result<(), String> {
    let kind = match ip {
        _ if ip.is_unspecified() => "the unspecified address",
        _ if ip.is_multicast() => "a multicast address",
        _ if ip.is_loopback() => "a loopback address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "in 0.0.0.0/8, which means \"this network\"",
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => "in the reserved 240.0.0.0/4",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4-mapped address: write it as IPv4",
        _ => return Ok(()),
    };
    Err(format!("{ip} is {kind}: no host has it"))
}

/// A gateway or neighbour.
pub(super) fn host(value: &Value<'_>) -> Result<IpAddr, String> {
    let ip = address(value)?;
    check_unicast(ip)?;
    Ok(ip)
}

/// Any address.
pub(super) fn address(value: &Value<'_>) -> Result<IpAddr, String> {
    let text = string(value)?;
    text.parse().map_err(|_| {
        format!("{text:?} is no IP address: write for example \"192.0.2.1\" or \"2001:db8::1\", no length")
    })
}

/// `address:port`, `[v6]:port`.
pub(super) fn socket_address(value: &Value<'_>) -> Result<SocketAddr, String> {
    let text = string(value)?;
    let wanted = "write \"127.0.0.1:1790\" or \"[::1]:1790\"";
    let socket: SocketAddr =
        text.parse().map_err(|_| format!("{text:?} is no address with a port: {wanted}"))?;
    if socket.port() == 0 || socket.ip().is_multicast() {
        return Err(format!("{text:?} cannot be listened on: {wanted}"));
    }
    Ok(socket)
}

/// A unicast MAC address.
pub(super) fn mac(value: &Value<'_>) -> Result<[u8; 6], String> {
    let text = string(value)?;
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    let fine = mac.iter_mut().all(|byte| {
        let digits = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
        digits.and_then(|p| u8::from_str_radix(p, 16).ok()).map(|b| *byte = b).is_some()
    });
    if !fine || parts.next().is_some() {
        return Err(format!("{text:?} is no MAC address: write six bytes, \"00:53:00:00:00:01\""));
    }
    if mac[0] & 1 == 1 {
        return Err(format!("{text} is a multicast or broadcast MAC (first byte odd): give the host's own"));
    }
    if mac == [0; 6] {
        return Err(format!("{text} is no host's MAC: give the host's own"));
    }
    Ok(mac)
}

/// Addresses in a link's prefix, of either family.
const LINK_SIZE: u32 = 4;

/// The prefix length of one link of a peering.
pub(super) fn link_length(v4: bool) -> u8 {
    if v4 { 30 } else { 126 }
}

/// Our address on a link of a peering, from its prefix or our address: the first host is ours, the second
/// Microsoft's.
pub(super) fn link_address(given: IpNetwork) -> Result<IpNetwork, String> {
    let length = link_length(given.is_ipv4());
    let (network, family) = (given.network(), if given.is_ipv4() { "v4" } else { "v6" });
    if given.prefix() != length {
        let hint = if given.prefix() == length - 1 {
            format!("; a /{} over both links goes into the peering's own `{family}`", length - 1)
        } else {
            String::new()
        };
        return Err(format!("{given}: each link has a /{length}, not a /{}{hint}", given.prefix()));
    }
    check_unicast(network)?;
    let ours = add(network, 1);
    if given.ip() == network || given.ip() == ours {
        return IpNetwork::new(ours, length).map_err(|e| e.to_string());
    }
    let whose = if given.ip() == add(network, 2) { "Microsoft's end of the link" } else { "no host's" };
    Err(format!(
        "{} is {whose}; ours is the first host address: write \"{ours}/{length}\" or \"{network}/{length}\"",
        given.ip()
    ))
}

/// The halves of a prefix that covers both links: primary, secondary.
pub(super) fn split_for_links(whole: IpNetwork) -> Result<[IpNetwork; 2], String> {
    let length = link_length(whole.is_ipv4());
    let network = whole.network();
    if whole.prefix() != length - 1 || whole.ip() != network {
        let hint =
            if whole.prefix() == length { "; one link's own goes into `primary` or `secondary`" } else { "" };
        return Err(format!(
            "{whole}: must be the /{} network over both links, without host bits{hint}",
            length - 1
        ));
    }
    let half = |start| IpNetwork::new(start, length).map_err(|e| e.to_string());
    Ok([half(network)?, half(add(network, LINK_SIZE))?])
}

/// `address + n`, staying at the top of the address space.
fn add(address: IpAddr, n: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => u32::from(v4).saturating_add(n).to_be_bytes().into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6).saturating_add(u128::from(n))).into(),
    }
}
