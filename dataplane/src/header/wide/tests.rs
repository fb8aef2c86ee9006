use super::*;
use crate::burst::Burst;
use crate::header::{checksum, ipv4};
use crate::packet::HeapPacket;
use crate::stage::wide;
use crate::worker::Instructions;

const HEADER: [u8; 20] = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 2, 3, 11, 1, 2, 3];

/// Has sixteen headers at a time looked at, and compares what is found with what the portable way finds.
fn compare<const SUM: bool>(headers: impl Iterator<Item = [u8; 20]>) {
    if Instructions::of_this_processor() != Instructions::Avx512 {
        return;
    }
    let all: Vec<_> = headers.collect();
    let mut burst = Burst::<HeapPacket>::new();
    for sixteen in all.chunks(16) {
        let frames: Vec<_> = sixteen.iter().map(|header| [&[0; 14][..], header].concat()).collect();
        let mut places = Places::unset();
        places.end_at(frames.len());
        for (place, frame) in places.to_set().iter_mut().zip(&frames) {
            place.write(frame.as_ptr());
        }
        let (mut found, _) = wide::found(&mut burst);
        // SAFETY: all places are set, the frames have 34 bytes, and the processor has the features.
        let right = unsafe { look::<0, false>(&places, &[34; ROOM], frames.len(), [SUM, true], &mut found) };
        for (k, header) in sixteen.iter().enumerate() {
            let wide = (right >> k & 1 == 1).then(|| (burst.v4.destination[k], burst.aged[k]));
            let portable = ipv4::expected::<SUM>(header, 20).map(|found| (found.destination, found.aged));
            assert_eq!(wide, portable, "{header:x?}");
        }
    }
}

#[test]
fn every_checksum_is_told_and_aged_as_by_the_portable_way() {
    compare::<true>((0..=u16::MAX).flat_map(|id| {
        let mut header = HEADER;
        header[4..6].copy_from_slice(&id.to_be_bytes());
        let right = !checksum::sum(&header);
        // Those beside it are wrong, but for 0xffff, which is as good as 0.
        [right, right.wrapping_add(1), right.wrapping_sub(1), right ^ 0x8000].map(|sum| {
            let mut header = header;
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        })
    }));
}

#[test]
fn unusual_addresses_are_told_as_by_the_portable_way() {
    let firsts = (0..=u16::MAX).map(u16::to_be_bytes);
    compare::<false>(firsts.flat_map(|[source, destination]| {
        [[1, 254], [254, 1], [253, 253]].map(|seconds| {
            let mut header = HEADER;
            (header[12], header[16], [header[13], header[17]]) = (source, destination, seconds);
            header
        })
    }));
}
