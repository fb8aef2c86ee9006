//! IPv4 fragmentation (RFC 791, section 3.2; RFC 1812, section 4.2.2.7). IPv6 is never fragmented on its way.

use dataplane::header::{checksum, ipv4, options};

/// Don't fragment; more fragments; and the offset in units of 8 bytes.
const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// Options with this bit are in every fragment, others in the first only.
const COPIED: u8 = 0x80;

/// Cuts a packet (from its checked header to its end) into fragments of at most `mtu` bytes. `None`: there is no room
/// for data, or the last fragment would lie beyond what the offset can say.
///
/// Each keeps the length of the header: options that are not to be copied become padding, as in other routers, so that
/// offsets do not depend on them.
pub fn fragments(packet: &[u8], mtu: u16) -> Option<Vec<Vec<u8>>> {
    let header_len = ipv4::header_len(packet);
    let packet = packet.get(..usize::from(ipv4::total_len(packet)))?;
    let (header, data) = (packet.get(..header_len)?, packet.get(header_len..)?);
    let room = usize::from(mtu).checked_sub(header_len)?;
    let field = ipv4::fragment_field(header);
    let first = field & OFFSET;
    if room < 8 || usize::from(first) + data.len().div_ceil(8) > usize::from(OFFSET) + 1 {
        return None;
    }
    let mut header = header.to_vec();
    let mut all = Vec::with_capacity(data.len() / (room & !7) + 1);
    let mut at = 0;
    while at < data.len() {
        // All but the last are multiples of 8 bytes.
        let last = data.len() - at <= room;
        let end = if last { data.len() } else { at + (room & !7) };
        let piece = &data[at..end];
        let more = if last { field & MORE } else { MORE };
        let offset = first + (at / 8) as u16;
        header[2..4].copy_from_slice(&((header_len + piece.len()) as u16).to_be_bytes());
        header[6..8].copy_from_slice(&(more | offset).to_be_bytes());
        header[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].fill(0);
        let sum = !checksum::sum(&header);
        header[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        all.push([&header, piece].concat());
        if offset == 0 {
            drop_uncopied(&mut header[ipv4::MIN_HEADER_LEN..]);
        }
        at = end;
    }
    Some(all)
}

/// Makes padding of the options that only the first fragment has.
fn drop_uncopied(all: &mut [u8]) {
    let uncopied: Vec<_> =
        options::walk(all).map_while(Result::ok).filter(|option| option.kind & COPIED == 0).collect();
    for option in uncopied {
        all[option.at..option.at + option.len].fill(options::NOP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(all_options: &[u8], field: u16, data: &[u8]) -> Vec<u8> {
        let header_len = 20 + all_options.len();
        let mut packet = vec![0x40 | (header_len / 4) as u8, 0x2e, 0, 0, 0xab, 0xcd, 0, 0, 64, 17, 0, 0];
        packet[2..4].copy_from_slice(&((header_len + data.len()) as u16).to_be_bytes());
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        packet.extend([192, 0, 2, 1, 198, 51, 100, 1]);
        packet.extend(all_options);
        let sum = !checksum::sum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(data);
        packet
    }

    /// What a receiver makes of fragments: the data, and whether more follow.
    fn reassemble(fragments: &[Vec<u8>], first: u16) -> (Vec<u8>, bool) {
        let mut data = Vec::new();
        let mut more = true;
        for fragment in fragments {
            let header_len = ipv4::header_len(fragment);
            assert_eq!(checksum::sum(&fragment[..header_len]), 0xffff);
            assert_eq!(usize::from(ipv4::total_len(fragment)), fragment.len());
            assert_eq!(fragment[4..6], [0xab, 0xcd]);
            assert!(more, "nothing comes after the last one");
            let field = ipv4::fragment_field(fragment);
            assert_eq!(usize::from((field & OFFSET) - first) * 8, data.len());
            data.extend(&fragment[header_len..]);
            more = field & MORE != 0;
        }
        (data, more)
    }

    proptest! {
        #[test]
        fn they_fit_and_make_the_packet_again(
            data in prop::collection::vec(any::<u8>(), 1..3000),
            words in 0usize..=10,
            mtu in 68u16..2000,
            first in 0u16..4000,
            more: bool,
        ) {
            let field = first | if more { MORE } else { 0 };
            let packet = packet(&vec![options::NOP; words * 4], field, &data);
            let fragments = fragments(&packet, mtu).unwrap();
            prop_assert!(fragments.iter().all(|f| f.len() <= usize::from(mtu)));
            let room = usize::from(mtu) - ipv4::header_len(&packet);
            let fewest = 1 + data.len().saturating_sub(room).div_ceil(room & !7);
            prop_assert_eq!(fragments.len(), fewest, "no more than are needed");
            prop_assert_eq!(reassemble(&fragments, first), (data, more));
        }
    }

    #[test]
    fn options_are_copied_by_their_flag() {
        // Record route (not copied), a security option (copied), an unknown one (not copied).
        let all = [7, 7, 4, 0, 0, 0, 0, 130, 4, 9, 9, 1, 0x1e, 4, 5, 5];
        let fragments = super::fragments(&packet(&all, 0, &[1; 100]), 76).unwrap();
        assert_eq!(fragments.len(), 3);
        assert_eq!(fragments[0][20..36], all);
        let later = [1, 1, 1, 1, 1, 1, 1, 130, 4, 9, 9, 1, 1, 1, 1, 1];
        assert_eq!(fragments[1][20..36], later);
        assert_eq!(fragments[2][20..36], later);
        // A later fragment has had its options sorted out by whoever made it.
        let again = super::fragments(&packet(&all, 5, &[1; 100]), 76).unwrap();
        assert!(again.iter().all(|f| f[20..36] == all));
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        assert_eq!(fragments(&packet(&[1; 40], 0, &[1; 100]), 67), None, "no room for 8 bytes");
        assert_eq!(fragments(&packet(&[], OFFSET, &[1; 100]), 68), None, "beyond 65,535");
        assert_eq!(fragments(&packet(&[], 0, &[1; 100])[..50], 68), None, "cut short");
    }
}
