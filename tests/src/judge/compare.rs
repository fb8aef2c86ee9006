//! What may differ between the two routers, and why. Everything else must be the same, byte for byte.
//!
//! | what | Linux | turnpike | why either may |
//! |---|---|---|---|
//! | identification of an IPv4 error | one of its own counters | another | any that is unique will do (RFC 6864, section 4.1) |
//! | quoted header with IPv4 options | as far as Linux had changed them | as received | "the Internet header ... of the original datagram" (RFC 792) |
//! | options of an IPv4 error | echoes recorded routes and times | none | only source routes are reversed (RFC 1812, section 4.3.2.6), and those are not followed |
//! | errors about IPv4 options whose echo has no room | none | sent | as above |
//! | errors about malformed options beside a source route | along the route, reversed | straight to the source | RFC 1812, section 4.3.2.6 (SHOULD), and RFC 7126, section 4.3 |
//! | unknown IPv6 options in a unicast within a link-layer broadcast | an error | none | RFC 4443, section 2.4 (e), allows it and does not ask for it |
//! | recorded times | its clock | ours | they were a moment apart |
//! | IPv4 from or to 0/8 and 240/4, IPv6 to `::`, `::1` and `::ffff:0:0/96`, IPv4 from or to 169.254/16 | forwarded | dropped | RFC 1812, section 5.3.7; RFC 6890; RFC 3927, section 7 |
//! | to the network address of a connected prefix | forwarded | dropped | RFC 1812, section 5.3.5.3: an obsolete form of directed broadcast |
//! | IPv6 from `::`, back over the link it came by | forwarded | dropped | RFC 4291, section 2.5.2 |
//! | times asked of 0/8 and multicast addresses | its own | passed on | RFC 791, section 3.1 |
//! | destinations that are martian | an error for some | none | RFC 1812, section 4.3.2.7 |
//! | bytes behind the end of IPv4 options | cleared | kept | RFC 791, section 3.1, does not say |
//! | options with security labels (CIPSO, CALIPSO) | checked against labels | passed on | turnpike knows no labels |
//! | hop-by-hop options in a packet without payload | a jumbogram | dropped | RFC 2675 is for links of more than 65,575 bytes |
//! | how many errors are sent | its limits | ours | RFC 1812, section 4.3.2.8: any |
//!
//! The first seven are evened out here. The generator makes no frames for the others, and for the limits both routers
//! are told to have none.

use crate::frame;

/// A frame (without tags) with what may differ made equal: both routers' frames are compared after this.
///
/// Nothing is evened out in a packet whose checksum is wrong: it stays as it is, and so differs.
pub fn even(mut frame: Vec<u8>, is_own: bool) -> Vec<u8> {
    let Some(packet) = frame.get_mut(14..) else { return frame };
    if packet.first().is_none_or(|b| b >> 4 != 4) || packet.len() < 20 {
        return frame;
    }
    let header = header_len(packet);
    if header < 20 || header > packet.len() || sum(&packet[..header]) != 0xffff {
        return frame;
    }
    if is_own {
        let evened = even_error(packet, header);
        frame.truncate(14);
        frame.extend(evened);
    } else if header > 20 {
        clear_times(&mut packet[20..header]);
        packet[10..12].fill(0);
    }
    frame
}

/// An ICMP error without its identification and options; if it quotes IPv4 options, they and the quoted checksum are
/// cleared, and the quote is as long as it can be with the longest options of its own.
fn even_error(packet: &[u8], header: usize) -> Vec<u8> {
    /// Of the 576 bytes of an error: the longest header, and that of ICMP.
    const LEAST_QUOTE: usize = 576 - 60 - 8;
    let (mut own, mut message) = (packet[..header].to_vec(), packet[header..].to_vec());
    own[4..6].fill(0);
    own[10..12].fill(0);
    if sum(&message) != 0xffff {
        return packet.to_vec();
    }
    let quoted = message.get(8..).filter(|quoted| quoted.len() >= 20).map_or(20, header_len);
    if quoted > 20 && message.len() >= 8 + quoted {
        own.truncate(20);
        own[0] = 0x45;
        own[2..4].fill(0);
        message[2..4].fill(0);
        message[8 + 10..8 + 12].fill(0);
        message[8 + 20..8 + quoted].fill(0);
        message.truncate(8 + LEAST_QUOTE);
    }
    [own, message].concat()
}

/// Whether turnpike may have sent an error for this frame where Linux sent nothing: there are options that Linux would
/// echo, and gives up when their echo has no room.
pub fn may_lack_echo(frame: &[u8]) -> bool {
    let Some(packet) = frame::ethernet(frame).map(|e| e.payload).filter(|p| p.len() > 20 && p[0] >> 4 == 4)
    else {
        return false;
    };
    let options = packet.get(20..header_len(packet)).unwrap_or_default();
    options.contains(&7) || options.contains(&68)
}

/// Whether Linux may have sent an error for this frame, and turnpike nothing: it came in a link-layer broadcast.
pub fn is_group(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 1 == 1)
}

/// Whether the errors about this frame may go different ways: it has a source route.
pub fn has_source_route(frame: &[u8]) -> bool {
    let packet = frame::ethernet(frame).map(|e| e.payload).filter(|p| p.len() > 20 && p[0] >> 4 == 4);
    let options = packet.and_then(|p| p.get(20..header_len(p))).unwrap_or_default();
    options.contains(&131) || options.contains(&137)
}

/// Clears the time that a router wrote last into each timestamp option: the four bytes before where its pointer points.
fn clear_times(options: &mut [u8]) {
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            0 => return,
            1 => at += 1,
            kind => {
                let Some(len) = options.get(at + 1).map(|len| usize::from(*len)) else { return };
                if len < 2 || at + len > options.len() {
                    return;
                }
                if kind == 68 && len >= 4 {
                    let end = usize::from(options[at + 2]).saturating_sub(1).min(len);
                    options[at + end.saturating_sub(4).max(4).min(len)..at + end.max(4)].fill(0);
                }
                at += len;
            }
        }
    }
}

fn header_len(packet: &[u8]) -> usize {
    usize::from(packet[0] & 0x0f) * 4
}

/// One's complement sum (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    !crate::frame::checksum(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_frame(packet: &[u8]) -> Vec<u8> {
        frame::build([2; 6], [4; 6], &[], frame::IPV4, packet)
    }

    #[test]
    fn only_what_may_differ_is_evened_out() {
        let (a, b) = ("192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap());
        let packet = frame::packet(a, b, 17, 63, &[1, 2, 3, 4]);
        assert_eq!(even(in_frame(&packet), false), in_frame(&packet), "a forwarded packet stays as it is");
        let mut wrong = packet.clone();
        wrong[10] ^= 1;
        assert_eq!(even(in_frame(&wrong), true), in_frame(&wrong), "a wrong checksum shows");
        let mut message = [&[11, 0, 0, 0, 0, 0, 0, 0][..], &packet].concat();
        let right = frame::checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&right);
        let error = |id: u16, ttl: u8| {
            let mut error = frame::packet(b, a, 1, ttl, &message);
            error[4..6].copy_from_slice(&id.to_be_bytes());
            frame::renew_checksum(&mut error);
            even(in_frame(&error), true)
        };
        assert_eq!(error(1, 64), error(2, 64));
        assert_ne!(error(1, 64), error(1, 63));
    }
}
