//! Quiescent-state based reclamation: how workers read a shared snapshot without a lock or a fence, and how
//! control learns when no worker can still hold the old one.
//!
//! A [`Domain`] has one pointer to the current snapshot, one epoch, and one cache-padded counter per reader.
//! A reader copies the epoch into its counter between bursts: «I hold nothing from before this». The writer
//! swaps the pointer, then advances the epoch; once every counter has reached the new epoch, or says «offline»,
//! nobody holds what was unlinked before. (Hart, McKenney, Brown, Walpole: "Performance of memory reclamation
//! for lockless synchronization", JPDC 2007, section 2.1; the same scheme as liburcu's QSBR flavour.)
//!
//! Why a reader needs no fence: its counter takes a value that it *read* from the epoch (acquire), and the writer
//! wrote that epoch after the swap (release). So a reader that reports the new epoch has the new pointer visible,
//! and its earlier use of the old one is ordered before the report (release), which the writer reads (acquire).
//! Only coming online needs a fence, since there the counter changes from «offline» to a value that the writer
//! may not have seen when it looked: the store must be visible before the pointer is read.
#![allow(unsafe_code)] // the shared pointer: DESIGN.md, "How workers see a change"

#[cfg(loom)]
use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

use std::sync::Arc;
#[cfg(not(loom))]
use std::sync::Mutex;

#[cfg(loom)]
use loom::sync::Mutex;

use crossbeam::utils::CachePadded;

use crate::grace::GracePeriod;

/// A reader's counter when it holds nothing and promises to hold nothing.
const OFFLINE: u64 = 0;

/// One shared snapshot with its readers.
pub struct Domain<T> {
    current: AtomicPtr<T>,
    epoch: CachePadded<AtomicU64>,
    readers: Box<[CachePadded<AtomicU64>]>,
    /// Old snapshots and the ticket after which each may be freed.
    retired: Mutex<Vec<(u64, Box<T>)>>,
}

impl<T: Send + Sync> Domain<T> {
    /// A domain whose first snapshot is `first`, with one [`Reader`] for each of `readers`.
    pub fn new(first: T, readers: usize) -> (Arc<Self>, Vec<Reader<T>>) {
        let domain = Arc::new(Self {
            current: AtomicPtr::new(Box::into_raw(Box::new(first))),
            epoch: CachePadded::new(AtomicU64::new(OFFLINE + 1)),
            readers: (0..readers).map(|_| CachePadded::new(AtomicU64::new(OFFLINE))).collect(),
            retired: Mutex::new(Vec::new()),
        });
        let readers = (0..readers).map(|slot| Reader { domain: Arc::clone(&domain), slot }).collect();
        (domain, readers)
    }

    /// Makes `next` the current snapshot. The old one is freed by a later [`Self::collect`], after its grace
    /// period. Returns the ticket of that period.
    pub fn publish(&self, next: T) -> u64 {
        let old = self.current.swap(Box::into_raw(Box::new(next)), Ordering::AcqRel);
        let ticket = self.ticket();
        // SAFETY: `old` came from `Box::into_raw` in `new` or `publish`, and the swap took it out of `current`,
        // so that no other call can take it again. It is only dropped after its grace period.
        let old = unsafe { Box::from_raw(old) };
        if let Ok(mut retired) = self.retired.lock() {
            retired.push((ticket, old));
        } else {
            // Another thread panicked while it collected: leaking is safe, freeing might not be.
            Box::leak(old);
        }
        ticket
    }

    /// Frees the snapshots whose grace period has passed. Returns how many still wait.
    pub fn collect(&self) -> usize {
        let Ok(mut retired) = self.retired.lock() else { return 0 };
        retired.retain(|(ticket, _)| !self.has_passed(*ticket));
        retired.len()
    }
}

impl<T: Send + Sync> GracePeriod for Domain<T> {
    fn ticket(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn has_passed(&self, ticket: u64) -> bool {
        // Pairs with the fence of `Reader::online`: either we see the reader online, or it sees what was
        // unlinked before the ticket was drawn.
        fence(Ordering::SeqCst);
        self.readers.iter().all(|counter| {
            let seen = counter.load(Ordering::Acquire);
            seen == OFFLINE || seen >= ticket
        })
    }
}

impl<T> Drop for Domain<T> {
    fn drop(&mut self) {
        // SAFETY: every reader holds an `Arc` of the domain, so none is left, and the pointer came from
        // `Box::into_raw`.
        drop(unsafe { Box::from_raw(self.current.load(Ordering::Acquire)) });
    }
}

/// One worker's way to the snapshot. Starts offline.
pub struct Reader<T> {
    domain: Arc<Domain<T>>,
    slot: usize,
}

impl<T> Reader<T> {
    fn counter(&self) -> &AtomicU64 {
        &self.domain.readers[self.slot]
    }

