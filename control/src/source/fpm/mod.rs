//! Routes from FRR's zebra, which connects to us and pushes them (its module `dplane_fpm_nl`).
//!
//! One thread for each network namespace listens there, reads its zebra, and keeps a [`Replica`] of what it has. It
//! always reads: what the control thread has no room for waits in the replica, where changes to a prefix become one.
//!
//! zebra tells everything anew after each connection, and does not say when that is complete. So what was not told
//! again goes when nothing came for the quiet time. But a zebra that was started anew has nothing to tell until its
//! daemons have: while less came back than is missing, all stays, up to the retain time after the return.

mod connection;
pub mod frame;
mod server;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dataplane::ids::{SubIfId, VrfId};

use super::rtnl::{Followed, Manners, Outlet, Protocols, Replica, Stats, Table, Tables};
use super::threads::Threads;
use super::{RouteSource, SourceId, SourceKind, SourceStatus, queue, receive_buffer, tcp};
use crate::config::model;
use crate::kernel::netns::{NetnsError, Place, run_in};
use crate::kernel::wake::Wake;
use server::{Closed, Server};

/// Why the FPM server did not start.
#[derive(Debug, thiserror::Error)]
pub enum FpmError {
    /// The namespace cannot be entered.
    #[error("`[[fpm.table]] namespace`: {0}")]
    Namespace(#[from] NetnsError),
    /// The listening socket could not be made.
    #[error(
        "FPM cannot listen on {address} in {place}: {source}; is another FPM server there? Change `[fpm] listen`, or \
         stop the other one"
    )]
    Listen {
        /// From `[fpm] listen`.
        address: SocketAddr,
        /// Where.
        place: Place,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or its wake-up descriptor could not be made.
    #[error(
        "FPM cannot start its thread: {source}; the limits of threads or open files (`ulimit -u`, `ulimit -n`) may be \
         too low"
    )]
    Resources {
        /// What the system said.
        source: io::Error,
    },
}

/// The running server.
#[derive(Debug)]
pub struct FpmServer {
    threads: Threads,
    /// In the order of the configuration.
    tables: Vec<Followed>,
    closed: Arc<Closed>,
}

/// Our TAPs in a VRF, by the index that the kernel gave them.
pub type Interfaces<'a> = &'a dyn Fn(VrfId) -> HashMap<u32, SubIfId>;

impl FpmServer {
    /// Listens in the namespace of each table. Table `i` is source `first + i`. `feed` makes a queue for a thread.
    ///
    /// # Errors
    /// [`FpmError`]; nothing is left running then.
    pub fn start(
        config: &model::Fpm,
        first: SourceId,
        interfaces: Interfaces<'_>,
        mut feed: impl FnMut() -> queue::Feed,
    ) -> Result<Self, FpmError> {
        let mut namespaces: Vec<&Option<String>> = config.tables.iter().map(|t| &t.namespace).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let mut this = Self { threads: Threads::default(), tables: Vec::new(), closed: Arc::default() };
        let stats: Vec<Arc<Stats>> = config.tables.iter().map(|_| Arc::default()).collect();
        for (i, (table, stats)) in config.tables.iter().zip(&stats).enumerate() {
            let status = SourceStatus::new(first.0 + i as u32, SourceKind::Fpm, table.vrf);
            this.tables.push(Followed { status, stats: Arc::clone(stats), feed: None });
        }
        for namespace in namespaces {
            let here = || {
                config.tables.iter().zip(&stats).enumerate().filter(|(_, (t, _))| t.namespace == *namespace)
            };
            let table = |(i, (table, _)): (usize, (&model::FpmTable, _))| Table {
                number: table.table,
                vrf: table.vrf,
                source: SourceId(first.0 + i as u32),
                protocols: Protocols::All,
                interfaces: interfaces(table.vrf),
                any_interface: true,
            };
            let tables = Tables::new(here().map(table).collect());
            let stats = here().map(|(_, (_, stats))| Arc::clone(stats)).collect();
            let feed = feed();
            here().for_each(|(i, _)| this.tables[i].feed = Some(feed.clone()));
            let replica = Replica::new(Manners::Zebra, tables, stats);
            this.spawn(config, namespace.as_deref(), replica, Outlet::new(feed))?;
        }
        Ok(this)
    }

    fn spawn(
        &mut self,
        config: &model::Fpm,
        namespace: Option<&str>,
        replica: Replica,
        outlet: Outlet,
    ) -> Result<(), FpmError> {
        let place = Place(namespace.map(Into::into));
        let listener = run_in(namespace, || {
            let listener = tcp::listen(config.listen, server::BACKLOG).and_then(|listener| {
                // What connects to it has this buffer too.
                receive_buffer::set(&listener, server::RECEIVE_BUFFER)?;
                Ok(listener)
            });
            listener.map_err(|source| FpmError::Listen {
                address: config.listen,
                place: place.clone(),
                source,
            })
        })?;
        tracing::info!(address = %config.listen, %place, "FPM listens");
        let wake = Arc::new(Wake::new().map_err(|source| FpmError::Resources { source })?);
        let closed = Arc::clone(&self.closed);
        let server = Server::new(listener, place, config, Arc::clone(&wake), replica, outlet, closed);
        self.threads.spawn("fpm", wake, move || server.run()).map_err(|source| FpmError::Resources { source })
    }

    /// Connections that were refused while a zebra was there, and those that were closed for another one after they had
    /// said nothing.
    pub fn closed(&self) -> [u64; 2] {
        [&self.closed.refused, &self.closed.silent].map(|count| count.load(Ordering::Relaxed))
    }
}

impl RouteSource for FpmServer {
    fn name(&self) -> &'static str {
        "fpm"
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Fpm
    }

    fn status(&self) -> Vec<SourceStatus> {
        self.tables.iter().map(Followed::status).collect()
    }

    fn stop(self: Box<Self>) {
        drop(self);
    }
}
