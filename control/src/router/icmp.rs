//! ICMP errors for packets that we could not forward (RFC 792, RFC 1812 section 4.3, RFC 1191, RFC 4443).

mod limit;

pub use limit::{Bucket, Limiter};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::header::{checksum, ethernet, ipv4, ipv6};

/// What went wrong with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// TTL or hop limit ran out.
    TimeExceeded,
    /// Larger than the next link's MTU, in bytes, and not to be fragmented.
    TooBig(u16),
    /// The next hop does not answer ARP or ND.
    HostUnreachable,
    /// No route covers the destination.
    NoRoute,
    /// A guard or an access list forbids it.
    Prohibited,
    /// The byte at this place of the IPv4 header is wrong.
    Header(u8),
    /// The byte at this place of the IPv6 packet is wrong.
    Header6(u32),
    /// The IPv6 option at this place of the packet is not known, and must be.
    Option6(u32),
}

impl Fault {
    /// How many kinds there are.
    pub const KINDS: usize = 6;

    /// Its kind, as an index.
    pub fn kind(self) -> usize {
        match self {
            Self::TimeExceeded => 0,
            Self::TooBig(_) => 1,
            Self::HostUnreachable => 2,
            Self::NoRoute => 3,
            Self::Header(_) | Self::Header6(_) | Self::Option6(_) => 4,
            Self::Prohibited => 5,
        }
    }
}

/// Longest IPv4 error, in bytes (RFC 1812, section 4.3.2.3).
const MAX_V4: usize = 576;
/// Longest IPv6 error, in bytes: the least MTU (RFC 4443, section 3.1).
const MAX_V6: usize = 1280;
const ICMP: u8 = 1;
/// The bits of the TOS byte that are neither precedence nor must be zero (RFC 1349, section 3).
const TOS: u8 = 0x1e;
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// Its own TTL, one more than on the wire, as it passes the stages.
const TTL: u8 = 65;

/// The IP packet that tells the source of `packet` (from its IP header on) of `fault`, and its ethertype. `None`
/// where no error is due: for errors, fragments other than the first, and sources that are nobody's address.
/// `ident` is the identification of an IPv4 error, which may be fragmented on its way (RFC 6864, section 4.1).
pub fn error(packet: &[u8], fault: Fault, from: IpAddr, ident: u16) -> Option<(Vec<u8>, u16)> {
    match (packet.first()? >> 4, from) {
        (4, IpAddr::V4(from)) => Some((error4(packet, fault, from, ident)?, ethernet::IPV4)),
        (6, IpAddr::V6(from)) => Some((error6(packet, fault, from)?, ethernet::IPV6)),
        _ => None,
    }
}

/// ICMP messages that are no errors, so that an error may be due for them: echo, timestamp, information and address
/// mask, request and reply (RFC 1122, section 3.2.2). Of unknown types nobody can say.
const QUERIES: [u8; 8] = [0, 8, 13, 14, 15, 16, 17, 18];

fn error4(packet: &[u8], fault: Fault, from: Ipv4Addr, ident: u16) -> Option<Vec<u8>> {
    let header_len = ipv4::header_len(packet);
    let total = usize::from(ipv4::total_len(packet));
    let packet = packet.get(..total)?;
    let fragment = ipv4::fragment_field(packet);
    let is_error = ipv4::protocol(packet) == ICMP
        && packet.get(header_len).is_none_or(|message| !QUERIES.contains(message));
    // A packet larger than the link that may be fragmented is no fault of its sender.
    let may_fragment = matches!(fault, Fault::TooBig(_)) && fragment & 0x4000 == 0;
    if is_error || may_fragment || fragment & 0x1fff != 0 || ipv4::source(packet) == 0 {
        return None;
    }
    let (kind, code, rest) = match fault {
        Fault::TimeExceeded => (11, 0, [0; 4]),
        Fault::TooBig(mtu) => (3, 4, [0, 0, mtu.to_be_bytes()[0], mtu.to_be_bytes()[1]]),
        Fault::HostUnreachable => (3, 1, [0; 4]),
        Fault::NoRoute => (3, 0, [0; 4]),
        Fault::Prohibited => (3, 13, [0; 4]),
        Fault::Header(at) => (12, 0, [at, 0, 0, 0]),
        Fault::Header6(_) | Fault::Option6(_) => return None,
    };
    let quoted = &packet[..packet.len().min(MAX_V4 - 28)];
    let mut error = Vec::with_capacity(28 + quoted.len());
    // The TOS of the packet with internetwork control precedence (RFC 1812, section 4.3.2.5).
    error.extend([0x45, packet[1] & TOS | INTERNETWORK_CONTROL]);
    error.extend(((28 + quoted.len()) as u16).to_be_bytes());
    error.extend(ident.to_be_bytes());
    error.extend([0, 0, TTL, ICMP, 0, 0]);
    error.extend(from.octets());
    error.extend(ipv4::source(packet).to_be_bytes());
    put_checksum(&mut error, 10, 0, 20, 0);
    error.extend([kind, code, 0, 0]);
    error.extend(rest);
    error.extend(quoted);
    let end = error.len();
    put_checksum(&mut error, 22, 20, end, 0);
    Some(error)
}