    /// Its number among the domain's readers, from 0 on.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Starts holding snapshots.
    pub fn online(&mut self) {
        self.counter().store(self.domain.epoch.load(Ordering::Acquire), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Promises to hold nothing until [`Self::online`]: the worker sleeps or ends.
    pub fn offline(&mut self) {
        self.counter().store(OFFLINE, Ordering::Release);
    }

    /// Reports that nothing from before is held, and returns the current snapshot. The borrow ends the use of
    /// the last one; while offline there is none.
    pub fn snapshot(&mut self) -> Option<&T> {
        if self.counter().load(Ordering::Relaxed) == OFFLINE {
            return None;
        }
        self.counter().store(self.domain.epoch.load(Ordering::Acquire), Ordering::Release);
        // SAFETY: the pointer is a live box: it is freed only after a grace period that began once it was
        // swapped out, and this reader, being online, holds that period up until it next reports here or goes
        // offline, both of which need `&mut self` and so end the borrow that is returned.
        Some(unsafe { &*self.domain.current.load(Ordering::Acquire) })
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.offline();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    struct Canary(Arc<AtomicUsize>, u64);

    impl Drop for Canary {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_old_snapshot_lives_until_each_reader_reported() {
        let freed = Arc::new(AtomicUsize::new(0));
        let (domain, mut readers) = Domain::new(Canary(Arc::clone(&freed), 1), 2);
        let (mut a, mut b) = (readers.remove(0), readers.remove(0));
        a.online();
        assert!(b.snapshot().is_none());
        assert_eq!(a.snapshot().unwrap().1, 1);
        let ticket = domain.publish(Canary(Arc::clone(&freed), 2));
        assert!(!domain.has_passed(ticket));
        assert_eq!(domain.collect(), 1);
        assert_eq!(a.snapshot().unwrap().1, 2);
        assert!(domain.has_passed(ticket));
        assert_eq!(domain.collect(), 0);
        assert_eq!(freed.load(Ordering::Relaxed), 1);
        b.online();
        let ticket = domain.publish(Canary(Arc::clone(&freed), 3));
        a.offline();
        assert!(!domain.has_passed(ticket));
        drop(b);
        assert!(domain.has_passed(ticket));
        drop(a);
        drop(domain);
        assert_eq!(freed.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn readers_never_see_freed_snapshots_under_load() {
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        let freed = Arc::new(AtomicUsize::new(0));
        let (domain, readers) = Domain::new(Canary(Arc::clone(&freed), 0), 2);
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    let mut last = 0;
                    reader.online();
                    while !stop.load(Ordering::Relaxed) {
                        let seen = reader.snapshot().unwrap().1;
                        assert!(seen >= last);
                        last = seen;
                        if seen % 97 == 0 {
                            reader.offline();
                            reader.online();
                        }
                    }
                })
            })
            .collect();
        for i in 1..=rounds {
            domain.publish(Canary(Arc::clone(&freed), i));
            domain.collect();
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(domain.collect(), 0);
        assert_eq!(freed.load(Ordering::Relaxed) as u64, rounds);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::atomic::AtomicBool;

    /// A snapshot that knows whether it was freed.
    struct Watched(Arc<AtomicBool>);

    impl Drop for Watched {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    fn check(goes_offline: bool) {
        loom::model(move || {
            let flag = || Arc::new(AtomicBool::new(false));
            let (domain, mut readers) = Domain::new(Watched(flag()), 1);
            let mut reader = readers.remove(0);
            let thread = loom::thread::spawn(move || {
                reader.online();
                for _ in 0..2 {
                    let snapshot = reader.snapshot().unwrap();
                    assert!(!snapshot.0.load(Ordering::SeqCst), "a held snapshot was freed");
                }
                if goes_offline {
                    reader.offline();
                    reader.online();
                    let snapshot = reader.snapshot().unwrap();
                    assert!(!snapshot.0.load(Ordering::SeqCst), "a held snapshot was freed");
                }
            });
            domain.publish(Watched(flag()));
            domain.collect();
            domain.collect();
            thread.join().unwrap();
            assert_eq!(domain.collect(), 0, "with no reader left, all is freed");
        });
    }

    #[test]
    fn a_held_snapshot_is_never_freed() {
        check(false);
    }

    #[test]
    fn going_offline_and_back_is_safe() {
        check(true);
    }
}
