//! `show sources`: what each route source does, and how fast.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dataplane::ids::VrfId;

use super::control::Control;
use crate::api::view;
use crate::rib::SourceView;
use crate::source::SourceStatus;
use crate::source::bgp::BgpSpeaker;

/// How long a rate is taken over.
const WINDOW: Duration = Duration::from_secs(1);

/// Changes a second of each source, by its number.
#[derive(Debug, Default)]
pub struct Rates {
    since: Option<Instant>,
    known: HashMap<u32, (u64, f64)>,
}

impl Rates {
    /// Takes in how far the sources are; does nothing until the window is over.
    pub fn sample(&mut self, now: Instant, sources: &[SourceStatus]) {
        let elapsed = self.since.map(|since| now.saturating_duration_since(since));
        if elapsed.is_some_and(|elapsed| elapsed < WINDOW) {
            return;
        }
        self.since = Some(now);
        for source in sources {
            let changes = source.announced + source.withdrawn;
            let known = self.known.entry(source.id).or_insert((changes, 0.0));
            let seconds = elapsed.unwrap_or(WINDOW).as_secs_f64();
            *known = (changes, changes.saturating_sub(known.0) as f64 / seconds);
        }
    }

    fn of(&self, source: u32) -> f64 {
        self.known.get(&source).map_or(0.0, |(_, rate)| *rate)
    }
}

impl Control {
    /// What the sources with threads of their own say.
    pub(super) fn source_status(&self) -> Vec<SourceStatus> {
        let mut all = self.bgp.as_ref().map(sessions).unwrap_or_default();
        for (session, feed) in all.iter_mut().zip(&self.bgp_feeds) {
            let queue = feed.stats();
            session.waiting = queue.prefixes as u64;
            session.lag_us = Some(queue.lag.as_micros() as u64);
        }
        all.extend(self.tables.status());
        all
    }

    /// All sources: the router's own by VRF, then BGP sessions, then others' tables.
    pub(super) fn source_views(&self) -> Vec<view::Source> {
        let dynamic = self.source_status();
        let in_rib: Vec<SourceView> = self.rib.sources().collect();
        let own = in_rib.iter().filter(|view| dynamic.iter().all(|status| status.id != view.source));
        let own = own.map(|view| view::Source {
            name: view.kind.to_owned(),
            kind: view.kind.to_owned(),
            vrf: self.vrf_name(VrfId(view.vrf)),
            up: true,
            distance: view.distance,
            routes: (view.ipv4 + view.ipv6) as u64,
            ipv4: view.ipv4 as u64,
            ipv6: view.ipv6 as u64,
            refused: view.refused_defaults,
            ..view::Source::default()
        });
        own.chain(dynamic.iter().map(|status| self.source_view(status, &in_rib))).collect()
    }

    fn source_view(&self, status: &SourceStatus, in_rib: &[SourceView]) -> view::Source {
        let of_it = || in_rib.iter().filter(|view| view.source == status.id);
        view::Source {
            name: status.name.clone(),
            kind: status.kind.name().to_owned(),
            vrf: self.vrf_name(VrfId(status.vrf)),
            up: status.up,
            distance: self.rib.distance(status.kind),
            routes: of_it().map(|view| (view.ipv4 + view.ipv6) as u64).sum(),
            ipv4: of_it().map(|view| view.ipv4 as u64).sum(),
            ipv6: of_it().map(|view| view.ipv6 as u64).sum(),
            stale: of_it().map(|view| (view.ipv4_stale + view.ipv6_stale) as u64).sum(),
            changes_per_second: self.rates.of(status.id),
            announced: status.announced,
            withdrawn: status.withdrawn,
            waiting: status.waiting,
            lag_ms: status.lag_us.map(|lag| lag as f64 / 1e3),
            refused: status.refused + of_it().map(|view| view.refused_defaults).sum::<u64>(),
            malformed: status.malformed,
            starts: status.starts,
            last_error: status.last_error.clone(),
        }
    }
}

/// The BGP sessions as sources.
fn sessions(speaker: &BgpSpeaker) -> Vec<SourceStatus> {
    crate::source::RouteSource::status(speaker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceKind;

    #[test]
    fn a_rate_is_of_the_last_window() {
        let start = Instant::now();
        let mut rates = Rates::default();
        let mut status = SourceStatus::new(7, SourceKind::Fpm, VrfId(0));
        rates.sample(start, &[status.clone()]);
        (status.announced, status.withdrawn) = (300, 100);
        rates.sample(start + WINDOW / 2, &[status.clone()]);
        assert_eq!(rates.of(7).total_cmp(&0.0), std::cmp::Ordering::Equal, "the window is not over");
        rates.sample(start + WINDOW * 2, &[status.clone()]);
        assert_eq!(rates.of(7).round() as u64, 200);
        rates.sample(start + WINDOW * 3, &[status]);
        assert_eq!(rates.of(7).round() as u64, 0);
    }
}
