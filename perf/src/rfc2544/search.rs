//! The searches: the highest rate, and the longest burst, without more loss than allowed.

use crate::traffic::Outcome;

/// When a rate counts as carried.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Share of the frames that may be lost, 0 to 1.
    pub loss: f64,
    /// The search ends when the bounds are this close, as a share of the upper one.
    pub resolution: f64,
    /// How often a rate is tried before it counts as too high.
    pub attempts: u32,
    /// Frames that the tester's receive queues hold. A trial in which the tester did not look at them for longer than
    /// they last, and which failed, says nothing: it is repeated.
    pub queue: f64,
}

/// What keeps the rate from being higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The device: at a higher rate it loses frames.
    Device,
    /// The tester, which cannot send faster: the device may do more.
    Tester,
    /// The link, or the highest rate that the user allows.
    Rate,
}

impl Limit {
    /// As it stands in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Tester => "tester",
            Self::Rate => "rate",
        }
    }
}

/// The result of a search for the highest rate.
#[derive(Clone, Debug)]
pub struct Found {
    /// Frames a second on each sending port; 0 when even the least rate loses too much.
    pub rate: f64,
    /// The trial at that rate.
    pub outcome: Option<Outcome>,
    /// What it ended by.
    pub limit: Limit,
    /// Trials that were run.
    pub trials: u32,
    /// Those of them that failed while the tester was kept from its work: others ran on its core.
    pub disturbed: u32,
}

/// The tester counts as too slow for a rate when it misses more than this share of the frames.
pub const SHORTFALL: f64 = 0.01;
/// A tester that misses more than this share at a rate that it was seen to reach was kept from its work.
const KEPT: f64 = 0.05;
/// A trial that loses by so much more than allowed is not repeated.
const CLEARLY: f64 = 0.02;
/// Trials that may be repeated in a search since the tester was disturbed,
const DISTURBANCES: u32 = 8;
/// and of those at the highest rate, which may just be more than the tester can.
const AT_THE_TOP: u32 = 2;
/// After so many halvings without a single good trial there is no rate to find.
const HOPELESS: u32 = 20;

/// The highest rate up to `max` (on each of `senders` ports) with no more than the allowed loss: by bisection, where the
/// first guess below `max` is what the device delivered there.
///
/// # Errors
/// Those of a trial.
pub fn throughput<E>(
    max: f64,
    senders: usize,
    goal: &Goal,
    mut trial: impl FnMut(f64) -> Result<Outcome, E>,
) -> Result<Found, E> {
    let senders = senders.max(1) as f64;
    let mut found = Found { rate: 0.0, outcome: None, limit: Limit::Device, trials: 0, disturbed: 0 };
    let (mut low, mut high) = (0.0, max);
    let (mut next, mut step) = (max, 0.01_f64);
    for _ in 0..HOPELESS {
        let mut passed = None;
        let mut best_delivered: f64 = 0.0;
        let mut failed = 0;
        while failed < goal.attempts.max(1) {
            let outcome = trial(next)?;
            found.trials += 1;
            best_delivered = best_delivered.max(outcome.delivered() / senders);
            let carried = outcome.total.received > 0 && outcome.total.loss() <= goal.loss;
            // Too slow at a rate below one that it reached, or far below one that it should reach: it was kept from its
            // work, and a device that was asked for less than the rate has shown nothing.
            let (tolerated, repeats) =
                if high < max { (SHORTFALL, DISTURBANCES) } else { (KEPT, AT_THE_TOP) };
            let slowed = outcome.shortfall() > tolerated && found.disturbed < repeats;
            let blind = outcome.longest_gap * next * senders > goal.queue;
            if (carried && slowed) || (!carried && blind && found.disturbed < DISTURBANCES) {
                found.disturbed += 1;
            } else if carried {
                passed = Some(outcome);
                break;
            } else if outcome.total.loss() > goal.loss + CLEARLY {
                break;
            } else {
                failed += 1;
            }
        }
        if let Some(outcome) = passed {
            let too_slow = outcome.shortfall() > SHORTFALL;
            low = if too_slow { outcome.offered() / senders } else { next };
            found.rate = low;
            found.outcome = Some(outcome);
            if high >= max && (too_slow || next >= max) {
                found.limit = if too_slow { Limit::Tester } else { Limit::Rate };
                return Ok(found);
            }
        } else {
            high = next;
        }
        if high - low <= goal.resolution * high {
            return Ok(found);
        }
        let guess = best_delivered * 0.999;
        next = if low > 0.0 {
            // What was delivered under load is near the limit: up in growing steps, then by bisection.
            step = (step * 2.0).min(0.5);
            f64::midpoint(low, high).min(low * (1.0 + step))
        } else if high >= max && guess > 0.0 && guess < high * (1.0 - goal.resolution) {
            guess
        } else {
            // Nothing has passed yet: down in growing steps.
            step = (step * 2.0).min(0.5);
            high * (1.0 - step)
        };
    }
    Ok(found)
}

