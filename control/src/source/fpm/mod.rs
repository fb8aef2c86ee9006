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
use std::thread::{Builder, JoinHandle};

use dataplane::ids::{SubIfId, VrfId};

use super::rtnl::{Followed, Manners, Outlet, Protocols, Replica, Stats, Table, Tables};
use super::{RouteSource, SourceId, SourceKind, SourceStatus, queue};
use crate::config::model;
use crate::kernel::netns::{NetnsError, Place, run_in};
use crate::kernel::wake::Wake;
use server::Server;

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
    threads: Vec<Thread>,
    /// In the order of the configuration.
    tables: Vec<Followed>,
}

#[derive(Debug)]
struct Thread {
    wake: Arc<Wake>,
    handle: Option<JoinHandle<()>>,
    listening: Option<SocketAddr>,
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
        let mut this = Self { threads: Vec::new(), tables: Vec::new() };
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
            this.threads.push(spawn(config, namespace.as_deref(), replica, Outlet::new(feed))?);
        }
        Ok(this)
    }

    /// Where it listens, namespace by namespace.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.threads.iter().filter_map(|thread| thread.listening).collect()
    }
}

fn spawn(
    config: &model::Fpm,
    namespace: Option<&str>,
    replica: Replica,
    outlet: Outlet,
) -> Result<Thread, FpmError> {
    let place = Place(namespace.map(Into::into));
    let listener = run_in(namespace, || {
        server::listen(config.listen).map_err(|source| FpmError::Listen {
            address: config.listen,
            place: place.clone(),
            source,
        })
    })?;
    let listening = listener.local_addr().ok();
    tracing::info!(address = %config.listen, %place, "FPM listens");
    let wake = Arc::new(Wake::new().map_err(|source| FpmError::Resources { source })?);
    let server = Server::new(listener, place, config, Arc::clone(&wake), replica, outlet);
    let thread = Builder::new().name("fpm".to_owned()).spawn(move || server.run());
    let handle = thread.map_err(|source| FpmError::Resources { source })?;
    Ok(Thread { wake, handle: Some(handle), listening })
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

impl Drop for FpmServer {
    fn drop(&mut self) {
        for thread in &self.threads {
            thread.wake.stop();
        }
        for handle in self.threads.iter_mut().filter_map(|thread| thread.handle.take()) {
            // One that panicked was logged by the panic hook.
            let _ = handle.join();
        }
    }
}
