//! Next hops whose only source was lost: its routes go, one by one, but the groups that lead over such a next hop and
//! over others leave it at once. So when a session is lost whose routes do not stay, its packets are on the remaining
//! next hops without a look at any prefix.
//!
//! A next hop that another source has routes over too is vouched for by that one, and stays.

use super::resolve::{NextHops, NhId};

/// The sources that have sets of attributes with a next hop.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// Index of a source, and how many sets; nearly always there is one.
    list: Vec<(u16, u32)>,
    leaving: bool,
}

impl NextHops {
    /// One more set of attributes of `source` has this next hop.
    pub(super) fn add_user(&mut self, id: NhId, source: u16) {
        let Some(tracked) = self.get_mut(id) else { return };
        let list = &mut tracked.users.list;
        match list.iter_mut().find(|(known, _)| *known == source) {
            Some((_, count)) => *count += 1,
            None => list.push((source, 1)),
        }
    }

    /// One less.
    pub(super) fn remove_user(&mut self, id: NhId, source: u16) {
        let Some(tracked) = self.get_mut(id) else { return };
        let list = &mut tracked.users.list;
        if let Some(at) = list.iter().position(|(known, _)| *known == source) {
            list[at].1 -= 1;
            if list[at].1 == 0 {
                list.swap_remove(at);
            }
        }
    }

    /// All routes of `source` are to go: what only it has routes over is left, until somebody announces a route over it.
    pub(super) fn leave(&mut self, source: u16) {
        let mut left = Vec::new();
        for (id, tracked) in self.iter_mut() {
            if matches!(tracked.users.list[..], [(user, _)] if user == source) && !tracked.users.leaving {
                tracked.users.leaving = true;
                left.push(id);
            }
        }
        self.regrouped.append(&mut left);
    }

    /// A route is announced over it.
    pub(super) fn stay(&mut self, id: NhId) {
        if let Some(tracked) = self.get_mut(id)
            && std::mem::take(&mut tracked.users.leaving)
        {
            self.regrouped.push(id);
        }
    }

    /// Whether groups leave it while they have another.
    pub(super) fn is_leaving(&self, id: NhId) -> bool {
        self.get(id).is_some_and(|tracked| tracked.users.leaving)
    }
}
