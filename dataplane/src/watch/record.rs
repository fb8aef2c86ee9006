//! What a worker records of a packet.

use crate::ids::{AdjId, GroupId, PortId, SubIfId, VrfId};
use crate::verdict::Verdict;

/// Bytes of a sent frame that a trace keeps beside the received one: two tags and an IPv6 header.
pub const SENT_HEAD: usize = 62;

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A received frame, as it came.
    Received,
    /// A frame that was forwarded, as it left; or as it would have, if the verdict says that it was dropped.
    Sent,
    /// The same of a frame of the control thread.
    Injected,
}

/// Where a packet left, or was about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Out {
    /// The port.
    pub port: PortId,
    /// The sub-interface.
    pub sub_if: SubIfId,
    /// Length of the frame, in bytes, without FCS.
    pub len: u16,
}

/// A frame with what became of it. Its memory is as large as the session's longest frame part from the start.
#[derive(Clone, Debug)]
pub struct Record {
    /// When, by the worker's time-stamp counter, in cycles.
    pub cycles: u64,
    /// What it is of.
    pub kind: Kind,
    /// What became of the packet.
    pub verdict: Verdict,
    /// The port it was received on, or sent on.
    pub port: PortId,
    /// The sub-interface of that port; none: not classified.
    pub sub_if: Option<SubIfId>,
    /// The VRF it was routed in.
    pub vrf: Option<VrfId>,
    /// What the FIB said; none: it was not looked up.
    pub group: Option<GroupId>,
    /// The member that was chosen.
    pub adjacency: Option<AdjId>,
    /// Where a received packet left.
    pub out: Option<Out>,
    /// The start of the frame as it left, for a session that traces.
    sent: [u8; SENT_HEAD],
    sent_len: u8,
    /// Length of the whole frame, in bytes, with the tags that the NIC took off.
    pub frame_len: u32,
    bytes: Box<[u8]>,
    len: usize,
}

impl Record {
    /// An empty one with room for `snaplen` bytes of a frame.
    pub fn new(snaplen: usize) -> Self {
        Self {
            cycles: 0,
            kind: Kind::Received,
            verdict: Verdict::Forward,
            port: PortId(0),
            sub_if: None,
            vrf: None,
            group: None,
            adjacency: None,
            out: None,
            sent: [0; SENT_HEAD],
            sent_len: 0,
            frame_len: 0,
            bytes: vec![0; snaplen].into(),
            len: 0,
        }
    }

    /// The frame from its start on, as far as there was room.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The start of the frame as it left; empty where it did not, or the session does not trace.
    pub fn sent(&self) -> &[u8] {
        &self.sent[..usize::from(self.sent_len)]
    }

    /// Starts over, with a frame that comes in parts.
    pub(super) fn begin<'a>(&mut self, cycles: u64, kind: Kind, parts: impl IntoIterator<Item = &'a [u8]>) {
        self.cycles = cycles;
        self.kind = kind;
        self.verdict = Verdict::Forward;
        (self.sub_if, self.vrf, self.group, self.adjacency, self.out) = (None, None, None, None, None);
        (self.sent_len, self.frame_len, self.len) = (0, 0, 0);
        for part in parts {
            self.frame_len += part.len() as u32;
            let room = &mut self.bytes[self.len..];
            let count = room.len().min(part.len());
            room[..count].copy_from_slice(&part[..count]);
            self.len += count;
        }
    }

    /// Notes the frame as it leaves.
    pub(super) fn set_sent(&mut self, frame: &[u8]) {
        let count = frame.len().min(SENT_HEAD);
        self.sent[..count].copy_from_slice(&frame[..count]);
        self.sent_len = count as u8;
    }
}
