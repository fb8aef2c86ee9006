//! How many ICMP errors we send (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 (f)): token buckets for each
//! interface and each destination, of each kind of error, in bounded memory.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use dataplane::ids::SubIfId;

use super::Fault;
use crate::config::model::Icmp;

/// Destinations that are remembered at one time. One more takes the place of another, which starts anew then; the
/// interface's bucket still holds.
const DESTINATIONS: usize = 4096;

/// A token bucket that holds a second's worth.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: f64,
    last: Instant,
}

impl Bucket {
    /// With a second's worth in it, at `rate` tokens a second.
    pub fn full(rate: u32, now: Instant) -> Self {
        Self { tokens: f64::from(rate), last: now }
    }

    /// Adds what was earned since the last time. Whether there is a token.
    pub fn has_token(&mut self, rate: u32, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.last).as_secs_f64() * f64::from(rate);
        self.tokens = (self.tokens + earned).min(f64::from(rate));
        self.last = now;
        self.tokens >= 1.0
    }

    /// Takes a token that is there.
    pub fn take(&mut self) {
        self.tokens -= 1.0;
    }
}

/// The limits of all our errors.
pub struct Limiter {
    rates: Icmp,
    interfaces: Vec<[Bucket; Fault::KINDS]>,
    /// By hash; with the whole hash, to tell those apart that share a place.
    destinations: Box<[(u64, Bucket)]>,
    /// Keyed, so that nobody can choose addresses that share places.
    hasher: RandomState,
}

impl Limiter {
    /// The limits for so many sub-interfaces.
    pub fn new(rates: Icmp, sub_interfaces: usize, now: Instant) -> Self {
        Self {
            rates,
            interfaces: vec![[Bucket::full(rates.per_interface, now); Fault::KINDS]; sub_interfaces],
            destinations: vec![(0, Bucket::full(rates.per_destination, now)); DESTINATIONS].into(),
            hasher: RandomState::new(),
        }
    }

    /// Whether an error about `fault` may be sent to `destination` for what came in on `sub_if`. If so, it counts.
    pub fn allows(&mut self, sub_if: SubIfId, fault: Fault, destination: IpAddr, now: Instant) -> bool {
        let Icmp { per_interface, per_destination, .. } = self.rates;
        let Some(kinds) = self.interfaces.get_mut(usize::from(sub_if.0)) else { return false };
        let interface = &mut kinds[fault.kind()];
        if per_interface > 0 && !interface.has_token(per_interface, now) {
            return false;
        }
        if per_destination > 0 {
            let hash = hash(&self.hasher, sub_if, fault, destination);
            let (owner, bucket) = &mut self.destinations[hash as usize % DESTINATIONS];
            if *owner != hash {
                (*owner, *bucket) = (hash, Bucket::full(per_destination, now));
            }
            if !bucket.has_token(per_destination, now) {
                return false;
            }
            bucket.take();
        }
        interface.take();
        true
    }
}

/// What tells destinations apart: of IPv6 the network.
fn hash(hasher: &RandomState, sub_if: SubIfId, fault: Fault, destination: IpAddr) -> u64 {
    let whom = match destination {
        IpAddr::V4(v4) => (4, u64::from(v4.to_bits())),
        IpAddr::V6(v6) => (6, (v6.to_bits() >> 64) as u64),
    };
    hasher.hash_one((sub_if.0, fault.kind(), whom))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const RATES: Icmp = Icmp { per_interface: 100, per_destination: 10, prohibited: true };
    const A: SubIfId = SubIfId(0);
    const B: SubIfId = SubIfId(1);

    fn host(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn one_destination_gets_its_share_and_leaves_the_others_theirs() {
        let now = Instant::now();
        let asked = [(Fault::TimeExceeded, 1), (Fault::TimeExceeded, 2), (Fault::TooBig(1400), 1)];
        // Two of them share a place once in a thousand times.
        let mut limiter = std::iter::repeat_with(|| Limiter::new(RATES, 2, now))
            .find(|limiter| {
                let place = |(fault, n)| hash(&limiter.hasher, A, fault, host(n)) as usize % DESTINATIONS;
                asked.map(place).iter().collect::<std::collections::HashSet<_>>().len() == asked.len()
            })
            .unwrap();
        let sent = (0..50).filter(|_| limiter.allows(A, Fault::TimeExceeded, host(1), now)).count();
        assert_eq!(sent, 10);
        assert!(limiter.allows(A, Fault::TimeExceeded, host(2), now));
        assert!(limiter.allows(A, Fault::TooBig(1400), host(1), now), "path-MTU discovery has its own");
        let later = now + Duration::from_millis(500);
        let sent = (0..50).filter(|_| limiter.allows(A, Fault::TimeExceeded, host(1), later)).count();
        assert_eq!(sent, 5);
    }

    #[test]
    fn a_host_has_one_share_for_all_its_ipv6_addresses() {
        let now = Instant::now();
        let mut limiter = Limiter::new(RATES, 1, now);
        let address = |n: u128| IpAddr::V6((0x2001_0db8 << 96 | n).into());
        let sent = (0..50).filter(|n| limiter.allows(A, Fault::NoRoute, address(*n), now)).count();
        assert_eq!(sent, 10);
        assert!(limiter.allows(A, Fault::NoRoute, address(1 << 64), now));
    }

    #[test]
    fn many_destinations_share_the_interface_and_refusals_cost_it_nothing() {
        let now = Instant::now();
        let mut limiter = Limiter::new(RATES, 2, now);
        let sent = (0..50).filter(|_| limiter.allows(A, Fault::NoRoute, host(0), now)).count();
        assert_eq!(sent, 10);
        let sent = (1..100_000).filter(|n| limiter.allows(A, Fault::NoRoute, host(*n), now)).count();
        assert_eq!(sent, 90);
        assert!(limiter.allows(B, Fault::NoRoute, host(0), now), "the other interface has its own");
        assert!(!limiter.allows(SubIfId(2), Fault::NoRoute, host(0), now), "there is no third");
    }

    #[test]
    fn zero_is_no_limit() {
        let now = Instant::now();
        let mut limiter = Limiter::new(Icmp { per_interface: 0, per_destination: 0, ..RATES }, 1, now);
        assert!((0..10_000).all(|_| limiter.allows(A, Fault::NoRoute, host(0), now)));
    }
}
