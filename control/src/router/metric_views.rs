//! What the metrics tell, from what `show` has.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use dataplane::ids::VrfId;
use dataplane::verdict::PuntReason;

use super::control::Control;
use super::neighbours::State;
use crate::api::view::Interface;
use crate::metrics::{Fib, Notifications, Session, SessionFamily, Snapshot};
use crate::source::bgp::{BgpSpeaker, NotificationCount, PeerStatus};

/// Sub-interfaces on a page: so few that the control thread is not held up.
const PAGE: usize = 256;

impl Control {
    /// All of it but sub-interfaces. Its cost does not depend on how many routes there are.
    pub(super) fn metrics(&self) -> Snapshot {
        let mut neighbours: BTreeMap<_, _> =
            State::ALL.map(|state| (state.name().to_owned(), 0)).into_iter().collect();
        let mut held = 0;
        for neighbour in self.neighbours.views() {
            *neighbours.entry(self.neighbour_state(&neighbour).to_owned()).or_default() += 1;
            held += neighbour.held;
        }
        let budget = |reason: &PuntReason| (reason.name().to_owned(), self.config.punt[reason.index()].rate);
        let sessions = self.bgp.as_ref().map(BgpSpeaker::status).unwrap_or_default();
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dpdk: dpdk_sys::DPDK_VERSION.to_owned(),
            started: self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            ports: self.port_views(),
            interfaces: Vec::new(),
            drops: self.drop_report(),
            punt_budgets: PuntReason::ALL.iter().map(budget).collect(),
            workers: self.worker_views(),
            sources: self.source_views(),
            fibs: self.fib_views(),
            sessions: sessions.iter().map(|status| self.session(status)).collect(),
            neighbours,
            held,
        }
    }

    /// A page of sub-interfaces, from that number on.
    pub(super) fn interface_page(&self, from: usize) -> Vec<Interface> {
        self.interface_views(from..from.saturating_add(PAGE))
    }

    fn fib_views(&self) -> Vec<Fib> {
        let sizes = self.fibs.sizes().map(|(vrf, family, routes, block_bytes)| Fib {
            vrf: self.vrf_name(vrf),
            family: family.name().to_owned(),
            routes,
            block_bytes,
        });
        sizes.collect()
    }

    fn session(&self, status: &PeerStatus) -> Session {
        let counts = |counts: &[NotificationCount]| {
            let one =
                |n: &NotificationCount| Notifications(n.notification.code, n.notification.subcode, n.count);
            counts.iter().map(one).collect()
        };
        let (limits, told) = (&status.max_prefix, &status.told);
        Session {
            peer: status.name.clone(),
            vrf: self.vrf_name(VrfId(status.vrf)),
            state: status.state.name().to_owned(),
            since: status.since,
            kept_out: limits.kept_out,
            families: [
                SessionFamily {
                    prefixes: limits.ipv4,
                    limit: limits.ipv4_limit,
                    told: told.ipv4,
                    refused: told.ipv4_refused,
                },
                SessionFamily {
                    prefixes: limits.ipv6,
                    limit: limits.ipv6_limit,
                    told: told.ipv6,
                    refused: told.ipv6_refused,
                },
            ],
            messages: status.messages,
            updates: status.updates,
            malformed: status.malformed,
            looped: status.looped,
            established: status.established,
            rejected: status.rejected,
            failed_calls: status.failed_calls,
            notifications_sent: counts(&status.notifications_sent),
            notifications_received: counts(&status.notifications_received),
        }
    }
}
