//! The judge of what comes back: for each frame whether it is intact, in order, in time and at the right port.

use std::ops::AddAssign;

use super::frame::{Arrival, Flow, Template};
use super::sequence::{Order, Sequence};
use super::stamp::{Stamp, ticks_between};

/// What a frame is that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Intact, at a right port, and for the first time.
    Good(Order),
    /// Intact, and it came before.
    Duplicate,
    /// Intact, and too late to know whether it came before. Not counted as received, so it shows as a loss.
    Stale,
    /// Intact, on a port on which its flow has no business.
    Misdirected,
    /// One of ours, and changed: stamp, headers or payload.
    Corrupt,
    /// Of an earlier trial.
    Straggler,
    /// Not a test frame.
    Foreign,
}

/// What came back of one flow, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that were to be sent: those that the port refused are among them.
    pub sent: u64,
    /// Different frames that came back intact, at a right port.
    pub received: u64,
    /// Those of the received that came after one that was sent later (RFC 4737).
    pub reordered: u64,
    /// How far behind the farthest of them was, in frames of its flow.
    pub reorder_extent: u64,
    /// Frames that came again.
    pub duplicates: u64,
    /// Frames that came too late to be told from duplicates.
    pub stale: u64,
    /// Frames that came on a wrong port.
    pub misdirected: u64,
    /// Frames of ours that were changed. Where it is not known of which flow, only the sum over all flows has them.
    pub corrupt: u64,
}

impl Counts {
    /// Frames that did not come back intact at a right port.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    /// The share of the sent that is lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.lost() as f64 / self.sent as f64 }
    }

    /// Whether all came back once, in order and intact.
    pub fn is_clean(&self) -> bool {
        let wrong = self.reordered + self.duplicates + self.stale + self.misdirected + self.corrupt;
        self.lost() == 0 && wrong == 0
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.reordered += other.reordered;
        self.reorder_extent = self.reorder_extent.max(other.reorder_extent);
        self.duplicates += other.duplicates;
        self.stale += other.stale;
        self.misdirected += other.misdirected;
        self.corrupt += other.corrupt;
    }
}

/// Is told of each intact frame, for whoever wants to know more than the counts: the next hop that it came by, say.
pub trait Observer {
    /// A frame of flow `stamp.flow` came on `port`, `ticks` after it was sent.
    fn arrived(&mut self, arrival: &Arrival<'_>, stamp: Stamp, port: usize, verdict: Verdict, ticks: u64);
}

/// Nobody wants to know.
impl Observer for () {
    #[inline(always)]
    fn arrived(&mut self, _: &Arrival<'_>, _: Stamp, _: usize, _: Verdict, _: u64) {}
}

/// One flow's state, in one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct State {
    sequence: Sequence,
    to: u32,
    received: u64,
    reorder_extent: u64,
    reordered: u32,
    duplicates: u32,
    stale: u32,
    misdirected: u32,
    corrupt: u32,
}

/// Checks frames of a set of flows.
#[derive(Debug)]
pub struct Checker {
    trial: u16,
    dst_port: u16,
    /// By how much the hop limit must be lower.
    hops: u8,
    /// Words of each flow's window.
    words: usize,
    flows: Vec<State>,
    windows: Vec<u64>,
    corrupt: u64,
    foreign: u64,
    stragglers: u64,
}

/// Memory for the windows of all flows, in words: 32 MiB.
const WINDOW_WORDS: usize = 4 << 20;
/// The longest window of a flow, in words of 64 frames.
const LONGEST_WINDOW: usize = 1024;

impl Checker {
    /// For frames of these flows, whose hop limit is lower by `hops` when they come back (one for each router).
    pub fn new(flows: &[Flow], trial: u16, hops: u8) -> Self {
        let fair = (WINDOW_WORDS / flows.len().max(1)).clamp(4, LONGEST_WINDOW);
        let words = 1 << fair.ilog2();
        Self {
            trial,
            dst_port: flows.first().map_or(0, |flow| flow.dst_port),
            hops,
            words,
            flows: flows.iter().map(|flow| State { to: flow.to, ..State::default() }).collect(),
            windows: vec![0; words * flows.len()],
            corrupt: 0,
            foreign: 0,
            stragglers: 0,
        }
    }

    /// Judges a frame that came on `port` at `now` (ticks). `template` gives the template of a flow by its number and
    /// the length of the IP packet, if there are such frames.
    #[inline]
    pub fn judge<'t>(
        &mut self,
        frame: &[u8],
        port: usize,
        now: u64,
        template: impl FnOnce(u32, usize) -> Option<&'t Template>,
        observer: &mut impl Observer,
    ) -> (Verdict, u64) {
        let Some(arrival) = Arrival::parse(frame).filter(|arrival| arrival.dst_port() == self.dst_port)
        else {
            self.foreign += 1;
            return (Verdict::Foreign, 0);
        };
        let Some(stamp) = arrival.stamp() else { return self.corrupt(None) };
        if stamp.trial != self.trial {
            self.stragglers += 1;
            return (Verdict::Straggler, 0);
        }
        let flow = stamp.flow as usize;
        let Some(template) = template(stamp.flow, arrival.ip_len()) else { return self.corrupt(Some(flow)) };
        if !arrival.is_intact(template, self.hops) {
            return self.corrupt(Some(flow));
        }
        let Some(state) = self.flows.get_mut(flow) else { return self.corrupt(None) };
        let ticks = ticks_between(stamp.time, now);
        let verdict = if state.to >> port & 1 == 0 {
            state.misdirected += 1;
            Verdict::Misdirected
        } else {
            let window = &mut self.windows[flow * self.words..(flow + 1) * self.words];
            match state.sequence.note(stamp.seq, window) {
                Order::Duplicate => {
                    state.duplicates += 1;
                    Verdict::Duplicate
                }
                Order::Stale => {
                    state.stale += 1;
                    Verdict::Stale
                }
                order => {
                    state.received += 1;
                    if let Order::Late(by) = order {
                        state.reordered += 1;
                        state.reorder_extent = state.reorder_extent.max(by);
                    }
                    Verdict::Good(order)
                }
            }
        };
        observer.arrived(&arrival, stamp, port, verdict, ticks);
        (verdict, ticks)
    }

    #[cold]
    fn corrupt(&mut self, flow: Option<usize>) -> (Verdict, u64) {
        match flow.and_then(|flow| self.flows.get_mut(flow)) {
            Some(state) => state.corrupt += 1,
            None => self.corrupt += 1,
        }
        (Verdict::Corrupt, 0)
    }

    /// What came back of a flow of which `sent` frames were sent. A flow that nothing may come back of counts none as
    /// sent: what comes nevertheless is misdirected.
    pub fn flow(&self, flow: usize, sent: u64) -> Counts {
        let Some(state) = self.flows.get(flow) else { return Counts::default() };
        Counts {
            sent: if state.to == 0 { 0 } else { sent },
            received: state.received,
            reordered: state.reordered.into(),
            reorder_extent: state.reorder_extent,
            duplicates: state.duplicates.into(),
            stale: state.stale.into(),
            misdirected: state.misdirected.into(),
            corrupt: state.corrupt.into(),
        }
    }

    /// Frames of ours that were changed so that their flow is not known.
    pub fn corrupt_of_no_flow(&self) -> u64 {
        self.corrupt
    }

    /// Frames that were none of ours.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Frames of earlier trials.
    pub fn stragglers(&self) -> u64 {
        self.stragglers
    }
}