fn error6(packet: &[u8], fault: Fault, from: Ipv6Addr) -> Option<Vec<u8>> {
    let packet = packet.get(..ipv6::HEADER_LEN + usize::from(ipv6::payload_len(packet)))?;
    let source = ipv6::source(packet);
    if is_error6(packet) || source == 0 || ipv6::is_multicast(source) {
        return None;
    }
    let (kind, code, rest) = match fault {
        Fault::TimeExceeded => (3, 0, 0),
        Fault::TooBig(mtu) => (2, 0, u32::from(mtu)),
        Fault::HostUnreachable => (1, 3, 0),
        Fault::NoRoute => (1, 0, 0),
        Fault::Prohibited => (1, 1, 0),
        Fault::Header6(at) => (4, 0, at),
        Fault::Option6(at) => (4, 2, at),
        Fault::Header(_) => return None,
    };
    let quoted = &packet[..packet.len().min(MAX_V6 - 48)];
    let payload = 8 + quoted.len();
    let mut error = Vec::with_capacity(40 + payload);
    error.extend([0x60, 0, 0, 0]);
    error.extend((payload as u16).to_be_bytes());
    error.extend([ipv6::ICMPV6, TTL]);
    error.extend(from.octets());
    error.extend(source.to_be_bytes());
    error.extend([kind, code, 0, 0]);
    error.extend(u32::to_be_bytes(rest));
    error.extend(quoted);
    put_checksum6(&mut error);
    Some(error)
}

/// Whether an IPv6 packet is an ICMPv6 error or redirect, behind whatever extension headers (RFC 4443, section 2.4 (e)). A later
/// fragment does not say what it is a part of, nor does a first one that ends before the message does (RFC 8200, section
/// 4.5): an error is due for it.
fn is_error6(packet: &[u8]) -> bool {
    const REDIRECT: u8 = 137;
    const ROUTING: u8 = 43;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    let (mut next, mut at) = (ipv6::next_header(packet), ipv6::HEADER_LEN);
    let mut whole = true;
    loop {
        // What comes behind a header that is cut short is as good as seen: its number is.
        let header = packet.get(at..at + 2);
        // Offset, two reserved bits, and whether more fragments follow.
        let fragment = || packet.get(at + 2..at + 4).map(|field| u16::from_be_bytes([field[0], field[1]]));
        match (next, header) {
            (ipv6::ICMPV6, _) => {
                return packet.get(at).map_or(whole, |kind| *kind < 128 || *kind == REDIRECT);
            }
            (ipv6::FRAGMENT, Some(h)) if fragment().is_some_and(|field| field & 0xfff8 == 0) => {
                whole &= fragment() == Some(0);
                (next, at) = (h[0], at + 8);
            }
            (ipv6::HOP_BY_HOP | ROUTING | DESTINATION, Some(h)) => {
                (next, at) = (h[0], at + (usize::from(h[1]) + 1) * 8);
            }
            (AUTHENTICATION, Some(h)) => (next, at) = (h[0], at + (usize::from(h[1]) + 2) * 4),
            _ => return false,
        }
    }
}

