//! Generator and checker against a device that loses, repeats, delays, changes and misdirects frames.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::traffic::check::Observer;
use crate::traffic::{Arrival, Counts, Length, Live, Load, Outcome, Sizes, Traffic, Verdict, run};

fn load(rate: f64, frames: u64) -> Load {
    Load {
        rate,
        length: Length::Frames(frames),
        drain: Duration::from_micros(200),
        latency_every: Some(1),
        hops: 1,
        receive: 0b11,
        rest: None,
    }
}

fn trial(sim: &mut Sim, flows: Vec<Flow>, sizes: Sizes, load: &Load) -> Outcome {
    let traffic = Traffic::new(flows, sizes).unwrap();
    run(sim, &traffic, 1, load, &AtomicBool::new(false), &Live::default(), &mut ())
}

#[test]
fn a_good_device_is_found_good() {
    for (v6, tags, sizes) in [
        (false, 0, Sizes::Fixed(64)),
        (true, 2, Sizes::Imix),
        (false, 1, Sizes::Imix),
        (true, 0, Sizes::Fixed(9018)),
    ] {
        let mut sim = Sim::new(Device::default());
        let outcome = trial(&mut sim, (0..5).map(|n| flow(n, v6, tags)).collect(), sizes, &load(1e6, 1000));
        assert!(outcome.total.is_clean(), "{outcome:?}");
        assert_eq!((outcome.total.sent, outcome.flows[3].received), (1000, 200));
        assert_eq!((outcome.foreign, outcome.refused, outcome.missed), (0, 0, 0));
        let latency = outcome.latency.unwrap();
        assert_eq!(latency.len(), 1000);
        assert!((1000..1200).contains(&latency.value_at_quantile(0.5)), "{}", latency.value_at_quantile(0.5));
    }
}

#[test]
fn what_the_queue_cannot_hold_is_lost_and_refused() {
    for refuses in [false, true] {
        let mut sim = Sim::new(Device { capacity: 1e6, queue: 100, refuses, ..Device::default() });
        let outcome = trial(&mut sim, vec![flow(0, false, 0)], Sizes::Fixed(64), &load(2e6, 10_000));
        let lost = outcome.total.lost();
        assert!((4_800..5_000).contains(&lost), "{lost}");
        assert_eq!(outcome.refused, if refuses { lost } else { 0 });
        assert_eq!(outcome.total.received + lost, 10_000);
    }
}

#[test]
fn a_generator_that_is_too_slow_says_so() {
    let mut sim = Sim::new(Device::default());
    sim.cost = 1000;
    let time = Load { length: Length::Time(Duration::from_millis(10)), ..load(2e6, 0) };
    let outcome = trial(&mut sim, vec![flow(0, false, 0)], Sizes::Fixed(64), &time);
    assert!(outcome.shortfall() > 0.4, "{}", outcome.shortfall());
    assert!(outcome.total.is_clean());
}

#[test]
fn a_stall_of_the_tester_shows() {
    let mut sim = Sim::new(Device::default());
    sim.stall = Some((2_000_000, 3_000_000));
    let time = Load { length: Length::Time(Duration::from_millis(10)), ..load(1e6, 0) };
    let outcome = trial(&mut sim, vec![flow(0, false, 0)], Sizes::Fixed(64), &time);
    assert!((0.003..0.0031).contains(&outcome.longest_gap), "{}", outcome.longest_gap);
    assert!((2_600..2_900).contains(&outcome.missed), "{}", outcome.missed);
}

#[test]
fn a_stopped_trial_ends_with_what_it_has() {
    let mut sim = Sim::new(Device::default());
    let traffic = Traffic::new(vec![flow(0, false, 0)], Sizes::Fixed(64)).unwrap();
    let endless = Load { length: Length::UntilStopped, ..load(1e6, 0) };
    let live = Live::default();
    let outcome = run(&mut sim, &traffic, 1, &endless, &AtomicBool::new(true), &live, &mut ());
    assert!(outcome.stopped && outcome.total.sent > 0 && outcome.total.is_clean(), "{outcome:?}");
    assert_eq!(live.received.into_inner(), outcome.total.received);
}

/// Frames of the last trial that come in this one.
#[test]
fn stragglers_do_not_count() {
    let mut sim = Sim::new(Device { delay: 2_000_000, ..Device::default() });
    let flows = vec![flow(0, false, 0)];
    let lost = trial(&mut sim, flows.clone(), Sizes::Fixed(64), &load(1e6, 100));
    assert_eq!(lost.total.lost(), 100);
    let traffic = Traffic::new(flows, Sizes::Fixed(64)).unwrap();
    let long = Load { drain: Duration::from_millis(10), ..load(1e6, 100) };
    let outcome = run(&mut sim, &traffic, 2, &long, &AtomicBool::new(false), &Live::default(), &mut ());
    assert_eq!((outcome.stragglers, outcome.total.received), (100, 100));
    assert!(outcome.total.is_clean());
}

