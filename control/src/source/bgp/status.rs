//! What can be told about a peer: its status for output, and the counters behind it.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::protocol::{Negotiated, Notification, State};
use crate::config::model::{AnnounceLimits, BgpMode, MaxPrefix, MaxPrefixAction};

/// How many different NOTIFICATIONs are counted each by its code; a peer that invents more is lumped together.
const MAX_CODES: usize = 32;

/// One peer, as `turnpike show bgp` tells it. Counters are since the start of the program.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PeerStatus {
    /// Its number as a source.
    pub source: u32,
    /// Its name in the configuration.
    pub name: String,
    /// The address it connects from.
    pub address: IpAddr,
    /// The namespace it connects in, if not ours.
    pub namespace: Option<String>,
    /// Its AS.
    pub asn: u32,
    /// Number of the VRF that its routes go to.
    pub vrf: u16,
    /// Who connects.
    pub mode: BgpMode,
    /// State of its session.
    pub state: State,
    /// Since when it is in that state, in seconds since 1970.
    pub since: u64,
    /// Seconds since the session was established.
    pub uptime: Option<u64>,
    /// Whether we made the connection, if there is one.
    pub connected_by_us: Option<bool>,
    /// What was negotiated, while a session is open.
    pub negotiated: Option<Negotiated>,
    /// Prefixes it has announced and not withdrawn in this session; with add-path each path counts.
    pub prefixes: u64,
    /// How much of its limit that is.
    pub max_prefix: MaxPrefixStatus,
    /// Messages received.
    pub messages: u64,
    /// UPDATEs received.
    pub updates: u64,
    /// Prefixes announced.
    pub announced: u64,
    /// Prefixes withdrawn, those of malformed UPDATEs included.
    pub withdrawn: u64,
    /// Prefixes announced and withdrawn a second, over the last ten seconds.
    pub prefixes_per_second: u64,
    /// Prefixes that were read and are not applied yet.
    pub waiting: usize,
    /// How long the oldest of them has waited, or what was applied last had, in milliseconds.
    pub lag_ms: u64,
    /// The longest of the last ten seconds or so.
    pub max_lag_ms: u64,
    /// Memory of its routes' attributes.
    pub attribute_bytes: usize,
    /// The filter on what it announces.
    pub import: Option<FilterHits>,
    /// What it is told in this session.
    pub told: Told,
    /// UPDATEs with an attribute that was malformed (RFC 7606).
    pub malformed: u64,
    /// UPDATEs with our own AS in the path.
    pub looped: u64,
    /// Times that we asked it for all its routes (RFC 2918).
    pub refreshes: u64,
    /// Sessions that were established.
    pub established: u64,
    /// Its connections that were refused, since it had one already.
    pub rejected: u64,
    /// Calls of ours that it did not take.
    pub failed_calls: u64,
    /// NOTIFICATIONs sent.
    pub notifications_sent: Vec<NotificationCount>,
    /// NOTIFICATIONs received.
    pub notifications_received: Vec<NotificationCount>,
    /// Why the last session, or attempt at one, ended.
    pub last_error: Option<String>,
}

/// How often each rule of a filter decided, in prefixes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FilterHits {
    /// The filter's name.
    pub filter: String,
    /// For each rule, in order.
    pub rules: Vec<u64>,
    /// What no rule matched.
    pub rest: u64,
}

/// What a peer is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Told {
    /// IPv4 prefixes announced to it.
    pub ipv4: usize,
    /// IPv6 prefixes announced to it.
    pub ipv6: usize,
    /// IPv4 prefixes that were refused.
    pub ipv4_refused: usize,
    /// IPv6 prefixes that were refused.
    pub ipv6_refused: usize,
    /// Why, for the first of them.
    pub alarm: Option<String>,
    /// What its circuit takes.
    pub limits: Option<AnnounceLimits>,
}

/// A peer's limits of prefixes, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MaxPrefixStatus {
    /// IPv4 prefixes.
    pub ipv4: u64,
    /// Their limit.
    pub ipv4_limit: Option<u32>,
    /// IPv6 prefixes.
    pub ipv6: u64,
    /// Their limit.
    pub ipv6_limit: Option<u32>,
    /// Sessions that came over the threshold of the warning.
    pub warnings: u64,
    /// `warn`, `shut` or `restart`.
    pub action: &'static str,
    /// Whether it is kept out.
    pub kept_out: bool,
}

/// How often a NOTIFICATION was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NotificationCount {
    /// Which; 0/0 stands for all beyond the first 32 kinds.
    #[serde(flatten)]
    pub notification: Notification,
    /// How often.
    pub count: u64,
}

/// The counters of a peer. Written by its session threads, read by whoever shows them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub messages: Counter,
    pub updates: Counter,
    pub announced: Counter,
    pub withdrawn: Counter,
    pub malformed: Counter,
    pub looped: Counter,
    pub established: Counter,
    pub rejected: Counter,
    pub refreshes: Counter,
    pub prefix_warnings: Counter,
    pub failed_calls: Counter,
    /// Of the established session.
    pub ipv4: Counter,
    pub ipv6: Counter,
    pub sent: NotificationCounts,
    pub received: NotificationCounts,
}

impl Counters {
    pub(super) fn max_prefix(&self, limits: &MaxPrefix, kept_out: bool) -> MaxPrefixStatus {
        MaxPrefixStatus {
            ipv4: self.ipv4.get(),
            ipv4_limit: limits.ipv4,
            ipv6: self.ipv6.get(),
            ipv6_limit: limits.ipv6,
            warnings: self.prefix_warnings.get(),
            action: match limits.action {
                MaxPrefixAction::Warn => "warn",
                MaxPrefixAction::Shut => "shut",
                MaxPrefixAction::Restart(_) => "restart",
            },
            kept_out,
        }
    }
}

/// A number that is only looked at.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn set(&self, n: usize) {
        self.0.store(n as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often each NOTIFICATION was seen.
#[derive(Debug, Default)]
pub(super) struct NotificationCounts(Mutex<Vec<NotificationCount>>);

impl NotificationCounts {
    pub(super) fn add(&self, notification: Notification) {
        let mut counts = super::lock(&self.0);
        let known =
            |counts: &[NotificationCount], it| counts.iter().position(|known| known.notification == it);
        let other = Notification { code: 0, subcode: 0 };
        let wanted = match known(&counts, notification) {
            None if counts.len() >= MAX_CODES => other,
            _ => notification,
        };
        match known(&counts, wanted) {
            Some(index) => counts[index].count += 1,
            None => counts.push(NotificationCount { notification: wanted, count: 1 }),
        }
    }

    pub(super) fn get(&self) -> Vec<NotificationCount> {
        super::lock(&self.0).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_notification_are_bounded() {
        let counts = NotificationCounts::default();
        for code in 0..=255 {
            for subcode in 0..4 {
                counts.add(Notification { code, subcode });
            }
        }
        let counts = counts.get();
        assert!(counts.len() <= MAX_CODES + 1);
        assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), 1024);
    }
}
