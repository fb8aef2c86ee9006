//! The running router: what starts, in which order, and how it ends.

mod acl_reload;
mod acls;
mod control;
mod error;
mod forward;
mod fragment;
pub mod fuzz;
mod hardware;
mod hop_by_hop;
mod icmp;
mod ip_options;
mod links;
mod metric_views;
mod neighbours;
mod newcomers;
mod offloads;
mod orders;
mod own_addresses;
mod publish;
mod punts;
mod route_events;
mod route_views;
mod slow;
mod sources;
mod table_sources;
mod tag_checks;
mod views;
mod watching;
mod workers;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crossbeam::channel::bounded;
use dataplane::grace::GracePeriod;
use dataplane::qsbr::Domain;
use dataplane::sub_interface::SubInterfaces;
use dataplane::tables::{Tables, VrfTables};

use crate::api::server::Server;
use crate::api::view::Summary;
use crate::config::model::Config;
use crate::kernel::{KernelSide, TapSpec};
use crate::metrics;
use crate::rib::{Rib, RibError};
use crate::source::SourceKind;
use crate::source::bgp::BgpSpeaker;
use crate::source::queue::Inbox;
use acl_reload::AclsInForce;
use control::{Control, Inputs};
pub use error::RouterError;
use forward::Forwarder;
use links::Links;
use newcomers::Newcomers;
use own_addresses::OwnAddresses;
use publish::{Fibs, Publisher};
use punts::Punts;
use workers::Workers;

/// A router that forwards. Dropping it stops it: the API first, then the route sources, the TAPs, the workers,
/// and the ports last.
pub struct Router {
    // Dropped in this order.
    api: Option<Server>,
    metrics: Option<metrics::Server>,
    control: Control,
}

/// Events of the kernel that may wait for the control thread, of each kind; frames beyond that are dropped, and
/// counted.
const QUEUE: usize = 1024;

impl Router {
    /// Starts everything that `config` asks for.
    ///
    /// # Errors
    /// Any [`RouterError`]; what was started is stopped again.
    pub fn start(config: Config) -> Result<Self, RouterError> {
        let cores = workers::cores(&config)?;
        let (calls, call_queue) = bounded(16);
        // The socket first: if another turnpike has it, its NICs are left alone.
        let api = Server::start(&config.api.socket, calls.clone())?;
        let scrapes = Arc::default();
        let serve = |address| metrics::Server::start(address, calls, Arc::clone(&scrapes));
        let metrics = config.api.metrics.map(serve).transpose()?;
        let (hardware, ios) = hardware::open(&config, cores.len())?;
        let macs: Vec<_> = hardware.ports.iter().map(|port| port.info.mac).collect();
        let sub_interfaces = Arc::new(SubInterfaces::new(publish::sub_interfaces(&config, &macs))?);
        let no_vrfs: Arc<[VrfTables]> = Vec::new().into();
        let first = Tables::new(Arc::clone(&sub_interfaces), no_vrfs);
        let (domain, readers) = Domain::new(first.clone(), cores.len());
        let grace: Arc<dyn GracePeriod> = Arc::clone(&domain) as _;
        let fibs = Fibs::new(config.vrfs.len(), &grace)?;
        let (acls, policies) = AclsInForce::new(&config).map_err(RouterError::AccessLists)?;
        let mut tables = first;
        (tables.vrfs, tables.policies) = (fibs.readers().into(), Arc::new(policies));
        let publisher = Publisher::new(domain, tables);

        // Control tells of the links that are up.
        let mut rib = configured_rib(&config, false)?;
        for i in 0..config.bgp.as_ref().map_or(0, |bgp| bgp.peers.len()) {
            rib.add_source(bgp_source(i), SourceKind::Bgp);
        }
        for (id, kind) in table_sources::TableSources::ids(&config) {
            rib.add_source(id, kind);
        }

        let (frames, frame_queue) = bounded(QUEUE);
        let (neighbours, neighbour_queue) = bounded(QUEUE);
        let mut routes = Inbox::new();
        let peers = config.bgp.as_ref().map_or(0, |bgp| bgp.peers.len());
        let feeds: Vec<_> = (0..peers).map(|_| routes.feed()).collect();
        let (keep_frames, keep_neighbours) = (frames.clone(), neighbours.clone());
        let kernel = if config.kernel.taps {
            Some(KernelSide::start(tap_specs(&config, &macs), frames, neighbours)?)
        } else {
            None
        };
        let workers = Workers::start(&config, cores, ios, readers, &hardware)?;
        let limiter = icmp::Limiter::new(config.icmp, config.sub_interfaces.len(), Instant::now());
        let newcomers = Newcomers::new(Links::new(&config), Instant::now());
        let forwarder = Forwarder::new(Arc::clone(&hardware.pool), workers.rings.clone());
        let checks = offloads::tag_checks(&hardware.ports);
        let punts = Punts::new(forwarder, limiter, newcomers, OwnAddresses::new(&config), checks);
        let inputs = Inputs {
            calls: call_queue,
            frames: frame_queue,
            neighbours: neighbour_queue,
            routes,
            open: (keep_frames, keep_neighbours),
        };
        let mut control = Control::new(
            config,
            inputs,
            control::Parts { rib, fibs, publisher, acls, kernel, workers, hardware, punts, scrapes },
        );
        // Connected and static routes are there before the first packet is read and the first peer is listened to.
        control.settle();
        control.workers.go();
        control.bgp_feeds.clone_from(&feeds);
        control.start_bgp(|bgp| BgpSpeaker::start(bgp, Rib::FIRST_DYNAMIC, feeds))?;
        control.start_tables()?;
        Ok(Self { api: Some(api), metrics, control })
    }