#[test]
fn a_flow_that_must_not_come_back() {
    let barred = Flow { to: 0, ..flow(1, false, 0) };
    let mut sim = Sim::new(Device::default());
    let outcome = trial(&mut sim, vec![flow(0, false, 0), barred], Sizes::Fixed(64), &load(1e6, 1000));
    assert_eq!(outcome.total, Counts { sent: 500, received: 500, misdirected: 500, ..Counts::default() });
}

#[test]
fn an_observer_sees_the_next_hop() {
    #[derive(Default)]
    struct Seen(Vec<(u32, u64, usize, [u8; 6], usize)>);
    impl Observer for Seen {
        fn arrived(
            &mut self,
            arrival: &Arrival<'_>,
            stamp: Stamp,
            port: usize,
            verdict: Verdict,
            ticks: u64,
        ) {
            assert!(matches!(verdict, Verdict::Good(_)) && ticks > 0);
            let tags = arrival.tags().iter().flatten().count();
            self.0.push((stamp.flow, stamp.seq, port, arrival.dst_mac(), tags));
        }
    }
    let mut sim = Sim::new(Device::default());
    let traffic = Traffic::new(vec![flow(0, false, 1), flow(1, false, 1)], Sizes::Fixed(64)).unwrap();
    let mut seen = Seen::default();
    run(&mut sim, &traffic, 1, &load(1e6, 4), &AtomicBool::new(false), &Live::default(), &mut seen);
    let mac = [2, 0, 0, 0, 0, 1];
    assert_eq!(seen.0, [(0, 0, 1, mac, 1), (1, 0, 1, mac, 1), (0, 1, 1, mac, 1), (1, 1, 1, mac, 1)]);
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        8 => Just(Fault::None),
        1 => Just(Fault::Drop),
        1 => (1_u64..20_000).prop_map(Fault::Duplicate),
        1 => any::<usize>().prop_map(Fault::Corrupt),
        1 => (1_u64..20_000).prop_map(Fault::Delay),
        1 => Just(Fault::WrongPort),
    ]
}

/// Notes flow and sequence number of what is received.
struct Order(Rc<RefCell<Vec<(u32, u64)>>>);

impl Observer for Order {
    fn arrived(&mut self, _: &Arrival<'_>, stamp: Stamp, _: usize, verdict: Verdict, _: u64) {
        if matches!(verdict, Verdict::Good(_)) {
            self.0.borrow_mut().push((stamp.flow, stamp.seq));
        }
    }
}

proptest! {
    /// Whatever mix of faults: each kind is counted exactly as often as the device did it.
    #[test]
    fn faults_are_counted_as_they_were_made(
        faults in prop::collection::vec(fault(), 50..400),
        flows in 1_u16..9,
        v6: bool,
        tags in 0_usize..3,
        imix: bool,
    ) {
        let plan = faults.clone();
        let arrivals = Rc::new(RefCell::new(Vec::new()));
        let mut sim = Sim::new(Device { fault: Box::new(move |n| plan[n as usize]), ..Device::default() });
        let flows = (0..flows).map(|n| flow(n, v6, tags)).collect::<Vec<_>>();
        let sizes = if imix { Sizes::Imix } else { Sizes::Fixed(128) };
        let traffic = Traffic::new(flows, sizes).unwrap();
        let frames = faults.len() as u64;
        let mut order = Order(Rc::clone(&arrivals));
        let stop = AtomicBool::new(false);
        let outcome = run(&mut sim, &traffic, 1, &load(1e6, frames), &stop, &Live::default(), &mut order);
        let made = |name| sim.faults.get(name).copied().unwrap_or(0);
        let total = outcome.total;
        prop_assert_eq!(total.sent, frames);
        prop_assert_eq!(total.duplicates, made("duplicate"));
        prop_assert_eq!(total.corrupt, made("corrupt"));
        prop_assert_eq!(total.misdirected, made("wrong port"));
        prop_assert_eq!(total.lost(), made("drop") + made("corrupt") + made("wrong port"));
        prop_assert_eq!((total.stale, outcome.foreign), (0, 0));
        // Reordered: of its flow, a frame that was sent later came before.
        let mut highest = std::collections::BTreeMap::new();
        let mut reordered = 0;
        for (flow, seq) in arrivals.borrow().iter() {
            let top = highest.entry(*flow).or_insert(*seq);
            reordered += u64::from(*seq < *top);
            *top = (*top).max(*seq);
        }
        prop_assert_eq!(total.reordered, reordered);
        let sum = outcome.flows.iter().map(|flow| flow.received).sum::<u64>();
        prop_assert_eq!(sum, total.received);
    }
}
