//! Watches by which neighbour the frames of each flow go.

use std::sync::atomic::{AtomicU8, Ordering};

use super::HOST;
use crate::routes::rig::neighbour_mac;
use crate::traffic::{Arrival, Observer, Stamp, Verdict};

/// The neighbour that each stage leads to: nothing there, announced, changed, withdrawn.
pub const STAGES: [u8; 4] = [0, 1, 2, 0];

/// Watches by which neighbour each flow's frames go: only forward from stage to stage, and never ahead of the feed.
pub struct Watch<'a> {
    /// How far the feed may have come.
    pub stage: &'a AtomicU8,
    pub flows: Vec<u8>,
    pub wrong: u64,
}

impl Observer for Watch<'_> {
    #[inline]
    fn arrived(&mut self, arrival: &Arrival<'_>, stamp: Stamp, _: usize, verdict: Verdict, _: u64) {
        if !matches!(verdict, Verdict::Good(_)) {
            return;
        }
        let Some(at) = self.flows.get_mut(stamp.flow as usize) else {
            // On its way back.
            self.wrong += u64::from(arrival.dst_mac() != neighbour_mac(HOST));
            return;
        };
        let goes_by = |stage: u8| neighbour_mac(STAGES[usize::from(stage)]) == arrival.dst_mac();
        if goes_by(*at) {
            return;
        }
        let furthest = self.stage.load(Ordering::Acquire);
        match (*at + 1..=furthest).find(|stage| goes_by(*stage)) {
            Some(stage) => *at = stage,
            None => self.wrong += 1,
        }
    }
}
