//! The flow hash: packets of one flow hash alike, so that they take one member of a group and keep their order.

use super::{be16, be32, ethernet, ipv4, ipv6};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Hash of an IPv4 packet with a checked header: addresses, protocol, and ports where they are in it. Fragments
/// are hashed by addresses only, so that all of a packet's fragments go one way.
pub fn hash4(packet: &[u8]) -> u32 {
    let addresses = u64::from(ipv4::source(packet)) << 32 | u64::from(ipv4::destination(packet));
    if ipv4::is_fragment(packet) {
        return mix(addresses, 0);
    }
    let protocol = ipv4::protocol(packet);
    mix(addresses, ports(protocol, packet, ipv4::header_len(packet)))
}

/// Hash of an IPv6 packet with a checked header: as for IPv4. Ports behind extension headers are not looked for.
pub fn hash6(packet: &[u8]) -> u32 {
    let (source, destination) = (ipv6::source(packet), ipv6::destination(packet));
    let fold = |a: u128| (a as u64) ^ (a >> 64) as u64;
    let addresses = fold(source).rotate_left(32) ^ fold(destination);
    let next_header = ipv6::next_header(packet);
    if next_header == ipv6::FRAGMENT {
        return mix(addresses, 0);
    }
    mix(addresses, ports(next_header, packet, ipv6::HEADER_LEN))
}

/// The hash of a frame with up to two tags and a priority tag, as [`hash4`] and [`hash6`] have it, by the first look, before
/// anything of it is checked; `None` where it is not IP.
#[inline]
pub fn of_frame(frame: &[u8]) -> Option<u32> {
    Some(match ip(frame)? {
        Ip::V4(l3) => hash4(l3),
        Ip::V6(l3) => hash6(l3),
    })
}

/// A hash that tells flows apart for good: of 64 bits, and with each half of an IPv6 address in it by itself, as hosts that
/// have them swapped need it. `None` where there are no ports: in fragments, and protocols without.
pub fn fingerprint(frame: &[u8]) -> Option<u64> {
    let halves = |address: u128| [(address >> 64) as u64, address as u64];
    let (ports, words) = match ip(frame)? {
        Ip::V4(l3) if has_ports4(l3) => {
            let addresses = u64::from(ipv4::source(l3)) << 32 | u64::from(ipv4::destination(l3));
            (ports(ipv4::protocol(l3), l3, ipv4::header_len(l3)), [addresses, 0, 0, 0])
        }
        Ip::V6(l3) if has_ports(ipv6::next_header(l3)) => {
            let ([a, b], [c, d]) = (halves(ipv6::source(l3)), halves(ipv6::destination(l3)));
            (ports(ipv6::next_header(l3), l3, ipv6::HEADER_LEN), [a, b, c, d])
        }
        _ => return None,
    };
    let add = |hash, word| step(hash ^ word ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93);
    Some(words.into_iter().fold(ports, add))
}

/// An IP packet that is as long as its family's header.
enum Ip<'a> {
    V4(&'a [u8]),
    V6(&'a [u8]),
}

/// That of a frame with up to two tags and a priority tag.
#[inline]
fn ip(frame: &[u8]) -> Option<Ip<'_>> {
    let mut at = ethernet::HEADER_LEN - 2;
    for _ in 0..3 {
        if !ethernet::is_tpid(be16(frame, at)) {
            break;
        }
        at += ethernet::TAG_LEN;
    }
    let l3 = frame.get(at + 2..)?;
    match be16(frame, at) {
        ethernet::IPV4 if l3.len() >= ipv4::MIN_HEADER_LEN => Some(Ip::V4(l3)),
        ethernet::IPV6 if l3.len() >= ipv6::HEADER_LEN => Some(Ip::V6(l3)),
        _ => None,
    }
}

fn has_ports4(packet: &[u8]) -> bool {
    !ipv4::is_fragment(packet) && has_ports(ipv4::protocol(packet))
}

fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

fn ports(protocol: u8, packet: &[u8], at: usize) -> u64 {
    let ports = if has_ports(protocol) { be32(packet, at) } else { 0 };
    u64::from(protocol) << 32 | u64::from(ports)
}

/// Multiply and fold twice: every input bit reaches the low bits, by which buckets are chosen.
fn mix(a: u64, b: u64) -> u32 {
    let hash = step(step(a ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93) ^ b, 0xa076_1d64_78bd_642f);
    (hash ^ hash >> 32) as u32
}

fn step(x: u64, k: u64) -> u64 {
    let product = u128::from(x) * u128::from(k);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp4(source: u32, destination: u32, port: u16, fragment: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0];
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet.extend(source.to_be_bytes());
        packet.extend(destination.to_be_bytes());
        packet.extend(port.to_be_bytes());
        packet.extend([0, 53, 0, 8, 0, 0]);
        packet
    }

    #[test]
    fn ports_count_but_not_in_fragments() {
        let hash = |port, fragment| hash4(&udp4(1, 2, port, fragment));
        assert_eq!(hash(1000, 0), hash(1000, 0x4000));
        assert_ne!(hash(1000, 0), hash(1001, 0));
        // First fragment (more to come) and last one (offset 185, no more): their payloads differ, not their way.
        assert_eq!(hash(1000, 0x2000), hash(9999, 185));
    }

    #[test]
    fn the_flow_of_a_frame_is_that_of_its_packet() {
        let packet = udp4(1, 2, 1000, 0);
        for tags in [vec![], vec![0x8100u16], vec![0x88a8, 0x8100], vec![0x8100, 0x88a8, 0x8100]] {
            let mut frame = vec![0; 12];
            for tpid in tags {
                frame.extend(tpid.to_be_bytes());
                frame.extend([0, 7]);
            }
            frame.extend(ethernet::IPV4.to_be_bytes());
            frame.extend(&packet);
            assert_eq!(of_frame(&frame), Some(hash4(&packet)));
            assert!(fingerprint(&frame).is_some());
            // Whatever is cut off, and whatever header length is claimed, it does not fail.
            for end in 0..frame.len() {
                let _ = (of_frame(&frame[..end]), fingerprint(&frame[..end]));
            }
            let l3 = frame.len() - packet.len();
            frame[l3] = 0x4f;
            assert!(of_frame(&frame).is_some());
        }
        assert_eq!(of_frame(&[0; 60]), None);
    }

    #[test]
    fn flows_spread_evenly_over_buckets() {
        for shape in [
            |i: u32| (0x0a00_0000 + i, 0xc0a8_0001, 5000),
            |i: u32| (1, 2, i as u16),
            |i: u32| (1, 2 + i * 256, 80),
        ] {
            let mut buckets = [0u32; 16];
            for i in 0..16_000 {
                let (source, destination, port) = shape(i);
                buckets[(hash4(&udp4(source, destination, port, 0)) & 15) as usize] += 1;
            }
            // 1000 expected; 5 standard deviations of a fair spread are some 155.
            assert!(buckets.iter().all(|&n| (800..1200).contains(&n)), "{buckets:?}");
        }
    }
}
