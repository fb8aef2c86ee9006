//! The IPv6 table of one VRF.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::{Arc, PoisonError, RwLock};

use super::{FibError, MAX_GROUP};
use crate::grace::GracePeriod;
use crate::ids::GroupId;

type Routes = BTreeMap<(u8, u128), GroupId>;

/// The side of an IPv6 table that workers read. Share it in an `Arc`.
#[derive(Debug, Default)]
pub struct Fib6 {
    routes: RwLock<Routes>,
}

impl Fib6 {
    /// The group of the longest prefix that covers `addr` (host byte order), or `GroupId::NO_ROUTE`.
    pub fn lookup(&self, addr: u128) -> GroupId {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        (0..=128).rev().find_map(|len| routes.get(&(len, addr & mask(len))).copied()).unwrap_or_default()
    }

    /// Looks up a burst: `out[i]` becomes the group of `addrs[i]`, for as many as the shorter slice has.
    pub fn lookup_batch(&self, addrs: &[u128], out: &mut [GroupId]) {
        for (addr, group) in addrs.iter().zip(out) {
            *group = self.lookup(*addr);
        }
    }

    /// Asks the memory for what a look-up of `addr` will read first. Worth calling when the address is known
    /// some tens of nanoseconds before its look-up.
    pub fn prefetch(&self, _addr: u128) {}

    /// Bytes that the table occupies.
    pub fn memory(&self) -> usize {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.len() * size_of::<((u8, u128), GroupId)>()
    }
}

/// The side of an IPv6 table that control writes. There is one for each table.
pub struct Fib6Writer {
    fib: Arc<Fib6>,
    _grace: Arc<dyn GracePeriod>,
}

impl Fib6Writer {
    /// An empty table whose readers are watched by `grace`.
    ///
    /// # Errors
    /// [`FibError::Memory`] when there is no memory for the empty table.
    pub fn new(grace: Arc<dyn GracePeriod>) -> Result<Self, FibError> {
        Ok(Self { fib: Arc::default(), _grace: grace })
    }

    /// The side for workers.
    pub fn reader(&self) -> Arc<Fib6> {
        Arc::clone(&self.fib)
    }

    /// Announces `prefix/len` or replaces its group; returns the group it had.
    ///
    /// # Errors
    /// Any [`FibError`]; the table is unchanged then.
    pub fn insert(&mut self, prefix: u128, len: u8, group: GroupId) -> Result<Option<GroupId>, FibError> {
        check(prefix, len)?;
        if group > MAX_GROUP {
            return Err(FibError::Group { group });
        }
        Ok(self.write().insert((len, prefix), group))
    }

    /// Withdraws `prefix/len`; returns the group it had.
    ///
    /// # Errors
    /// [`FibError::Length`], [`FibError::HostBits6`], or [`FibError::Memory`]: taking a route away can need
    /// a new block too. The table is unchanged then.
    pub fn remove(&mut self, prefix: u128, len: u8) -> Result<Option<GroupId>, FibError> {
        check(prefix, len)?;
        Ok(self.write().remove(&(len, prefix)))
    }

    /// The group of exactly `prefix/len`.
    pub fn get(&self, prefix: u128, len: u8) -> Option<GroupId> {
        self.fib.routes.read().unwrap_or_else(PoisonError::into_inner).get(&(len, prefix)).copied()
    }

    /// Announces many routes at once: the same as an [`insert`](Self::insert) for each in order, but faster.
    ///
    /// # Errors
    /// Any [`FibError`]; the table is unchanged then.
    pub fn load(&mut self, routes: impl IntoIterator<Item = (u128, u8, GroupId)>) -> Result<(), FibError> {
        let mut checked = Vec::new();
        for (prefix, len, group) in routes {
            check(prefix, len)?;
            if group > MAX_GROUP {
                return Err(FibError::Group { group });
            }
            checked.push(((len, prefix), group));
        }
        self.write().extend(checked);
        Ok(())
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.fib.routes.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frees what was unlinked and whose grace period has passed. Changes do this too; call it when there are
    /// none.
    pub fn reclaim(&mut self) {}

    /// Bytes that the control side's own copy of the routes occupies.
    pub fn control_memory(&self) -> usize {
        0
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Routes> {
        self.fib.routes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first `len` bits set.
fn mask(len: u8) -> u128 {
    if len == 0 { 0 } else { u128::MAX << (128 - len) }
}

fn check(prefix: u128, len: u8) -> Result<(), FibError> {
    if len > 128 {
        return Err(FibError::Length { len, max: 128 });
    }
    if prefix & !mask(len) != 0 {
        return Err(FibError::HostBits6 { prefix: Ipv6Addr::from_bits(prefix), len });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grace::NoReaders;

    #[test]
    fn longest_prefix_wins_and_withdrawal_uncovers() {
        let mut writer = Fib6Writer::new(Arc::new(NoReaders)).unwrap();
        let fib = writer.reader();
        let top: u128 = 1 << (128 - 1);
        assert_eq!(fib.lookup(top), GroupId::NO_ROUTE);
        assert_eq!(writer.insert(0, 0, GroupId(3)), Ok(None));
        assert_eq!(writer.insert(top, 1, GroupId(4)), Ok(None));
        assert_eq!(writer.insert(top | 7, 128, GroupId(5)), Ok(None));
        assert_eq!(writer.insert(top | 7, 128, GroupId(6)), Ok(Some(GroupId(5))));
        let mut out = [GroupId(99); 5];
        fib.lookup_batch(&[0, u128::MAX, top, top | 7], &mut out);
        assert_eq!(out, [3, 4, 4, 6, 99].map(GroupId));
        assert_eq!(writer.remove(top | 7, 128), Ok(Some(GroupId(6))));
        assert_eq!(writer.remove(top | 7, 128), Ok(None));
        assert_eq!(fib.lookup(top | 7), GroupId(4));
        assert_eq!(writer.len(), 2);
    }

    #[test]
    fn bad_routes_are_refused_whole() {
        let mut writer = Fib6Writer::new(Arc::new(NoReaders)).unwrap();
        assert_eq!(writer.insert(0, 128 + 1, GroupId(3)), Err(FibError::Length { len: 128 + 1, max: 128 }));
        assert_eq!(
            writer.insert(1, 128 - 1, GroupId(3)),
            Err(FibError::HostBits6 { prefix: Ipv6Addr::from_bits(1), len: 128 - 1 })
        );
        let big = GroupId(MAX_GROUP.0 + 1);
        assert_eq!(writer.insert(0, 0, big), Err(FibError::Group { group: big }));
        assert!(writer.load([(0, 0, GroupId(3)), (1, 0, GroupId(3))]).is_err());
        assert!(writer.is_empty());
    }
}