/// Puts its checksum into an ICMPv6 packet without extension headers, where zeros stand.
pub(super) fn put_checksum6(packet: &mut [u8]) {
    // The pseudo-header (RFC 8200, section 8.1): both addresses, which lie before the message, and two words.
    let (end, payload) = (packet.len(), packet.len().saturating_sub(ipv6::HEADER_LEN));
    put_checksum(packet, 42, 8, end, payload as u64 + u64::from(ipv6::ICMPV6));
}

/// Puts the Internet checksum of `bytes[start..end]` and of `more` at `at`, where zeros stand.
fn put_checksum(bytes: &mut [u8], at: usize, start: usize, end: usize, more: u64) {
    let words = u64::from(checksum::sum(&bytes[start..end])) + more;
    let folded = (words & 0xffff) + (words >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    bytes[at..at + 2].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet4(protocol: u8, payload: &[u8], fragment: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 1, protocol, 0, 0, 192, 0, 2, 1, 10, 1, 2, 3];
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet.extend(payload);
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet
    }

    fn packet6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 1];
        packet.extend((0xfd00u128 << 112 | 1).to_be_bytes());
        packet.extend((0x2001_0db8u128 << 96 | 1).to_be_bytes());
        packet.extend(payload);
        packet
    }

    const US: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn an_ipv4_error_is_well_formed() {
        let packet = packet4(17, &[7; 30], 0);
        let (error, ethertype) = error(&packet, Fault::TimeExceeded, US, 7).unwrap();
        assert_eq!(ethertype, 0x0800);
        assert_eq!(checksum::sum(&error[..20]), 0xffff);
        assert_eq!(checksum::sum(&error[20..]), 0xffff);
        assert_eq!(usize::from(ipv4::total_len(&error)), error.len());
        assert_eq!(error[16..20], [192, 0, 2, 1]);
        assert_eq!(error[4..6], [0, 7]);
        assert_eq!(error[20..22], [11, 0]);
        assert_eq!(error[28..], packet);
    }

    #[test]
    fn each_fault_has_its_message() {
        let message = |fault| {
            let mut packet = packet4(17, &[7; 30], 0x4000);
            packet[1] = 0xff;
            let (error, _) = error(&packet, fault, US, 0).unwrap();
            assert_eq!(error[1], 0xde, "TOS kept, precedence 6");
            (error[20], error[21], error[24..28].to_vec())
        };
        assert_eq!(message(Fault::TimeExceeded), (11, 0, vec![0; 4]));
        assert_eq!(message(Fault::TooBig(1400)), (3, 4, vec![0, 0, 5, 0x78]));
        assert_eq!(message(Fault::HostUnreachable), (3, 1, vec![0; 4]));
        assert_eq!(message(Fault::NoRoute), (3, 0, vec![0; 4]));
        assert_eq!(message(Fault::Prohibited), (3, 13, vec![0; 4]));
        assert_eq!(message(Fault::Header(22)), (12, 0, vec![22, 0, 0, 0]));
        let message6 = |fault| {
            let from: Ipv6Addr = "fd00::ff".parse().unwrap();
            let (error, _) = error(&packet6(17, &[7; 30]), fault, from.into(), 0).unwrap();
            (error[40], error[41], error[44..48].to_vec())
        };
        assert_eq!(message6(Fault::TimeExceeded), (3, 0, vec![0; 4]));
        assert_eq!(message6(Fault::HostUnreachable), (1, 3, vec![0; 4]));
        assert_eq!(message6(Fault::NoRoute), (1, 0, vec![0; 4]));
        assert_eq!(message6(Fault::Prohibited), (1, 1, vec![0; 4]));
        assert_eq!(message6(Fault::Header6(44)), (4, 0, vec![0, 0, 0, 44]));
        assert_eq!(message6(Fault::Option6(42)), (4, 2, vec![0, 0, 0, 42]));
    }

    #[test]
    fn icmpv6_errors_are_seen_behind_extension_headers() {
        let due = |next, payload: &[u8]| {
            error(&packet6(next, payload), Fault::TimeExceeded, "fd00::ff".parse().unwrap(), 0).is_some()
        };
        let behind = |header: &[u8], kind: u8| [header, &[kind, 0, 0, 0]].concat();
        let options = [58, 0, 1, 4, 0, 0, 0, 0];
        let fragment = |offset: u8| [58, 0, 0, offset << 3, 0, 0, 0, 1];
        let authentication = [58, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        for (next, header) in [(0, &options[..]), (43, &options), (60, &options), (51, &authentication)] {
            assert!(due(next, &behind(header, 128)), "an echo request behind {next}");
            assert!(!due(next, &behind(header, 1)), "an error behind {next}");
            assert!(!due(next, &behind(header, 137)), "a redirect behind {next}");
        }
        assert!(!due(44, &behind(&fragment(0), 1)), "the first fragment of an error");
        assert!(due(44, &behind(&fragment(1), 1)), "a later fragment of whatever");
        assert!(due(44, &[58, 0, 0, 1, 0, 0, 0, 1]), "a first fragment that ends before its ICMP type");
        assert!(!due(44, &fragment(0)), "the only fragment does not go on elsewhere");
        assert!(!due(60, &options), "it ends before its ICMP type");
        assert!(due(59, &[]), "nothing follows");
        assert!(!due(60, &options[..4]), "cut within an extension header, but it says what follows");
        assert!(!due(51, &authentication[..7]), "the same");
        assert!(due(60, &options[..1]), "it does not say what follows");
        assert!(due(44, &fragment(0)[..3]), "nor does this");
        let chain = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &options, &[3, 0, 0, 0]].concat();
        assert!(!due(43, &chain));
    }

    #[test]
    fn an_ipv6_error_is_well_formed() {
        let from: Ipv6Addr = "fd00::ff".parse().unwrap();
        let packet = packet6(17, &[7; 30]);
        let (error, ethertype) = error(&packet, Fault::TooBig(1400), from.into(), 0).unwrap();
        assert_eq!(ethertype, 0x86dd);
        let pseudo = [&error[8..40], &[0, 0, error[4], error[5], 0, 0, 0, 58], &error[40..]].concat();
        assert_eq!(checksum::sum(&pseudo), 0xffff);
        assert_eq!(error[40..48], [2, 0, error[42], error[43], 0, 0, 0x05, 0x78]);
        assert_eq!(error[48..], packet);
    }

    #[test]
    fn long_packets_are_quoted_in_part() {
        let (long, _) = error(&packet4(17, &[0; 1400], 0), Fault::TimeExceeded, US, 0).unwrap();
        assert_eq!(long.len(), MAX_V4);
        assert_eq!(checksum::sum(&long[20..]), 0xffff);
    }

    #[test]
    fn no_error_is_due_for_errors_and_later_fragments() {
        let due = |packet: &[u8], fault| error(packet, fault, US, 0).is_some();
        assert!(due(&packet4(1, &[8, 0, 0, 0], 0), Fault::TimeExceeded), "an echo request");
        assert!(!due(&packet4(1, &[3, 1, 0, 0], 0), Fault::TimeExceeded), "an error");
        assert!(!due(&packet4(1, &[], 0), Fault::TimeExceeded), "ICMP without a type");
        assert!(due(&packet4(17, &[0; 8], 0x2000), Fault::TimeExceeded), "the first fragment");
        assert!(!due(&packet4(17, &[0; 8], 5), Fault::TimeExceeded), "a later one");
        assert!(due(&packet4(17, &[0; 8], 0x4000), Fault::TooBig(1400)), "not to be fragmented");
        assert!(!due(&packet4(17, &[0; 8], 0), Fault::TooBig(1400)), "may be fragmented");
        let us6: IpAddr = "fd00::ff".parse().unwrap();
        assert!(error(&packet6(58, &[128, 0]), Fault::TimeExceeded, us6, 0).is_some());
        assert!(error(&packet6(58, &[1, 0]), Fault::TimeExceeded, us6, 0).is_none());
        assert!(error(&packet6(17, &[0; 4])[..30], Fault::TimeExceeded, us6, 0).is_none());
        assert!(error(&[], Fault::TimeExceeded, US, 0).is_none());
    }
}
