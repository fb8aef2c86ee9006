//! The few blocks of pcapng that a capture needs (draft-ietf-opsawg-pcapng), little endian, times in nanoseconds.

/// Ethernet.
const LINKTYPE: u16 = 1;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Received.
    Inbound,
    /// Sent.
    Outbound,
}

/// A frame for the file.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Number of its interface block.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Its bytes, as far as they were kept.
    pub bytes: &'a [u8],
    /// Its whole length.
    pub len: u32,
    /// Which way it went.
    pub way: Way,
    /// What there is to say of it; nothing if empty.
    pub comment: &'a str,
}

/// What a capture counted on an interface.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    /// When it began, in nanoseconds since 1970.
    pub started: u64,
    /// When it ended.
    pub ended: u64,
    /// Frames that matched.
    pub matched: u64,
    /// Those of them that are not in the file.
    pub missed: u64,
}

/// Adds a section header, which begins a file.
pub fn section(out: &mut Vec<u8>, application: &str, comment: &str) {
    block(out, 0x0a0d_0d0a, |out| {
        out.extend(0x1a2b_3c4d_u32.to_le_bytes());
        // Version 1.0; the section's length is not known.
        out.extend([1, 0, 0, 0]);
        out.extend(u64::MAX.to_le_bytes());
        if !comment.is_empty() {
            option(out, 1, comment.as_bytes());
        }
        option(out, 4, application.as_bytes());
        end_options(out);
    });
}

/// Adds an interface description. Interfaces are numbered in their order.
pub fn interface(out: &mut Vec<u8>, name: &str, snaplen: u32) {
    block(out, 1, |out| {
        out.extend(LINKTYPE.to_le_bytes());
        out.extend([0, 0]);
        out.extend(snaplen.to_le_bytes());
        option(out, 2, name.as_bytes());
        // if_tsresol: 10⁻⁹ s.
        option(out, 9, &[9]);
        end_options(out);
    });
}

/// Adds a frame.
pub fn frame(out: &mut Vec<u8>, frame: &Frame) {
    block(out, 6, |out| {
        out.extend(frame.interface.to_le_bytes());
        time(out, frame.time);
        out.extend((frame.bytes.len() as u32).to_le_bytes());
        out.extend(frame.len.to_le_bytes());
        padded(out, frame.bytes);
        let flags: u32 = match frame.way {
            Way::Inbound => 1,
            Way::Outbound => 2,
        };
        option(out, 2, &flags.to_le_bytes());
        if !frame.comment.is_empty() {
            option(out, 1, frame.comment.as_bytes());
        }
        end_options(out);
    });
}

/// Adds the statistics of an interface.
pub fn statistics(out: &mut Vec<u8>, interface: u32, counted: &Statistics) {
    block(out, 5, |out| {
        out.extend(interface.to_le_bytes());
        time(out, counted.ended);
        let stamp = |out: &mut Vec<u8>, code, at| {
            let mut bytes = Vec::with_capacity(8);
            time(&mut bytes, at);
            option(out, code, &bytes);
        };
        stamp(out, 2, counted.started);
        stamp(out, 3, counted.ended);
        // isb_ifdrop, isb_filteraccept, isb_usrdeliv.
        option(out, 5, &counted.missed.to_le_bytes());
        option(out, 6, &counted.matched.to_le_bytes());
        option(out, 8, &(counted.matched - counted.missed).to_le_bytes());
        end_options(out);
    });
}

fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    let len = (out.len() + 4 - start) as u32;
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    out.extend(len.to_le_bytes());
}

/// A time is written with its upper half first.
fn time(out: &mut Vec<u8>, nanoseconds: u64) {
    out.extend(((nanoseconds >> 32) as u32).to_le_bytes());
    out.extend((nanoseconds as u32).to_le_bytes());
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    padded(out, value);
}

fn end_options(out: &mut Vec<u8>) {
    out.extend([0; 4]);
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The types and bodies of a file's blocks.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let mut blocks = Vec::new();
        while !bytes.is_empty() {
            let len = word(&bytes[4..]) as usize;
            assert_eq!((len % 4, word(&bytes[len - 4..]) as usize), (0, len));
            blocks.push((word(bytes), bytes[8..len - 4].to_vec()));
            bytes = &bytes[len..];
        }
        blocks
    }

    #[test]
    fn blocks_are_whole_and_padded() {
        let mut out = Vec::new();
        section(&mut out, "turnpike", "match: tcp");
        interface(&mut out, "wan0", 96);
        let (bytes, comment) = ([1, 2, 3, 4, 5], "dropped: unknown_tag");
        let one =
            Frame { interface: 0, time: 5 << 32 | 7, bytes: &bytes, len: 60, way: Way::Inbound, comment };
        frame(&mut out, &one);
        statistics(&mut out, 0, &Statistics { started: 1, ended: 2, matched: 9, missed: 2 });
        let blocks = blocks(&out);
        assert_eq!(blocks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [0x0a0d_0d0a, 1, 6, 5]);
        let packet = &blocks[2].1;
        assert_eq!(packet[..20], [0, 0, 0, 0, 5, 0, 0, 0, 7, 0, 0, 0, 5, 0, 0, 0, 60, 0, 0, 0]);
        assert_eq!(packet[20..36], [1, 2, 3, 4, 5, 0, 0, 0, 2, 0, 4, 0, 1, 0, 0, 0]);
        assert_eq!(packet[36..40], [1, 0, 20, 0]);
        assert_eq!(&packet[40..60], comment.as_bytes());
        assert_eq!(packet[60..], [0, 0, 0, 0]);
    }
}
