//! IPv6 hop-by-hop options (RFC 8200, sections 4.2 and 4.3): which packets go on, and which end here.

use dataplane::header::ipv6;

const PAD1: u8 = 0;
const PADN: u8 = 1;
const ROUTER_ALERT: u8 = 5;
const JUMBO: u8 = 0xc2;
/// The most options that are looked at (RFC 8504, section 5.3).
const MAX_OPTIONS: usize = 8;
/// The most padding in a row: it aligns to 8 bytes, so more is not needed (RFC 4942, section 2.1.9.5).
const MAX_PADDING: usize = 7;

/// Why a packet does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The header is malformed, or an option asks for it: silently.
    Silent,
    /// The byte at this place of the packet is wrong: a parameter problem of code 0.
    Wrong(u32),
    /// The option at this place of the packet must be known, and is not: a parameter problem of code 2.
    Unknown(u32),
}

/// Checks the hop-by-hop options of a packet (from its IP header on, with nothing behind its end) that has some.
///
/// # Errors
/// Why it ends here.
pub fn check(packet: &[u8]) -> Result<(), Refusal> {
    let blocks = packet.get(ipv6::HEADER_LEN + 1).ok_or(Refusal::Silent)?;
    let end = ipv6::HEADER_LEN + (usize::from(*blocks) + 1) * 8;
    let header = packet.get(..end).ok_or(Refusal::Silent)?;
    let mut at = ipv6::HEADER_LEN + 2;
    let (mut padding, mut options) = (0, 0);
    while at < end {
        if header[at] == PAD1 {
            padding += 1;
            at += 1;
        } else {
            let len = header.get(at + 1).map_or(usize::MAX, |len| usize::from(*len) + 2);
            let option = header[at..].get(..len).ok_or(Refusal::Silent)?;
            if option[0] == PADN {
                padding += len;
                if option[2..].iter().any(|byte| *byte != 0) {
                    return Err(Refusal::Silent);
                }
            } else {
                padding = 0;
                options += 1;
                if options > MAX_OPTIONS {
                    return Err(Refusal::Silent);
                }
                one(packet, option, at)?;
            }
            at += len;
        }
        if padding > MAX_PADDING {
            return Err(Refusal::Silent);
        }
    }
    Ok(())
}

fn one(packet: &[u8], option: &[u8], at: usize) -> Result<(), Refusal> {
    let place = at as u32;
    match option[0] {
        ROUTER_ALERT if option.len() == 4 => Ok(()),
        ROUTER_ALERT => Err(Refusal::Silent),
        // Jumbograms (RFC 2675, section 3) are longer than any frame here: what is left to say is which are no such.
        JUMBO if option.len() != 6 || at % 4 != 2 => Err(Refusal::Silent),
        JUMBO if option[2..4] == [0, 0] => Err(Refusal::Wrong(place + 2)),
        JUMBO if ipv6::payload_len(packet) != 0 => Err(Refusal::Wrong(place)),
        JUMBO => Err(Refusal::Silent),
        // The two highest bits say what becomes of a packet with an unknown option.
        unknown => match unknown >> 6 {
            0 => Ok(()),
            1 => Err(Refusal::Silent),
            3 if ipv6::is_multicast(ipv6::destination(packet)) => Err(Refusal::Silent),
            _ => Err(Refusal::Unknown(place)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(options: &[u8], payload_len: u16) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(payload_len.to_be_bytes());
        packet.extend([0, 64]);
        packet.extend([0xfd; 16]);
        packet.extend([0x20; 16]);
        packet.extend([17, ((options.len() + 2) / 8 - 1) as u8]);
        packet.extend(options);
        packet.extend([0; 8]);
        packet
    }

    #[test]
    fn options_end_or_go_on_as_their_type_says() {
        for (options, expected) in [
            (&[1, 4, 0, 0, 0, 0][..], Ok(())),
            (&[0, 0, 0, 0, 0, 0], Ok(())),
            (&[5, 2, 0, 0, 1, 0], Ok(())),
            (&[5, 3, 0, 0, 0, 0], Err(Refusal::Silent)),
            (&[0x1e, 4, 9, 9, 9, 9], Ok(())),
            (&[0x3e, 4, 9, 9, 9, 9], Ok(())),
            (&[0x5e, 4, 9, 9, 9, 9], Err(Refusal::Silent)),
            (&[0x9e, 4, 9, 9, 9, 9], Err(Refusal::Unknown(42))),
            (&[0xde, 4, 9, 9, 9, 9], Err(Refusal::Unknown(42))),
            (&[0, 0, 0xde, 2, 9, 9], Err(Refusal::Unknown(44))),
            (&[1, 4, 0, 0, 1, 0], Err(Refusal::Silent)),
            (&[0x1e, 5, 9, 9, 9, 9], Err(Refusal::Silent)),
            (&[0, 0, 0, 0, 0, 0x1e], Err(Refusal::Silent)),
            (&[0xc2, 4, 0, 0, 0x10, 0], Err(Refusal::Wrong(44))),
            (&[0xc2, 4, 0, 1, 0, 0], Err(Refusal::Wrong(42))),
            (&[0, 0xc2, 3, 1, 0, 0], Err(Refusal::Silent)),
            (&[0; 14], Err(Refusal::Silent)),
            (&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Err(Refusal::Silent)),
        ] {
            assert_eq!(check(&packet(options, 16)), expected, "{options:?}");
        }
        assert_eq!(check(&packet(&[0xc2, 4, 0, 1, 0, 0], 0)), Err(Refusal::Silent));
        let many: Vec<u8> = [[0x1e, 0]; 9].concat();
        assert_eq!(check(&packet(&[&many[..], &[1, 2, 0, 0]].concat(), 24)), Err(Refusal::Silent));
        let mut multicast = packet(&[0xde, 4, 9, 9, 9, 9], 16);
        multicast[24] = 0xff;
        assert_eq!(check(&multicast), Err(Refusal::Silent));
    }

    proptest! {
        #[test]
        fn any_bytes_end_somehow(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes);
        }
    }
}
