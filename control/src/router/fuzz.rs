//! Entry points for the fuzzer, without sockets, buffers or clocks: what control makes of packets that a worker did not
//! forward, and of configurations. They panic where something does not hold that must hold for any of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dataplane::grace::{GracePeriod, NoReaders};
use dataplane::header::{checksum, ipv4, ipv6};
use dataplane::sub_interface::SubInterfaces;

use super::acl_reload::AclsInForce;
use super::fragment::fragments;
use super::hop_by_hop::{self, Refusal};
use super::icmp::{self, Fault};
use super::ip_options::{self, Ours};
use super::publish::{self, Fibs};
use crate::config::model::Config;

const US4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const US6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

/// Builds all that the data plane has of a configuration that was found right, with all links up.
#[expect(clippy::expect_used, reason = "what was found right can be built: that is what is tried")]
pub fn build(config: &Config) {
    let macs: Vec<[u8; 6]> = (0..config.ports.len()).map(|port| [2, 0, 0, 0, 0, port as u8]).collect();
    let sub_interfaces =
        SubInterfaces::new(publish::sub_interfaces(config, &macs)).expect("no two are alike");
    // Only too many rules can be wrong with access lists now, which is told at the start.
    let Ok((_, policies)) = AclsInForce::new(config) else { return };
    for (id, sub_if) in super::sub_if_ids(config) {
        assert_eq!(policies.get(id), Some(&sub_if.policy));
        assert!(sub_interfaces.get(id).is_some());
    }
    let grace: Arc<dyn GracePeriod> = Arc::new(NoReaders);
    let mut fibs = Fibs::new(config.vrfs.len(), &grace).expect("memory");
    let mut rib = super::configured_rib(config, true).expect("all that it names is known");
    let commit = rib.commit(&mut |_| {}, &mut fibs);
    assert_eq!((commit.failure, commit.pending), (None, 0));
    assert!(!rib.is_dirty());
}

/// `input`: what is to be wrong with the packet, whether its version and length are to be put right, a 16-bit number,
/// and the packet from its IP header on.
pub fn slow_path(input: &[u8]) {
    let [kind, mend, high, low, packet @ ..] = input else { return };
    let number = u16::from_be_bytes([*high, *low]);
    let mut packet = packet.to_vec();
    put_right(&mut packet, *mend);
    let fault = match kind % 8 {
        0 => Fault::TimeExceeded,
        1 => Fault::TooBig(number),
        2 => Fault::HostUnreachable,
        3 => Fault::NoRoute,
        4 => Fault::Header(*low),
        5 => Fault::Prohibited,
        6 => Fault::Header6(u32::from(number)),
        _ => Fault::Option6(u32::from(number)),
    };
    for from in [IpAddr::V4(US4), IpAddr::V6(US6)] {
        match icmp::error(&packet, fault, from, number) {
            Some((error, 0x0800)) => check_error4(&packet, &error, number),
            Some((error, _)) => check_error6(&packet, &error),
            None => {}
        }
    }
    match hop_by_hop::check(&packet) {
        Err(Refusal::Wrong(at) | Refusal::Unknown(at)) => assert!((at as usize) < packet.len()),
        Ok(()) | Err(Refusal::Silent) => {}
    }
    if is_checked(&packet) {
        options(&packet);
        cut(&packet, number);
    }
}

