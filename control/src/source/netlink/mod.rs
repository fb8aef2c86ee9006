//! Routes that somebody else writes into the kernel's tables: BIRD, zebra, `ip route`.
//!
//! One thread for each network namespace dumps the tables there, then follows the kernel's notifications, and keeps a
//! [`Replica`] of what there is. The kernel drops notifications when we are too slow, and says so once (`ENOBUFS`);
//! and it says nothing of IPv4 routes that go with an interface, an address or a next-hop object. In both cases all is
//! read anew, and what is not there any more goes; what is there stays in use meanwhile.

mod follow;
mod socket;

use std::io;
use std::sync::Arc;

use super::fpm::Interfaces;
use super::rtnl::{Followed, Manners, Outlet, Protocols, Replica, Stats, Table, Tables};
use super::threads::Threads;
use super::{RouteSource, SourceId, SourceKind, SourceStatus, queue};
use crate::config::model;
use crate::kernel::netns::{NetnsError, Place, run_in};
use crate::kernel::wake::Wake;
use follow::Follower;
use socket::{Notifications, Requests};

/// Why the kernel's tables are not followed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The namespace cannot be entered.
    #[error("`[[netlink.table]] namespace`: {0}")]
    Namespace(#[from] NetnsError),
    /// The sockets could not be made.
    #[error("cannot follow the routes of {place}: {source}; run turnpike as root, or with CAP_NET_ADMIN")]
    Socket {
        /// Where.
        place: Place,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or its wake-up descriptor could not be made.
    #[error(
        "cannot start the thread that follows routes: {source}; the limits of threads or open files (`ulimit -u`, \
         `ulimit -n`) may be too low"
    )]
    Resources {
        /// What the system said.
        source: io::Error,
    },
}

/// The running source.
#[derive(Debug)]
pub struct NetlinkSource {
    threads: Threads,
    /// In the order of the configuration.
    tables: Vec<Followed>,
}

impl NetlinkSource {
    /// Follows all tables. Table `i` is source `first + i`. `taps`: whether we have TAPs, so that gateways on other
    /// interfaces are none of ours. `feed` makes a queue for a thread.
    ///
    /// # Errors
    /// [`NetlinkError`]; nothing is left running then.
    pub fn start(
        config: &model::Netlink,
        first: SourceId,
        interfaces: Interfaces<'_>,
        taps: bool,
        mut feed: impl FnMut() -> queue::Feed,
    ) -> Result<Self, NetlinkError> {
        let mut namespaces: Vec<&Option<String>> = config.tables.iter().map(|t| &t.namespace).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let mut this = Self { threads: Threads::default(), tables: Vec::new() };
        let stats: Vec<Arc<Stats>> = config.tables.iter().map(|_| Arc::default()).collect();
        for (i, (table, stats)) in config.tables.iter().zip(&stats).enumerate() {
            let status = SourceStatus::new(first.0 + i as u32, SourceKind::Netlink, table.vrf);
            this.tables.push(Followed { status, stats: Arc::clone(stats), feed: None });
        }
        for namespace in namespaces {
            let here = || {
                config.tables.iter().zip(&stats).enumerate().filter(|(_, (t, _))| t.namespace == *namespace)
            };
            let table = |(i, (table, _)): (usize, (&model::NetlinkTable, _))| Table {
                number: table.table,
                vrf: table.vrf,
                source: SourceId(first.0 + i as u32),
                protocols: table.protocols.clone().map_or(Protocols::Made, Protocols::Only),
                interfaces: interfaces(table.vrf),
                any_interface: !taps,
            };
            let tables = Tables::new(here().map(table).collect());
            let stats = here().map(|(_, (_, stats))| Arc::clone(stats)).collect();
            let feed = feed();
            here().for_each(|(i, _)| this.tables[i].feed = Some(feed.clone()));
            let replica = Replica::new(Manners::Kernel, tables, stats);
            spawn(&mut this.threads, config, namespace.as_deref(), replica, Outlet::new(feed))?;
        }
        Ok(this)
    }
}

fn spawn(
    threads: &mut Threads,
    config: &model::Netlink,
    namespace: Option<&str>,
    replica: Replica,
    outlet: Outlet,
) -> Result<(), NetlinkError> {
    let place = Place(namespace.map(Into::into));
    let (notifications, requests) = run_in(namespace, || {
        Notifications::open(config.receive_buffer)
            .and_then(|notifications| Ok((notifications, Requests::open()?)))
            .map_err(|source| NetlinkError::Socket { place: place.clone(), source })
    })?;
    tracing::info!(%place, "netlink: follows routes");
    let wake = Arc::new(Wake::new().map_err(|source| NetlinkError::Resources { source })?);
    let follower = Follower::new(notifications, requests, place, Arc::clone(&wake), replica, outlet);
    threads
        .spawn("netlink", wake, move || follower.run())
        .map_err(|source| NetlinkError::Resources { source })
}

impl RouteSource for NetlinkSource {
    fn name(&self) -> &'static str {
        "netlink"
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Netlink
    }

    fn status(&self) -> Vec<SourceStatus> {
        self.tables.iter().map(Followed::status).collect()
    }

    fn stop(self: Box<Self>) {
        drop(self);
    }
}