/// The longest burst of at most `max` frames that comes back whole. `true` beside it when `max` itself did.
///
/// # Errors
/// Those of a trial.
pub fn burst<E>(
    max: u64,
    start: u64,
    mut whole: impl FnMut(u64) -> Result<bool, E>,
) -> Result<(u64, bool), E> {
    if whole(max)? {
        return Ok((max, true));
    }
    let (mut low, mut high) = (0, max);
    // From a good start the bounds close in by doubling or halving; then by bisection.
    let mut next = start.clamp(1, max);
    while next > low && next < high {
        if whole(next)? {
            low = next;
            next = next.saturating_mul(2);
        } else {
            high = next;
            next /= 2;
        }
        if low > 0 && high < max {
            break;
        }
    }
    while high - low > (high / 100).max(1) {
        let middle = u64::midpoint(low, high);
        if whole(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok((low, false))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::traffic::tests::{Device, Fault, Sim, flow};
    use crate::traffic::{Length, Live, Load, Sizes, Traffic, run};

    /// Trials of 5 ms through a simulated device.
    fn trials(sim: &mut Sim) -> impl FnMut(f64) -> Result<Outcome, Infallible> {
        let traffic = Traffic::new(vec![flow(0, false, 0), flow(1, false, 0)], Sizes::Fixed(64)).unwrap();
        let mut number = 0;
        move |rate| {
            number += 1;
            let load = Load {
                rate,
                length: Length::Time(Duration::from_millis(5)),
                drain: Duration::from_millis(2),
                latency_every: None,
                hops: 1,
                receive: 0b11,
                rest: None,
            };
            let stop = AtomicBool::new(false);
            Ok(run(sim, &traffic, number, &load, &stop, &Live::default(), &mut ()))
        }
    }

    fn search(sim: &mut Sim, max: f64, goal: &Goal) -> Found {
        match throughput(max, 1, goal, trials(sim)) {
            Ok(found) => found,
            Err(never) => match never {},
        }
    }

    const EXACT: Goal = Goal { loss: 0.0, resolution: 0.005, attempts: 1, queue: 1024.0 };

    #[test]
    fn finds_what_a_device_forwards() {
        for capacity in [50e3, 1.3e6, 4.7e6] {
            for refuses in [false, true] {
                let mut sim = Sim::new(Device { capacity, queue: 64, refuses, ..Device::default() });
                let found = search(&mut sim, 8e6, &EXACT);
                // A queue of 64 hides a little more than the capacity for the length of a trial.
                let most = capacity + 64.0 / 0.005;
                assert!((capacity * 0.98..most * 1.01).contains(&found.rate), "{} of {capacity}", found.rate);
                assert_eq!(found.limit, Limit::Device);
                assert!(found.trials < 15, "{}", found.trials);
            }
        }
    }

    #[test]
    fn a_fast_device_is_limited_by_the_rate_or_the_tester() {
        let mut sim = Sim::new(Device::default());
        let found = search(&mut sim, 2e6, &EXACT);
        assert_eq!((found.rate, found.limit, found.trials), (2e6, Limit::Rate, 1));
        sim.cost = 400;
        let found = search(&mut sim, 8e6, &EXACT);
        assert_eq!(found.limit, Limit::Tester);
        assert!((1e6..2.5e6).contains(&found.rate), "{}", found.rate);
    }

    #[test]
    fn an_allowed_loss_allows_a_higher_rate() {
        // One frame in a thousand is lost at any rate.
        let lossy = || {
            Sim::new(Device {
                capacity: 2e6,
                queue: 64,
                fault: Box::new(|n| if n % 1000 == 999 { Fault::Drop } else { Fault::None }),
                ..Device::default()
            })
        };
        let none = search(&mut lossy(), 4e6, &EXACT);
        assert!(none.rate < 2e5 && none.limit == Limit::Device, "{none:?}");
        let some = search(&mut lossy(), 4e6, &Goal { loss: 0.002, ..EXACT });
        assert!((1.95e6..2.05e6).contains(&some.rate), "{}", some.rate);
    }

    #[test]
    fn a_dead_device_has_no_throughput() {
        let mut sim = Sim::new(Device { fault: Box::new(|_| Fault::Drop), ..Device::default() });
        let found = search(&mut sim, 1e6, &EXACT);
        assert_eq!((found.rate, found.limit), (0.0, Limit::Device));
        assert!(found.outcome.is_none() && found.trials <= HOPELESS, "{}", found.trials);
    }

    #[test]
    fn a_disturbed_trial_is_repeated() {
        // One burst of loss in the middle of the first trial at full rate: with two attempts it does not count.
        let flaky = || {
            Sim::new(Device {
                fault: Box::new(|n| if (500..520).contains(&n) { Fault::Drop } else { Fault::None }),
                ..Device::default()
            })
        };
        let goal = Goal { attempts: 2, ..EXACT };
        let found = search(&mut flaky(), 1e6, &goal);
        assert_eq!((found.rate, found.trials), (1e6, 2));
        assert!(search(&mut flaky(), 1e6, &EXACT).rate < 1e6);
    }

    #[test]
    fn a_stall_of_the_tester_is_not_held_against_the_device() {
        // While the tester is away for 3 ms at 1 Mpps, a device would lose what does not fit the tester's queue.
        let stalled = || {
            let mut sim = Sim::new(Device {
                fault: Box::new(|n| if (1000..1100).contains(&n) { Fault::Drop } else { Fault::None }),
                ..Device::default()
            });
            sim.stall = Some((1_000_000, 3_000_000));
            sim
        };
        let found = search(&mut stalled(), 1e6, &EXACT);
        assert_eq!((found.rate, found.trials, found.disturbed), (1e6, 2, 1));
        let blind = Goal { queue: 1e9, ..EXACT };
        assert!(search(&mut stalled(), 1e6, &blind).rate < 1e6);
    }

    #[test]
    fn a_tester_that_was_away_has_not_found_its_limit() {
        let mut sim = Sim::new(Device::default());
        sim.stall = Some((1_000_000, 3_000_000));
        let found = search(&mut sim, 1e6, &EXACT);
        assert_eq!((found.rate, found.limit, found.disturbed), (1e6, Limit::Rate, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn jitter_and_delay_do_not_matter(capacity in 2e5..4e6_f64, delay in 0_u64..100_000, jitter in 1_u64..5_000) {
            let mut seed = 1_u64;
            let fault = move |_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                Fault::Delay((seed >> 33) % jitter)
            };
            let mut sim = Sim::new(Device { capacity, queue: 64, delay, fault: Box::new(fault), ..Device::default() });
            let found = search(&mut sim, 6e6, &EXACT);
            let most = (capacity + 64.0 / 0.005) * 1.01;
            prop_assert!((capacity * 0.98..most).contains(&found.rate), "{} of {}", found.rate, capacity);
        }

    }

    proptest! {
        #[test]
        fn the_longest_burst_is_found(limit in 0_u64..3_000_000, max in 1_u64..2_000_000, start in 0_u64..3_000_000) {
            let mut tries = 0;
            let (frames, at_limit) = burst::<Infallible>(max, start, |n| {
                tries += 1;
                Ok(n <= limit)
            }).unwrap();
            prop_assert_eq!(at_limit, max <= limit);
            prop_assert!(frames <= limit.min(max));
            let least = limit.min(max);
            prop_assert!(least - frames <= least / 50 + 1, "{} for {}", frames, least);
            prop_assert!(tries < 64, "{}", tries);
        }
    }
}
