//! IPv4 options on their way through a router (RFC 791, section 3.1; RFC 1812, section 5.2.4): checked, and what has to
//! be recorded is.

use std::net::Ipv4Addr;

use dataplane::header::options::{
    LOOSE_SOURCE_ROUTE, RECORD_ROUTE, ROUTER_ALERT, STRICT_SOURCE_ROUTE, TIMESTAMP, walk,
};
use dataplane::header::{checksum, ipv4};

/// Flags of the timestamp option: times alone, times with addresses, times at addresses given by the sender.
const ADDRESSES: u8 = 1;
const PRESPECIFIED: u8 = 3;

/// What a checked header asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// To go by a route that its sender gave.
    pub source_route: bool,
}

/// Checks the options of a packet with a checked header.
///
/// # Errors
/// Which byte of the header is wrong: the pointer of a parameter problem (RFC 792).
pub fn check(packet: &[u8]) -> Result<Checked, u8> {
    let all = options_of(packet);
    let mut checked = Checked::default();
    let (mut recorded, mut stamped) = (false, false);
    for option in walk(all) {
        let pointer = |at: usize| (ipv4::MIN_HEADER_LEN + at) as u8;
        let option = option.map_err(|malformed| pointer(malformed.0))?;
        let wrong = |byte: usize| Err(pointer(option.at + byte));
        let bytes = &all[option.at..option.at + option.len];
        let next = bytes.get(2).map_or(0, |next| usize::from(*next));
        match option.kind {
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => match option.len {
                ..3 => return wrong(1),
                _ if next < 4 => return wrong(2),
                _ if checked.source_route => return wrong(0),
                _ => checked.source_route = true,
            },
            RECORD_ROUTE => match option.len {
                _ if recorded => return wrong(0),
                ..3 => return wrong(1),
                len if next < 4 || (next <= len && next + 3 > len) => return wrong(2),
                _ => recorded = true,
            },
            TIMESTAMP => match option.len {
                _ if stamped => return wrong(0),
                ..4 => return wrong(1),
                len if next < 5 || (next <= len && next + entry_len(bytes[3]) > len + 1) => return wrong(2),
                len if next > len && bytes[3] & 0xf != PRESPECIFIED && bytes[3] >> 4 == 15 => {
                    return wrong(3);
                }
                _ => stamped = true,
            },
            ROUTER_ALERT if option.len < 4 => return wrong(1),
            _ => {}
        }
    }
    Ok(checked)
}

/// Bytes that one record of a timestamp option takes, by its flags.
fn entry_len(flags: u8) -> usize {
    if matches!(flags & 0xf, ADDRESSES | PRESPECIFIED) { 8 } else { 4 }
}

/// What is recorded of us.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// Our address on the link that the packet leaves by: for recorded routes (RFC 1812, section 4.2.2.2).
    pub egress: Ipv4Addr,
    /// Our address on the link that it came in on: for timestamps. RFC 791 does not say which; Linux takes this one.
    pub ingress: Ipv4Addr,
    /// Milliseconds since midnight UTC.
    pub millis: u32,
}

