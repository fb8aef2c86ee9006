//! Capture files in the classic pcap format: written for people and for DPDK's `net_pcap`, read back from it.

use std::io::{self, Write};
use std::path::Path;

/// Longest frame that a file may hold.
const SNAPLEN: u32 = 65_535;

/// Writes frames, each with its time in microseconds.
///
/// # Errors
/// As writing a file.
pub fn write<'a>(path: &Path, frames: impl IntoIterator<Item = (u64, &'a [u8])>) -> io::Result<()> {
    let mut out = io::BufWriter::new(std::fs::File::create(path)?);
    out.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
    out.write_all(&[2, 0, 4, 0])?;
    // Zone, accuracy, longest frame, link type Ethernet.
    for field in [0, 0, SNAPLEN, 1] {
        out.write_all(&field.to_le_bytes())?;
    }
    for (micros, frame) in frames {
        let length = frame.len() as u32;
        for field in [(micros / 1_000_000) as u32, (micros % 1_000_000) as u32, length, length] {
            out.write_all(&field.to_le_bytes())?;
        }
        out.write_all(frame)?;
    }
    out.flush()
}

/// Reads the frames of a file with microsecond or nanosecond stamps, little endian. A last record cut short is left
/// out: its writer may still be at it.
///
/// # Errors
/// No such file, or not one of these.
pub fn read(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(path)?;
    let magic = bytes.get(..4).unwrap_or_default();
    if magic != 0xa1b2_c3d4_u32.to_le_bytes() && magic != 0xa1b2_3c4d_u32.to_le_bytes() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: no pcap file", path.display())));
    }
    let mut frames = Vec::new();
    let mut at = 24;
    while let Some(Ok(length)) = bytes.get(at + 8..at + 12).map(<[u8; 4]>::try_from) {
        let start = at + 16;
        at = start + u32::from_le_bytes(length) as usize;
        let Some(frame) = bytes.get(start..at) else { break };
        frames.push(frame.to_vec());
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pcap");
        let frames: Vec<Vec<u8>> = (0..70).map(|n| vec![n; usize::from(n)]).collect();
        write(&path, frames.iter().enumerate().map(|(n, f)| (n as u64, f.as_slice()))).unwrap();
        assert_eq!(read(&path).unwrap(), frames);
    }

    #[test]
    fn another_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, b"not a capture").unwrap();
        assert!(read(&path).is_err());
    }
}
