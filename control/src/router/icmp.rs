//! ICMP errors for packets that we could not forward (RFC 792, RFC 1812 section 4.3, RFC 1191, RFC 4443).

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
}

impl Fault {
    /// How many kinds there are.
    pub const KINDS: usize = 3;

    /// Its kind, as an index.
    pub fn kind(self) -> usize {
        match self {
            Self::TimeExceeded => 0,
            Self::TooBig(_) => 1,
            Self::HostUnreachable => 2,
        }
    }
}

/// Longest IPv4 error, in bytes (RFC 1812, section 4.3.2.3).
const MAX_V4: usize = 576;
/// Longest IPv6 error, in bytes: the least MTU (RFC 4443, section 3.1).
const MAX_V6: usize = 1280;
const ICMP: u8 = 1;
/// Its own TTL, one more than on the wire, as it passes the stages.
const TTL: u8 = 65;

/// The IP packet that tells the source of `packet` (from its IP header on) of `fault`, and its ethertype. `None`
/// where no error is due: for errors, fragments other than the first, and sources that are nobody's address.
pub fn error(packet: &[u8], fault: Fault, from: IpAddr) -> Option<(Vec<u8>, u16)> {
    match (packet.first()? >> 4, from) {
        (4, IpAddr::V4(from)) => Some((error4(packet, fault, from)?, ethernet::IPV4)),
        (6, IpAddr::V6(from)) => Some((error6(packet, fault, from)?, ethernet::IPV6)),
        _ => None,
    }
}

fn error4(packet: &[u8], fault: Fault, from: Ipv4Addr) -> Option<Vec<u8>> {
    let header_len = ipv4::header_len(packet);
    let total = usize::from(ipv4::total_len(packet));
    let packet = packet.get(..total)?;
    let fragment = ipv4::fragment_field(packet);
    let is_error = ipv4::protocol(packet) == ICMP && !matches!(packet.get(header_len), Some(0 | 8 | 13 | 14));
    // A packet larger than the link that may be fragmented is no fault of its sender.
    let may_fragment = matches!(fault, Fault::TooBig(_)) && fragment & 0x4000 == 0;
    if is_error || may_fragment || fragment & 0x1fff != 0 || ipv4::source(packet) == 0 {
        return None;
    }
    let (kind, code, rest) = match fault {
        Fault::TimeExceeded => (11, 0, [0; 4]),
        Fault::TooBig(mtu) => (3, 4, [0, 0, mtu.to_be_bytes()[0], mtu.to_be_bytes()[1]]),
        Fault::HostUnreachable => (3, 1, [0; 4]),
    };
    let quoted = &packet[..packet.len().min(MAX_V4 - 28)];
    let mut error = Vec::with_capacity(28 + quoted.len());
    // Internetwork control precedence, as RFC 1812 section 4.3.2.5 asks.
    error.extend([0x45, 0xc0]);
    error.extend(((28 + quoted.len()) as u16).to_be_bytes());
    error.extend([0, 0, 0, 0, TTL, ICMP, 0, 0]);
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
    let is_error = ipv6::next_header(packet) == ipv6::ICMPV6
        && packet.get(ipv6::HEADER_LEN).is_none_or(|kind| *kind < 128);
    if is_error || source == 0 || ipv6::is_multicast(source) {
        return None;
    }
    let (kind, code, rest) = match fault {
        Fault::TimeExceeded => (3, 0, 0),
        Fault::TooBig(mtu) => (2, 0, u32::from(mtu)),
        Fault::HostUnreachable => (1, 3, 0),
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
    // The pseudo-header (RFC 8200, section 8.1): both addresses, which lie before the message, and two words.
    let end = error.len();
    put_checksum(&mut error, 42, 8, end, payload as u64 + u64::from(ipv6::ICMPV6));
    Some(error)
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
        let (error, ethertype) = error(&packet, Fault::TimeExceeded, US).unwrap();
        assert_eq!(ethertype, 0x0800);
        assert_eq!(checksum::sum(&error[..20]), 0xffff);
        assert_eq!(checksum::sum(&error[20..]), 0xffff);
        assert_eq!(usize::from(ipv4::total_len(&error)), error.len());
        assert_eq!(error[16..20], [192, 0, 2, 1]);
        assert_eq!(error[20..22], [11, 0]);
        assert_eq!(error[28..], packet);
    }

    #[test]
    fn an_ipv6_error_is_well_formed() {
        let from: Ipv6Addr = "fd00::ff".parse().unwrap();
        let packet = packet6(17, &[7; 30]);
        let (error, ethertype) = error(&packet, Fault::TooBig(1400), from.into()).unwrap();
        assert_eq!(ethertype, 0x86dd);
        let pseudo = [&error[8..40], &[0, 0, error[4], error[5], 0, 0, 0, 58], &error[40..]].concat();
        assert_eq!(checksum::sum(&pseudo), 0xffff);
        assert_eq!(error[40..48], [2, 0, error[42], error[43], 0, 0, 0x05, 0x78]);
        assert_eq!(error[48..], packet);
    }

    #[test]
    fn long_packets_are_quoted_in_part() {
        let (long, _) = error(&packet4(17, &[0; 1400], 0), Fault::TimeExceeded, US).unwrap();
        assert_eq!(long.len(), MAX_V4);
        assert_eq!(checksum::sum(&long[20..]), 0xffff);
    }

    #[test]
    fn no_error_is_due_for_errors_and_later_fragments() {
        let due = |packet: &[u8], fault| error(packet, fault, US).is_some();
        assert!(due(&packet4(1, &[8, 0, 0, 0], 0), Fault::TimeExceeded), "an echo request");
        assert!(!due(&packet4(1, &[3, 1, 0, 0], 0), Fault::TimeExceeded), "an error");
        assert!(!due(&packet4(1, &[], 0), Fault::TimeExceeded), "ICMP without a type");
        assert!(due(&packet4(17, &[0; 8], 0x2000), Fault::TimeExceeded), "the first fragment");
        assert!(!due(&packet4(17, &[0; 8], 5), Fault::TimeExceeded), "a later one");
        assert!(due(&packet4(17, &[0; 8], 0x4000), Fault::TooBig(1400)), "not to be fragmented");
        assert!(!due(&packet4(17, &[0; 8], 0), Fault::TooBig(1400)), "may be fragmented");
        let us6: IpAddr = "fd00::ff".parse().unwrap();
        assert!(error(&packet6(58, &[128, 0]), Fault::TimeExceeded, us6).is_some());
        assert!(error(&packet6(58, &[1, 0]), Fault::TimeExceeded, us6).is_none());
        assert!(error(&packet6(17, &[0; 4])[..30], Fault::TimeExceeded, us6).is_none());
        assert!(error(&[], Fault::TimeExceeded, US).is_none());
    }
}