/// Records us where the checked options of a packet ask for it, and mends the header's checksum. `is_ours`: whether an
/// address is.
pub fn record(packet: &mut [u8], ours: Ours, is_ours: impl Fn(Ipv4Addr) -> bool) {
    let header_len = ipv4::header_len(packet).min(packet.len());
    let found: Vec<_> = walk(options_of(packet)).map_while(Result::ok).collect();
    let mut changed = false;
    for option in found {
        let start = ipv4::MIN_HEADER_LEN + option.at;
        let Some(bytes) = packet.get_mut(start..start + option.len) else { return };
        changed |= match option.kind {
            RECORD_ROUTE => put(bytes, &ours.egress.octets()),
            TIMESTAMP => stamp(bytes, ours, &is_ours),
            _ => false,
        };
    }
    if changed {
        packet[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].fill(0);
        let sum = !checksum::sum(&packet[..header_len]);
        packet[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

fn stamp(option: &mut [u8], ours: Ours, is_ours: &impl Fn(Ipv4Addr) -> bool) -> bool {
    let [_, len, next, flags, ..] = *option else { return false };
    let flag = flags & 0xf;
    if next > len {
        // Full: routers that could not record are counted, but for those that were not asked.
        if flag == PRESPECIFIED {
            return false;
        }
        option[3] = flags.saturating_add(0x10);
        return true;
    }
    let time = ours.millis.to_be_bytes();
    match flag {
        0 => put(option, &time),
        ADDRESSES => put(option, &[ours.ingress.octets(), time].concat()),
        PRESPECIFIED => {
            let at = usize::from(next).saturating_sub(1);
            let Some(wanted) = option.get(at..).and_then(<[u8]>::first_chunk::<4>).copied() else {
                return false;
            };
            is_ours(wanted.into()) && put(option, &[wanted, time].concat())
        }
        _ => false,
    }
}

/// Puts `bytes` where the option's pointer (counted from 1) says, and moves it on. Whether there was room.
fn put(option: &mut [u8], bytes: &[u8]) -> bool {
    let at = option.get(2).map_or(0, |next| usize::from(*next)).saturating_sub(1);
    let Some(room) = option.get_mut(at..at + bytes.len()) else { return false };
    room.copy_from_slice(bytes);
    option[2] = option[2].wrapping_add(bytes.len() as u8);
    true
}

fn options_of(packet: &[u8]) -> &[u8] {
    packet.get(ipv4::MIN_HEADER_LEN..ipv4::header_len(packet)).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EGRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const INGRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
    const US: Ours = Ours { egress: EGRESS, ingress: INGRESS, millis: 0x0102_0304 };

    fn packet(all: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x40 | ((20 + all.len()) / 4) as u8, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0];
        packet[3] = 20 + all.len() as u8;
        packet.extend([192, 0, 2, 1, 198, 51, 100, 1]);
        packet.extend(all);
        let sum = !checksum::sum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    #[test]
    fn the_first_wrong_byte_is_named() {
        let ok = Checked::default();
        let routed = Checked { source_route: true };
        for (all, expected) in [
            (&[1, 1, 1, 0][..], Ok(ok)),
            (&[7, 3, 4, 0], Ok(ok)),
            (&[7, 7, 4, 0, 0, 0, 0, 0], Ok(ok)),
            (&[7, 7, 8, 0, 0, 0, 0, 0], Ok(ok)),
            (&[7, 2, 1, 1], Err(21)),
            (&[7, 7, 3, 0, 0, 0, 0, 0], Err(22)),
            (&[7, 7, 5, 0, 0, 0, 0, 0], Err(22)),
            (&[7, 3, 4, 7, 3, 4, 0, 0], Err(23)),
            (&[1, 9, 1, 0], Err(21)),
            (&[9, 5, 0, 0], Err(20)),
            (&[1, 1, 1, 9], Err(23)),
            (&[68, 8, 5, 0, 0, 0, 0, 0], Ok(ok)),
            (&[68, 3, 5, 0], Err(21)),
            (&[68, 8, 4, 0, 0, 0, 0, 0], Err(22)),
            (&[68, 8, 6, 0, 0, 0, 0, 0], Err(22)),
            (&[68, 8, 5, 1, 0, 0, 0, 0], Err(22)),
            (&[68, 8, 9, 0xf0, 0, 0, 0, 0], Err(23)),
            (&[68, 8, 9, 0xf3, 0, 0, 0, 0], Ok(ok)),
            (&[131, 3, 4, 0], Ok(routed)),
            (&[131, 2, 1, 1], Err(21)),
            (&[137, 3, 3, 0], Err(22)),
            (&[131, 3, 4, 137, 3, 4, 0, 0], Err(23)),
            (&[148, 4, 0, 0], Ok(ok)),
            (&[148, 2, 1, 1], Err(21)),
        ] {
            assert_eq!(check(&packet(all)), expected, "{all:?}");
        }
    }

    #[test]
    fn our_address_and_the_time_are_recorded() {
        let after = |all: &[u8]| {
            let mut packet = packet(all);
            record(&mut packet, US, |address| address == EGRESS);
            assert_eq!(checksum::sum(&packet), 0xffff, "{all:?}");
            packet[20..].to_vec()
        };
        assert_eq!(after(&[7, 7, 4, 0, 0, 0, 0, 0]), [7, 7, 8, 10, 0, 0, 1, 0]);
        assert_eq!(after(&[7, 7, 8, 9, 9, 9, 9, 0]), [7, 7, 8, 9, 9, 9, 9, 0], "full");
        assert_eq!(after(&[68, 8, 5, 0, 0, 0, 0, 0]), [68, 8, 9, 0, 1, 2, 3, 4]);
        assert_eq!(after(&[68, 8, 9, 0x20, 9, 9, 9, 9]), [68, 8, 9, 0x30, 9, 9, 9, 9], "counted");
        assert_eq!(after(&[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0]), [68, 12, 13, 1, 10, 0, 1, 1, 1, 2, 3, 4]);
        assert_eq!(after(&[68, 12, 5, 3, 10, 0, 0, 1, 0, 0, 0, 0]), [68, 12, 13, 3, 10, 0, 0, 1, 1, 2, 3, 4]);
        let others = [68, 12, 5, 3, 10, 0, 0, 2, 0, 0, 0, 0];
        assert_eq!(after(&others), others, "another router's turn");
        assert_eq!(after(&[130, 4, 7, 7]), [130, 4, 7, 7]);
    }

    proptest! {
        #[test]
        fn whatever_passes_the_check_is_recorded_with_a_right_checksum(
            mut all in prop::collection::vec(any::<u8>(), 0..=10).prop_map(|w| w.repeat(4)),
            kind in prop::sample::select(vec![7u8, 68, 131]),
        ) {
            if let Some(first) = all.first_mut() {
                *first = kind;
            }
            let mut packet = packet(&all);
            let before = packet.clone();
            if check(&packet).is_ok() {
                record(&mut packet, US, |_| true);
                prop_assert_eq!(checksum::sum(&packet), 0xffff);
                prop_assert_eq!(&packet[12..20], &before[12..20]);
            }
        }
    }
}
