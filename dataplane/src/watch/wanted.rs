//! The records of a burst: taken for what a session may want, handed over for what it does, given back otherwise.

use super::record::{Kind, Record};
use super::session::Session;
use crate::burst::BURST;
use crate::header::ethernet::TPID_8021Q;
use crate::ids::PortId;
use crate::packet::{Packet, StrippedTags};

/// Packets of a burst that a session may want, as bits, and their records, where there were free ones.
pub(super) struct Wanted {
    pub(super) packets: u64,
    pub(super) records: [Option<Box<Record>>; BURST],
}

impl Wanted {
    pub(super) fn new() -> Self {
        Self { packets: 0, records: [const { None }; BURST] }
    }

    pub(super) fn add(&mut self, i: usize, record: Option<Box<Record>>) {
        self.packets |= 1 << i;
        self.records[i] = record;
    }
}

/// What of a burst one session may want.
pub(super) struct Pending {
    pub(super) received: Wanted,
    pub(super) sent: Wanted,
}

/// Where a worker's records come from, and when it looked.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) worker: usize,
    pub(super) now: u64,
}

impl Source {
    /// A record of a frame as it is now, if one is free. `stripped`: tags that it has beside its bytes.
    pub(super) fn record<P: Packet>(
        self,
        session: &Session,
        packet: &P,
        stripped: StrippedTags,
        kind: Kind,
    ) -> Option<Box<Record>> {
        let mut record = session.free(self.worker)?;
        let frame = packet.bytes();
        let (addresses, rest) = frame.split_at(frame.len().min(12));
        let mut tags = [0; 8];
        let count = put_tags(stripped, &mut tags);
        record.begin(self.now, kind, [addresses, &tags[..count], rest]);
        Some(record)
    }

    /// Hands over the record of what matched on `port`, or gives it back.
    pub(super) fn settle(
        self,
        session: &Session,
        matched: bool,
        port: PortId,
        mut record: Option<Box<Record>>,
        fill: impl FnOnce(&mut Record),
    ) {
        if matched {
            if let Some(record) = &mut record {
                record.port = port;
                fill(record);
            }
            session.hand_over(self.worker, port, record);
        } else if let Some(record) = record {
            session.give_back(self.worker, record);
        }
    }
}

/// Puts back tags that the NIC took off. It does not tell their TPIDs; ExpressRoute's default is 0x8100 on both.
fn put_tags(stripped: StrippedTags, to: &mut [u8; 8]) -> usize {
    let (tags, count) = match stripped {
        StrippedTags::None => ([0, 0], 0),
        StrippedTags::One(tci) => ([tci, 0], 4),
        StrippedTags::Two { outer, inner } => ([outer, inner], 8),
    };
    for (to, tci) in to.chunks_exact_mut(4).zip(tags) {
        to[..2].copy_from_slice(&TPID_8021Q.to_be_bytes());
        to[2..].copy_from_slice(&tci.to_be_bytes());
    }
    count
}
