//! Readers that race the writer, with a checker: whatever is under way, an address has one of the groups that it
//! was given between the look-up's beginning and its end.
//!
//! Every group says when it was given: the writer numbers its changes, and an address's group is the number of the
//! change that set it, so a reader can tell an answer that is too old, too new, or never was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::fib::{Fib4Writer, Fib6Writer, MAX_GROUP};
use crate::grace::GracePeriod;
use crate::ids::GroupId;

/// A grace period of a few readers, by a counter each.
#[derive(Default)]
struct Counters([AtomicU64; READERS]);

const READERS: usize = 2;

/// How many changes the log of right answers goes back.
const LOG: usize = 1 << 12;

impl GracePeriod for Counters {
    fn ticket(&self) -> u64 {
        std::sync::atomic::fence(Ordering::SeqCst);
        // The slowest reader's, and the burst under way and the one after it besides: more than enough for all.
        self.0.iter().map(|count| count.load(Ordering::Acquire)).max().unwrap_or(0) + 2
    }

    fn has_passed(&self, ticket: u64) -> bool {
        self.0.iter().all(|count| count.load(Ordering::Acquire) >= ticket)
    }
}

/// A generator for the test's choices.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

macro_rules! race {
    ($name:ident, $writer:ty, $addr:ty, $width:literal, $lens:expr) => {
        /// The writer keeps a chain of nested prefixes around one address, and changes one of them at a time:
        /// before, it says which answer will be right next to those that were. Readers look the address up.
        #[test]
        fn $name() {
            let counters = Arc::new(Counters::default());
            let mut writer = <$writer>::new(Arc::clone(&counters) as Arc<dyn GracePeriod>).unwrap();
            let fib = writer.reader();
            let target: $addr = <$addr>::MAX / 7;
            // Numbers of the changes begun and ended; answers[n % LOG] is the right answer after change n.
            let answers: Vec<AtomicU64> = (0..LOG).map(|_| AtomicU64::new(0)).collect();
            let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
            let stop = AtomicBool::new(false);
            let checked = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for reader in 0..READERS {
                    let (fib, counters, answers) = (&fib, &counters, &answers);
                    let (begun, ended, stop, checked) = (&begun, &ended, &stop, &checked);
                    scope.spawn(move || {
                        let mut bursts = 0;
                        let addrs = [target; 8];
                        while !stop.load(Ordering::Relaxed) {
                            let first = ended.load(Ordering::SeqCst);
                            let mut out = [GroupId(u32::MAX); 8];
                            if reader == 0 {
                                fib.lookup_batch(&addrs, &mut out);
                            } else {
                                out.fill(fib.lookup(target));
                            }
                            let last = begun.load(Ordering::SeqCst);
                            if last - first < LOG as u64 / 2 {
                                let right: Vec<u32> = (first..=last)
                                    .map(|change| {
                                        answers[change as usize % LOG].load(Ordering::SeqCst) as u32
                                    })
                                    .collect();
                                // The log may have gone round since; then it says nothing.
                                if begun.load(Ordering::SeqCst) - first < LOG as u64 - 1 {
                                    for group in out {
                                        assert!(right.contains(&group.0), "{group:?} is not in {right:?}");
                                    }
                                    checked.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                            bursts += 1;
                            counters.0[reader].store(bursts, Ordering::Release);
                        }
                        // A reader that has gone holds nothing.
                        counters.0[reader].store(u64::MAX / 2, Ordering::Release);
                    });
                }
                let mut chain = [None::<u32>; $width + 1];
                let mut state = 0x1234_5678_9ABC_DEF1;
                let lens: &[u8] = &$lens;
                let mask = |len: u8| <$addr>::MAX.checked_shl($width - u32::from(len)).unwrap_or(0);
                let changes = if cfg!(miri) { 60 } else { 120_000u64 };
                for change in 1..=changes {
                    let pick = next(&mut state);
                    // Neighbours come and go too, so that blocks are freed and used again.
                    if pick % 3 == 0 {
                        let bit = 1 + (pick >> 8) % 20;
                        let near = target ^ (1 << bit);
                        let group = GroupId((pick >> 40) as u32 % 1000 + 1);
                        let len = $width - (pick >> 32) as u8 % 3;
                        if bit > 2 && pick % 2 == 0 {
                            writer.insert(near & mask(len), len, group).unwrap();
                        } else if bit > 2 {
                            writer.remove(near & mask(len), len).unwrap();
                        }
                    }
                    let len = lens[(pick >> 16) as usize % lens.len()];
                    // Mostly small groups; now and then one that takes a cell.
                    let group = (change as u32 * 16 + u32::from(pick % 5 == 0) * 0x40_0000) % MAX_GROUP.0;
                    let new = (pick % 4 != 1).then_some(group);
                    chain[usize::from(len)] = new;
                    let right = chain.iter().rev().find_map(|&group| group).unwrap_or(0);
                    answers[change as usize % LOG].store(u64::from(right), Ordering::SeqCst);
                    begun.store(change, Ordering::SeqCst);
                    match new {
                        Some(group) => writer.insert(target & mask(len), len, GroupId(group)).unwrap(),
                        None => writer.remove(target & mask(len), len).unwrap(),
                    };
                    ended.store(change, Ordering::SeqCst);
                }
                while !cfg!(miri) && checked.load(Ordering::Relaxed) < 1000 {
                    std::thread::yield_now();
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
    };
}

race!(ipv4_answers_are_never_wrong, Fib4Writer, u32, 32, [0, 0, 9, 14, 18, 19, 22, 24, 25, 28, 32]);
race!(
    ipv6_answers_are_never_wrong,
    Fib6Writer,
    u128,
    128,
    [0, 0, 13, 20, 28, 29, 32, 44, 48, 60, 61, 64, 93, 125, 128]
);
