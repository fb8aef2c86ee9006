//! Next hops whose sources are all lost: their routes go, one by one, but the groups that lead over such a next hop and
//! over others leave it at once. So when a session is lost whose routes do not stay, or several are, their packets are
//! on the remaining next hops without a look at any prefix.
//!
//! A next hop that another source has routes over too is vouched for by that one, and stays.

use super::resolve::{NextHops, NhId};

/// A source with routes over a next hop.
#[derive(Debug)]
struct User {
    /// Its index.
    source: u16,
    /// How many of its sets of attributes have the next hop.
    sets: u32,
    /// Whether all its routes are to go, and none was announced over the next hop since.
    lost: bool,
}

/// The sources that have sets of attributes with a next hop; nearly always there is one.
#[derive(Debug, Default)]
pub(super) struct Users {
    list: Vec<User>,
    leaving: bool,
}

impl Users {
    /// Works out whether it is to be left; says whether that is news. With its last set of attributes gone it stays as it
    /// was: nothing of it is used but groups that are to be released.
    fn settle(&mut self) -> bool {
        let leaving =
            if self.list.is_empty() { self.leaving } else { self.list.iter().all(|user| user.lost) };
        std::mem::replace(&mut self.leaving, leaving) != leaving
    }
}

impl NextHops {
    /// One more set of attributes of `source` has this next hop.
    pub(super) fn add_user(&mut self, id: NhId, source: u16) {
        let Some(tracked) = self.get_mut(id) else { return };
        let list = &mut tracked.users.list;
        match list.iter_mut().find(|user| user.source == source) {
            Some(user) => user.sets += 1,
            None => list.push(User { source, sets: 1, lost: false }),
        }
    }

    /// One less.
    pub(super) fn remove_user(&mut self, id: NhId, source: u16) {
        let Some(tracked) = self.get_mut(id) else { return };
        let list = &mut tracked.users.list;
        let Some(at) = list.iter().position(|user| user.source == source) else { return };
        list[at].sets -= 1;
        if list[at].sets == 0 {
            list.swap_remove(at);
            // It may have been the one that vouched for it.
            if tracked.users.settle() {
                self.regrouped.push(id);
            }
        }
    }

    /// All routes of `source` are to go: what no other source has routes over is left, until somebody announces a route
    /// over it.
    pub(super) fn leave(&mut self, source: u16) {
        let mut left = Vec::new();
        for (id, tracked) in self.iter_mut() {
            if let Some(user) = tracked.users.list.iter_mut().find(|user| user.source == source) {
                user.lost = true;
                if tracked.users.settle() {
                    left.push(id);
                }
            }
        }
        self.regrouped.append(&mut left);
    }

    /// A route of `source` is announced over it.
    pub(super) fn stay(&mut self, id: NhId, source: u16) {
        let Some(tracked) = self.get_mut(id) else { return };
        if let Some(user) = tracked.users.list.iter_mut().find(|user| user.source == source) {
            // Nearly always it is as it was.
            if (std::mem::take(&mut user.lost) || tracked.users.leaving) && tracked.users.settle() {
                self.regrouped.push(id);
            }
        }
    }

    /// Whether no source but this one has routes over it.
    pub(super) fn is_used_by_only(&self, id: NhId, source: u16) -> bool {
        let users = self.get(id).map_or(&[][..], |tracked| &tracked.users.list);
        matches!(users, [user] if user.source == source)
    }

    /// Whether groups leave it while they have another.
    pub(super) fn is_leaving(&self, id: NhId) -> bool {
        self.get(id).is_some_and(|tracked| tracked.users.leaving)
    }
}
