//! Frames for the virtual ports, and the capture files that they replay.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use dataplane::header::checksum;
use dataplane::sub_interface::Tags;

/// An IP packet's addresses.
#[derive(Clone, Copy, Debug)]
pub enum Addresses {
    V4 { source: u32, destination: u32 },
    V6 { source: u128, destination: u128 },
}

/// A UDP packet in an Ethernet frame without FCS. `size`: bytes that the frame would have without tags; the tags come
/// on top. A packet that does not fit is as short as it can be.
pub fn frame(
    to: [u8; 6],
    from: [u8; 6],
    tags: Tags,
    addresses: Addresses,
    ports: u32,
    size: usize,
) -> Vec<u8> {
    let mut frame = [to, from].concat();
    let (one, two) = match tags {
        Tags::Untagged => (None, None),
        Tags::One(tag) => (Some(tag), None),
        Tags::Two(outer, inner) => (Some(outer), Some(inner)),
    };
    for tag in [one, two].into_iter().flatten() {
        frame.extend(tag.tpid.to_be_bytes());
        frame.extend(tag.vid.to_be_bytes());
    }
    let l3_len = size.saturating_sub(14);
    let udp_len = match addresses {
        Addresses::V4 { source, destination } => {
            let l3_len = l3_len.max(28);
            frame.extend([0x08, 0x00]);
            let mut header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0].to_vec();
            header[2..4].copy_from_slice(&(l3_len as u16).to_be_bytes());
            header.extend(source.to_be_bytes());
            header.extend(destination.to_be_bytes());
            let sum = !checksum::sum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(header);
            l3_len - 20
        }
        Addresses::V6 { source, destination } => {
            let l3_len = l3_len.max(48);
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(((l3_len - 40) as u16).to_be_bytes());
            frame.extend([17, 64]);
            frame.extend(source.to_be_bytes());
            frame.extend(destination.to_be_bytes());
            l3_len - 40
        }
    };
    frame.extend(ports.to_be_bytes());
    frame.extend((udp_len as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(frame.len() + udp_len - 8, 0);
    frame
}

/// Writes a capture file in libpcap's format.
pub fn write(path: &Path, frames: &[Vec<u8>]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    // Magic, version 2.4, time zone, accuracy, longest frame, Ethernet.
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1u32] {
        file.write_all(&word.to_le_bytes())?;
    }
    for frame in frames {
        let len = (frame.len() as u32).to_le_bytes();
        file.write_all(&[[0; 4], [0; 4], len, len].concat())?;
        file.write_all(frame)?;
    }
    file.flush()
}
