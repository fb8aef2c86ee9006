//! The default route: one word of its own, so that changing it is one store however many addresses follow it.
//!
//! What a table's blocks say is "follow the default route" wherever no longer route covers an address. A reader
//! therefore reads two things, and they must belong together: it reads the default route before and after, and
//! looks up again when it has changed meanwhile.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::FibError;
use super::routes::Value;
use crate::ids::GroupId;

/// The default route's group in the low half, the number of its changes in the high half.
#[derive(Debug, Default)]
pub(super) struct DefaultRoute(AtomicU64);

/// What a reader saw before its look-up.
#[derive(Clone, Copy)]
pub(super) struct Seen(u64);

impl Seen {
    /// The group that a value of the table stands for.
    #[inline(always)]
    pub(super) fn group(self, value: Value) -> GroupId {
        GroupId(if value == 0 { self.0 as u32 } else { value - 1 })
    }
}

impl DefaultRoute {
    /// Before a look-up.
    #[inline(always)]
    pub(super) fn seen(&self) -> Seen {
        Seen(self.0.load(Ordering::Acquire))
    }

    /// After it: whether what was seen held throughout. The fence costs no instruction on `x86_64`.
    #[inline(always)]
    pub(super) fn held(&self, seen: Seen) -> bool {
        fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == seen.0
    }

    /// Publishes another group.
    fn set(&self, group: GroupId) {
        let changes = (self.0.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.0.store(changes << 32 | u64::from(group.0), Ordering::Release);
    }
}

/// The control side of it: whether there is one.
#[derive(Default)]
pub(super) struct DefaultWriter(Option<GroupId>);

impl DefaultWriter {
    pub(super) fn get(&self) -> Option<GroupId> {
        self.0
    }

    pub(super) fn change(&mut self, route: &DefaultRoute, group: Option<GroupId>) -> Option<GroupId> {
        if self.0 != group {
            route.set(group.unwrap_or(GroupId::NO_ROUTE));
        }
        std::mem::replace(&mut self.0, group)
    }
}

/// The value under which a table stores a group.
pub(super) fn value(group: GroupId) -> Result<Value, FibError> {
    if group > super::MAX_GROUP { Err(FibError::Group { group }) } else { Ok(group.0 + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_noticed_even_when_it_was_taken_back() {
        let (route, mut writer) = (DefaultRoute::default(), DefaultWriter::default());
        writer.change(&route, Some(GroupId(7)));
        let seen = route.seen();
        assert!(route.held(seen));
        writer.change(&route, Some(GroupId(7)));
        assert!(route.held(seen), "nothing changed");
        assert_eq!(writer.change(&route, Some(GroupId(8))), Some(GroupId(7)));
        assert!(!route.held(seen));
        assert_eq!(writer.change(&route, Some(GroupId(7))), Some(GroupId(8)));
        assert!(!route.held(seen));
        assert_eq!(
            (seen.group(0), route.seen().group(0), seen.group(4)),
            (GroupId(7), GroupId(7), GroupId(3))
        );
        assert_eq!(writer.change(&route, None), Some(GroupId(7)));
        assert_eq!(route.seen().group(0), GroupId::NO_ROUTE);
    }
}
