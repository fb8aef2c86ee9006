//! turnpike's counters, as `turnpike show ports|drops|workers --json` tells them, and the sums that must hold.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::router::Router;
use crate::wait;

/// How long the counters may go on moving after the traffic has ended.
const SETTLE: Duration = Duration::from_secs(30);

/// One port's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Packets received.
    pub received: u64,
    /// Of them, sent on.
    pub forwarded: u64,
    /// Of them, handed to the control thread.
    pub punted: u64,
    /// Of them, dropped.
    pub dropped: u64,
    /// Dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Punted, by reason.
    pub punts: BTreeMap<String, u64>,
    /// Packets sent from here.
    pub sent: u64,
    /// Packets that the device dropped before turnpike saw them.
    pub missed: u64,
}

impl Port {
    /// Packets that were dropped or handed to the control thread for this reason: a flood is in part one, in part the
    /// other.
    pub fn ended(&self, reason: &str) -> u64 {
        [&self.drops, &self.punts].iter().filter_map(|by| by.get(reason)).sum()
    }
}

/// All ports' counters at one time, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(pub BTreeMap<String, Port>);

impl Counters {
    /// Reads them, as they are right now.
    #[track_caller]
    pub fn read(router: &Router) -> Self {
        let (ports, drops) = (router.show("ports"), router.show("drops"));
        let mut all = BTreeMap::new();
        for port in ports.as_array().expect("ports are a list") {
            let figure =
                |key: &str| port[key].as_u64().unwrap_or_else(|| panic!("ports have no `{key}`: {port}"));
            let name = port["name"].as_str().expect("ports have names").to_owned();
            let reasons =
                drops["ports"].as_array().and_then(|d| d.iter().find(|d| d["port"] == name.as_str()));
            let reasons = reasons.unwrap_or_else(|| panic!("drops do not know the port {name}: {drops}"));
            let counts = Port {
                received: figure("received"),
                forwarded: figure("forwarded"),
                punted: figure("punted"),
                dropped: figure("dropped"),
                drops: by_reason(&reasons["dropped"]),
                punts: by_reason(&reasons["punted"]),
                sent: figure("sent"),
                missed: figure("missed"),
            };
            all.insert(name, counts);
        }
        Self(all)
    }

    /// Reads them once they stand still and add up; panics when they do not in time.
    #[track_caller]
    pub fn settled(router: &Router) -> Self {
        let mut last = Self::read(router);
        let mut wrong = String::new();
        let found = wait::within(SETTLE, &mut || {
            let now = Self::read(router);
            wrong = if now == last { now.unequal() } else { format!("still moving: {now:?}") };
            last = now;
            wrong.is_empty().then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("{wrong}"))
    }

    /// Waits until the counters of every port add up at one moment while traffic goes on, and returns them.
    #[track_caller]
    pub fn adding_up(router: &Router) -> Self {
        let mut wrong = String::new();
        let found = wait::within(SETTLE, &mut || {
            let now = Self::read(router);
            wrong = now.unequal();
            wrong.is_empty().then_some(now)
        });
        found.unwrap_or_else(|| panic!("{wrong}"))
    }

    /// In words, which sums do not hold; empty when all do.
    fn unequal(&self) -> String {
        let mut text = String::new();
        for (name, p) in &self.0 {
            if p.received != p.forwarded + p.punted + p.dropped {
                text += &format!(
                    "{name}: received {} is not forwarded {} + punted {} + dropped {}\n",
                    p.received, p.forwarded, p.punted, p.dropped
                );
            }
            let (drops, punts) = (p.drops.values().sum::<u64>(), p.punts.values().sum::<u64>());
            if (drops, punts) != (p.dropped, p.punted) {
                text += &format!(
                    "{name}: reasons sum up to {drops} drops of {} and {punts} punts of {}\n",
                    p.dropped, p.punted
                );
            }
        }
        text
    }

    /// What one port counted since `before`; reasons that did not move are left out.
    #[track_caller]
    pub fn since(&self, before: &Self, port: &str) -> Port {
        let (now, then) = (&self.0[port], &before.0[port]);
        let moved = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            let by = |(reason, count): (&String, &u64)| {
                let more = count - then.get(reason).copied().unwrap_or(0);
                (more > 0).then(|| (reason.clone(), more))
            };
            now.iter().filter_map(by).collect()
        };
        Port {
            received: now.received - then.received,
            forwarded: now.forwarded - then.forwarded,
            punted: now.punted - then.punted,
            dropped: now.dropped - then.dropped,
            drops: moved(&now.drops, &then.drops),
            punts: moved(&now.punts, &then.punts),
            sent: now.sent - then.sent,
            missed: now.missed - then.missed,
        }
    }
}

fn by_reason(counts: &Value) -> BTreeMap<String, u64> {
    let counts = counts.as_object().expect("reasons with counts");
    counts.iter().filter_map(|(reason, count)| Some((reason.clone(), count.as_u64()?))).collect()
}

/// Packet buffers of the pool: (size, free).
#[track_caller]
pub fn pool(router: &Router) -> (u64, u64) {
    let shown = router.show("workers");
    let figure =
        |key: &str| shown[key].as_u64().unwrap_or_else(|| panic!("workers have no `{key}`: {shown}"));
    (figure("pool_size"), figure("pool_available"))
}

/// Waits until as many buffers are free as were before, and panics when they do not come back.
#[track_caller]
pub fn assert_pool_refills(router: &Router, before: (u64, u64)) {
    let mut last = before;
    let back = wait::within(SETTLE, &mut || {
        last = pool(router);
        (last == before).then_some(())
    });
    assert!(back.is_some(), "packet buffers leaked: (size, free) was {before:?} and is {last:?}");
}