/// Makes more of the inputs packets that come as far as this: by the bits of `mend`, version 4 or 6, and the length.
fn put_right(packet: &mut [u8], mend: u8) {
    let len = packet.len();
    let Some(header) = packet.first_chunk_mut::<40>() else { return };
    let is_v4 = mend & 2 != 0;
    if mend & 1 != 0 {
        header[0] = if is_v4 { 0x40 | (header[0] & 15).max(5) } else { 0x60 | header[0] & 15 };
    }
    if mend & 4 != 0 {
        let (at, length) = if is_v4 { (2, len) } else { (4, len - 40) };
        header[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
    }
}

/// Whether it is IPv4 and its lengths are such as the stages let pass.
fn is_checked(packet: &[u8]) -> bool {
    let (header, total) = (ipv4::header_len(packet), usize::from(ipv4::total_len(packet)));
    packet.first().is_some_and(|first| first >> 4 == 4)
        && (20..=total).contains(&header)
        && total <= packet.len()
}

fn check_error4(packet: &[u8], error: &[u8], ident: u16) {
    let total = usize::from(ipv4::total_len(packet));
    assert_eq!(ipv4::fragment_field(packet) & 0x1fff, 0, "about a later fragment");
    if ipv4::protocol(packet) == 1 {
        let message = packet[..total][ipv4::header_len(packet)];
        assert!([0, 8, 13, 14, 15, 16, 17, 18].contains(&message), "about an error");
    }
    assert!(error.len() <= 576 && error[0] == 0x45);
    assert_eq!(usize::from(ipv4::total_len(error)), error.len());
    assert_eq!(checksum::sum(&error[..20]), 0xffff);
    assert_eq!(checksum::sum(&error[20..]), 0xffff);
    assert_eq!(error[4..6], ident.to_be_bytes());
    assert_eq!(error[12..16], US4.octets());
    assert_eq!(error[16..20], packet[12..16]);
    assert_eq!(error[28..], packet[..total.min(576 - 28)]);
}

fn check_error6(packet: &[u8], error: &[u8]) {
    let total = 40 + usize::from(ipv6::payload_len(packet));
    assert!(packet[8] != 0xff && packet[8..24] != [0; 16], "to no single host");
    assert!(packet[6] != ipv6::ICMPV6 || packet[40] >= 128, "about an error");
    assert!(error.len() <= 1280 && error[0] == 0x60);
    assert_eq!(40 + usize::from(ipv6::payload_len(error)), error.len());
    assert_eq!(error[8..24], US6.octets());
    assert_eq!(error[24..40], packet[8..24]);
    assert_eq!(error[48..], packet[..total.min(1280 - 48)]);
    // The pseudo-header (RFC 8200, section 8.1), written out.
    let length = (error.len() as u32 - 40).to_be_bytes();
    let summed = [&error[8..40], &length, &[0, 0, 0, 58], &error[40..]].concat();
    assert_eq!(checksum::sum(&summed), 0xffff);
}

/// Whatever passes the check is recorded in place, and nothing else of the packet changes.
fn options(packet: &[u8]) {
    let len = ipv4::header_len(packet);
    if let Err(pointer) = ip_options::check(packet) {
        assert!((20..len).contains(&usize::from(pointer)));
        return;
    }
    let mut recorded = packet.to_vec();
    recorded[10..12].fill(0);
    let sum = !checksum::sum(&recorded[..len]);
    recorded[10..12].copy_from_slice(&sum.to_be_bytes());
    let ours = Ours { egress: US4, ingress: Ipv4Addr::new(10, 0, 1, 1), millis: 0x0102_0304 };
    ip_options::record(&mut recorded, ours, |address| address.octets()[3] & 1 == 1);
    assert_eq!(checksum::sum(&recorded[..len]), 0xffff);
    assert_eq!(recorded[..10], packet[..10]);
    assert_eq!(recorded[12..20], packet[12..20]);
    assert_eq!(recorded[len..], packet[len..]);
}

/// Fragments fit, and make the packet again.
fn cut(packet: &[u8], mtu: u16) {
    const MORE: u16 = 0x2000;
    let Some(all) = fragments(packet, mtu) else { return };
    let len = ipv4::header_len(packet);
    let field = ipv4::fragment_field(packet);
    let (mut data, mut more) = (Vec::<u8>::new(), true);
    for fragment in &all {
        assert!(fragment.len() <= usize::from(mtu) && more);
        assert_eq!(usize::from(ipv4::total_len(fragment)), fragment.len());
        assert_eq!(ipv4::header_len(fragment), len);
        assert_eq!(checksum::sum(&fragment[..len]), 0xffff);
        assert_eq!((&fragment[..2], &fragment[4..6]), (&packet[..2], &packet[4..6]));
        assert_eq!((&fragment[8..10], &fragment[12..20]), (&packet[8..10], &packet[12..20]));
        let this = ipv4::fragment_field(fragment);
        assert_eq!(usize::from(this & 0x1fff), usize::from(field & 0x1fff) + data.len() / 8);
        data.extend(&fragment[len..]);
        more = this & MORE != 0;
    }
    assert_eq!(data, packet[len..usize::from(ipv4::total_len(packet))]);
    assert!(all.is_empty() || more == (field & MORE != 0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_invariants_hold_for_plain_packets() {
        for kind in 0..8 {
            for first in [0x45, 0x46, 0x60] {
                for len in [20, 28, 60, 1500] {
                    let mut packet = vec![kind, 7 ^ u8::from(first == 0x60) << 1, 0x02, 0x40];
                    packet.extend([first, 0, 0, 0, 0, 9, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1]);
                    packet.resize(4 + len, 1);
                    slow_path(&packet);
                }
            }
        }
    }
}
