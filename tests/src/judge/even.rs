//! What no two routers can have in common is evened out: identifications of IPv4 errors, and recorded times. All that
//! is compared is compared after this.

use crate::frame;
use crate::judge::received::{header_len, walk};

/// A frame (without tags) without what differs always. `is_own`: the router made it.
///
/// Nothing is evened out in a packet whose checksum is wrong: it stays as it is, and so differs.
pub fn even(mut frame: Vec<u8>, is_own: bool) -> Vec<u8> {
    let Some(packet) = frame.get_mut(14..) else { return frame };
    if packet.first().is_none_or(|b| b >> 4 != 4) || packet.len() < 20 {
        return frame;
    }
    let header = header_len(packet);
    if header < 20 || header > packet.len() || frame::checksum(&packet[..header]) != 0 {
        return frame;
    }
    if is_own {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    if header > 20 && clear_times(&mut packet[20..header]) {
        packet[10..12].fill(0);
    }
    frame
}

/// Clears the time that a router wrote last into each timestamp option: the four bytes before where its pointer points.
/// Whether there is such an option.
fn clear_times(all: &mut [u8]) -> bool {
    let stamps: Vec<_> =
        walk(all).0.into_iter().filter(|option| option.kind == 68 && option.len >= 4).collect();
    for option in &stamps {
        let end = usize::from(all[option.at + 2]).saturating_sub(1).min(option.len);
        if end >= 8 {
            all[option.at + end - 4..option.at + end].fill(0);
        }
    }
    !stamps.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::received::options;

    fn in_frame(packet: &[u8]) -> Vec<u8> {
        frame::build([2; 6], [4; 6], &[], frame::IPV4, packet)
    }

    #[test]
    fn only_what_differs_always_is_evened_out() {
        let (a, b) = ("192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap());
        let packet = frame::packet(a, b, 17, 63, &[1, 2, 3, 4]);
        assert_eq!(even(in_frame(&packet), false), in_frame(&packet), "a forwarded packet stays as it is");
        let mut wrong = packet.clone();
        wrong[10] ^= 1;
        assert_eq!(even(in_frame(&wrong), true), in_frame(&wrong), "a wrong checksum shows");
        let error = |id: u16, ttl: u8, quoted: u8| {
            let mut error = frame::packet(b, a, 1, ttl, &[11, 0, 0, 0, quoted]);
            error[4..6].copy_from_slice(&id.to_be_bytes());
            frame::renew_checksum(&mut error);
            even(in_frame(&error), true)
        };
        assert_eq!(error(1, 64, 7), error(2, 64, 7));
        assert_ne!(error(1, 64, 7), error(1, 63, 7));
        assert_ne!(error(1, 64, 7), error(1, 64, 8));
    }

    #[test]
    fn only_the_time_written_last_is_evened_out() {
        let (a, b) = ("192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap());
        let stamped = |times: [u8; 8], pointer: u8| {
            let mut packet = frame::packet(a, b, 17, 63, &[]);
            packet.extend([&[68, 12, pointer, 0][..], &times].concat());
            packet[0] = 0x48;
            packet[3] = 32;
            frame::renew_checksum(&mut packet);
            even(in_frame(&packet), false)
        };
        assert_eq!(stamped([1, 1, 1, 1, 2, 2, 2, 2], 13), stamped([1, 1, 1, 1, 3, 3, 3, 3], 13));
        assert_ne!(stamped([1, 1, 1, 1, 2, 2, 2, 2], 13), stamped([4, 1, 1, 1, 2, 2, 2, 2], 13));
        assert_ne!(stamped([1, 1, 1, 1, 2, 2, 2, 2], 9), stamped([1, 1, 1, 1, 3, 3, 3, 3], 9));
        assert_ne!(stamped([1, 1, 1, 1, 2, 2, 2, 2], 5), stamped([2, 1, 1, 1, 2, 2, 2, 2], 5));
        assert_eq!(options(&stamped([0; 8], 5)[14..])[..3], [68, 12, 5], "an untouched option stays");
    }
}
