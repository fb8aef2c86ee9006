//! Next hops that a source numbered (zebra's and the kernel's next-hop objects): one tracked next hop stands for all of
//! them. So when the source changes them, the groups over it are rewritten, and no prefix is touched.

use dataplane::ids::VrfId;

use super::Rib;
use super::resolve::NhId;
use crate::source::{HopSet, NextHop};

impl Rib {
    /// What a set is tracked by; one that nobody defined leads nowhere until somebody does.
    pub(super) fn set_of(&mut self, set: HopSet, vrf: VrfId) -> NhId {
        *self.hop_sets.entry(set).or_insert_with(|| self.next_hops.add_set(vrf))
    }

    /// Gives a set these next hops, in the place of those that it had.
    pub(super) fn define_set(&mut self, set: HopSet, vrf: VrfId, next_hops: &[NextHop]) {
        let legs = self.legs(vrf, next_hops);
        let nh = self.set_of(set, vrf);
        for leg in self.next_hops.set_legs(nh, legs) {
            self.next_hops.release(&mut self.vrfs, leg.nh);
        }
    }

    /// Forgets a set. Routes that are still over it keep what it led to.
    pub(super) fn forget_set(&mut self, set: HopSet) {
        if let Some(nh) = self.hop_sets.remove(&set) {
            self.next_hops.release(&mut self.vrfs, nh);
        }
    }
}