    /// Says which file the access lists are read from when they are reloaded.
    pub fn reload_from(&mut self, file: &Path) {
        // Without a working directory the path stays as it is.
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        self.control.acls.reload_from(file);
    }

    /// Runs until `stop` is set.
    ///
    /// # Errors
    /// [`RouterError::WorkerEnded`]: it is better to end, so that the other router takes over, than to forward half.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), RouterError> {
        let result = self.control.run(stop);
        // Clients get no answers any more: better none listen.
        (self.api, self.metrics) = (None, None);
        result
    }

    /// Stops the workers, and tells what all of them did: nothing is under way any more, so it adds up.
    pub fn finish(mut self) -> Summary {
        self.control.workers.stop();
        self.control.summary()
    }
}

/// The RIB as the configuration has it, without its sources of further routes. `up`: whether links are.
fn configured_rib(config: &Config, up: bool) -> Result<Rib, RibError> {
    let mut rib = Rib::new(config.vrfs.len(), &config.sources);
    rib.set_leaks(&config.leaks)?;
    for (id, sub_if) in sub_if_ids(config) {
        rib.add_interface(id, sub_if, up)?;
    }
    rib.set_static_routes(&config.routes)?;
    Ok(rib)
}

/// The source number of a BGP peer, by its place in the configuration.
fn bgp_source(peer: usize) -> crate::source::SourceId {
    crate::source::SourceId(Rib::FIRST_DYNAMIC.0 + peer as u32)
}

fn sub_if_ids(
    config: &Config,
) -> impl Iterator<Item = (dataplane::ids::SubIfId, &crate::config::model::SubInterface)> {
    config.sub_interfaces.iter().enumerate().map(|(i, sub_if)| (dataplane::ids::SubIfId(i as u16), sub_if))
}

fn tap_specs(config: &Config, macs: &[[u8; 6]]) -> Vec<TapSpec> {
    let spec = |(id, sub_if): (_, &crate::config::model::SubInterface)| TapSpec {
        interface: id,
        name: sub_if.tap.clone(),
        namespace: config.vrfs.get(usize::from(sub_if.vrf.0)).and_then(|vrf| vrf.namespace.clone()),
        mac: macs.get(usize::from(sub_if.port.0)).copied().unwrap_or_default(),
        mtu: sub_if.mtu,
        addresses: sub_if.addresses.clone(),
    };
    sub_if_ids(config).map(spec).collect()
}
