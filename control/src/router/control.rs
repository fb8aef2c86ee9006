//! The control thread: takes what comes from workers, kernel, route sources and API, a bounded amount of each in
//! turn, so that none holds up another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crossbeam::channel::{Receiver, Select, Sender};
use dataplane::histogram::Histogram;
use dataplane::ids::{AdjId, PortId};
use dataplane::watch::Session;

use super::acl_reload::AclsInForce;
use super::error::RouterError;
use super::hardware::{Hardware, OpenPort};
use super::neighbours::{Neighbours, Released};
use super::publish::{Fibs, Publisher};
use super::punts::{Held, Punts, Surroundings};
use super::route_events::RouteEvents;
use super::sources::Rates;
use super::table_sources::TableSources;
use super::workers::Workers;
use super::{bgp_source, sub_if_ids};
use crate::api::server::Call;
use crate::api::{Order, Reply, Request};
use crate::config::model::{Bgp, Config};
use crate::kernel::{KernelSide, NeighbourEvent, TapFrame};
use crate::metrics::Scrapes;
use crate::rib::{AdjacencyDesc, RefusedDefault, Rib};
use crate::source::bgp::{BgpError, BgpSpeaker};
use crate::source::limit::RateLimit;
use crate::source::queue::{Feed, Inbox};
use crate::source::{Family, SourceId};

/// Where the control thread's work comes from.
pub struct Inputs {
    /// The API's requests.
    pub calls: Receiver<Call>,
    /// Frames that the kernel sends on TAPs.
    pub frames: Receiver<TapFrame>,
    /// Changes of the kernel's neighbour tables.
    pub neighbours: Receiver<NeighbourEvent>,
    /// What route sources say.
    pub routes: Inbox,
    /// Senders of frames and neighbours: without them a channel that nobody uses would be ready at once, for ever.
    #[expect(dead_code, reason = "held, not used")]
    pub open: (Sender<TapFrame>, Sender<NeighbourEvent>),
}

/// What the control thread owns.
pub struct Parts {
    /// All routes.
    pub rib: Rib,
    /// All FIBs.
    pub fibs: Fibs,
    /// The tables' writer.
    pub publisher: Publisher,
    /// The access lists.
    pub acls: AclsInForce,
    /// The TAPs.
    pub kernel: Option<KernelSide>,
    /// The workers.
    pub workers: Workers,
    /// Ports and pool.
    pub hardware: Hardware,
    /// The way of punted packets.
    pub punts: Punts,
    /// What became of connections to the metrics' port.
    pub scrapes: Arc<Scrapes>,
}

/// The control thread's state.
pub struct Control {
    pub(super) config: Config,
    pub(super) inputs: Inputs,
    pub(super) bgp: Option<BgpSpeaker>,
    /// The queue of each of its peers, in their order.
    pub(super) bgp_feeds: Vec<Feed>,
    pub(super) tables: TableSources,
    pub(super) rates: Rates,
    pub(super) rib: Rib,
    pub(super) fibs: Fibs,
    pub(super) publisher: Publisher,
    pub(super) acls: AclsInForce,
    pub(super) neighbours: Neighbours<Held>,
    pub(super) links: Vec<bool>,
    /// Traces and captures that workers serve.
    pub(super) watches: Vec<Arc<Session>>,
    /// What sources said and what is to be done of it later.
    pub(super) route_events: RouteEvents,
    /// Whether the FIB refused a write that is to be tried again.
    unwritten: bool,
    /// When it was last told of.
    complained: Option<Instant>,
    /// How often refused default routes are told of.
    refusals: RateLimit,
    /// What became of connections to the metrics' port.
    pub(super) scrapes: Arc<Scrapes>,
    /// When the program started.
    pub(super) started: SystemTime,
    /// How long each turn of the thread took, in nanoseconds, naps aside: so long did everything else wait.
    pub(super) turns: Histogram,
    // Dropped last, in this order: the TAPs, the workers, what they hold of the pool, the ports.
    kernel: Option<KernelSide>,
    pub(super) workers: Workers,
    pub(super) punts: Punts,
    pub(super) hardware: Hardware,
}

/// Most of one kind that are handled before the next kind has its turn.
const TURN: usize = 256;
/// How long the FIB is written in a turn.
const SLICE: Duration = Duration::from_millis(1);
/// How often failed writes are told of.
const COMPLAIN: Duration = Duration::from_secs(1);
/// How often the ports' links are looked at.
const LINK_TICK: Duration = Duration::from_millis(2);
/// How long the BGP sessions may take to end.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long their last packets are served after that.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// How long the thread waits for work before it looks into the workers' rings again.
const NAP: Duration = Duration::from_micros(500);
/// How often neighbours and timers are looked at.
const TICK: Duration = Duration::from_millis(100);

impl Control {
    /// The control thread's state before its first turn.
    pub fn new(config: Config, inputs: Inputs, parts: Parts) -> Self {
        let Parts { rib, fibs, publisher, acls, kernel, workers, hardware, punts, scrapes } = parts;
        // Before a port is started its link is down.
        let up = |port: &OpenPort| port.port.link().map_or(port.info.link.up, |link| link.up);
        let links: Vec<_> = hardware.ports.iter().map(up).collect();
        let mut this = Self {
            config,
            inputs,
            bgp: None,
            bgp_feeds: Vec::new(),
            tables: TableSources::default(),
            rates: Rates::default(),
            rib,
            fibs,
            publisher,
            acls,
            neighbours: Neighbours::default(),
            links,
            watches: Vec::new(),
            route_events: RouteEvents::default(),
            unwritten: false,
            complained: None,
            refusals: RateLimit::new(Instant::now()),
            scrapes,
            started: SystemTime::now(),
            turns: Histogram::default(),
            kernel,
            workers,
            punts,
            hardware,
        };
        this.neighbours.set_static(&this.config.neighbours, &mut this.rib);
        for port in 0..this.links.len() {
            this.tell_link(port, this.links[port]);
        }
        this
    }

    /// Starts the BGP speaker, if the configuration has one.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_bgp(
        &mut self,
        start: impl FnOnce(&Bgp) -> Result<BgpSpeaker, BgpError>,
    ) -> Result<(), BgpError> {
        self.bgp = self.config.bgp.as_ref().map(start).transpose()?;
        Ok(())
    }

    /// Starts the sources that follow others' tables, if the configuration has any.
    ///
    /// # Errors
    /// One does not start.
    pub fn start_tables(&mut self) -> Result<(), RouterError> {
        let routes = &mut self.inputs.routes;
        self.tables = TableSources::start(&self.config, self.kernel.as_ref(), || routes.feed())?;
        Ok(())
    }

    /// Runs until `stop` is set.
    ///
    /// # Errors
    /// A worker's thread has ended.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), RouterError> {
        let mut result = Ok(());
        let mut tick = Instant::now();
        let mut link_tick = tick;
        while !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            let mut worked = self.punted();
            worked |= self.kernel_frames();
            worked |= self.kernel_neighbours();
            worked |= self.routes();
            worked |= self.calls();
            worked |= self.end_reload();
            if tick.elapsed() >= TICK {
                tick = Instant::now();
                self.tick();
                if let Some(core) = self.workers.dead() {
                    result = Err(RouterError::WorkerEnded { core });
                    break;
                }
            }
            if link_tick.elapsed() >= LINK_TICK {
                link_tick = Instant::now();
                self.look_at_links();
            }
            if self.rib.is_dirty() {
                self.commit_slice();
                worked |= self.rib.is_dirty();
            }
            self.turns.record(start.elapsed().as_nanos() as u64);
            if !worked {
                self.nap();
            }
        }
        self.take_leave();
        self.tables = TableSources::default();
        // Who waits for an answer hears that there will be none.
        self.inputs.calls.try_iter().for_each(drop);
        result
    }

    /// Ends the BGP sessions. Peers are also met over TAPs: their packets are served until all have been told.
    fn take_leave(&mut self) {
        let Some(bgp) = self.bgp.take() else { return };
        let leaving = std::thread::Builder::new().name("bgp-leave".to_owned()).spawn(move || bgp.stop());
        // Without the thread, what was moved into it is dropped, which ends the sessions as well.
        let Ok(leaving) = leaving else { return };
        let end = Instant::now() + FAREWELL;
        while !leaving.is_finished() && Instant::now() < end {
            let mut worked = self.punted();
            worked |= self.kernel_frames();
            worked |= self.kernel_neighbours();
            self.settle();
            if !worked {
                std::thread::sleep(NAP);
            }
        }
        // What the kernel still sends in these TCP connections.
        let end = Instant::now() + LAST_WORDS;
        while Instant::now() < end {
            if !(self.punted() | self.kernel_frames()) {
                std::thread::sleep(NAP);
            }
        }
        if leaving.is_finished() {
            // A panic there was logged by the panic hook.
            let _ = leaving.join();
        } else {
            tracing::warn!(
                "BGP sessions did not end in {} s: the rest end without a word",
                FAREWELL.as_secs()
            );
        }
    }

    /// Waits for work of any kind that announces itself; the workers' rings do not.
    fn nap(&self) {
        let mut select = Select::new();
        select.recv(&self.inputs.calls);
        select.recv(&self.inputs.frames);
        select.recv(&self.inputs.neighbours);
        select.recv(self.inputs.routes.ready());
        let _ = select.ready_timeout(NAP);
    }

    /// Brings the data plane up to date with the RIB, however long it takes.
    pub fn settle(&mut self) {
        while self.rib.is_dirty() {
            self.commit_slice();
        }
    }

    /// Brings the data plane up to date with the RIB, as far as a turn's time goes: next-hop groups always.
    fn commit_slice(&mut self) {
        let publisher = &mut self.publisher;
        let start = Instant::now();
        let commit =
            self.rib.commit_slice(&mut |groups| publisher.publish(groups), &mut self.fibs, &mut || {
                start.elapsed() < SLICE
            });
        self.unwritten = commit.pending > 0;
        if let Some(failure) = &commit.failure
            && self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN)
        {
            self.complained = Some(start);
            tracing::error!("{failure} ({} writes are pending)", commit.pending);
        }
        for refused in self.rib.refused_defaults() {
            self.punts.outcomes.count("default_route_refused");
            if let Some(more) = self.refusals.pass(start) {
                self.tell_refused(&refused, more);
            }
        }
        // What earlier commits let go may be reused: a new meaning is published before the FIB refers to it.
        self.rib.reclaim(|ticket| ticket < commit.ticket);
        self.fibs.reclaim();
        if commit.published > 0 {
            self.neighbours.ask_for_wanted(&self.rib, self.kernel.as_ref());
        }
    }

    fn tell_refused(&self, refused: &RefusedDefault, more: u64) {
        let prefix = match refused.family {
            Family::Ipv4 => "0.0.0.0/0",
            Family::Ipv6 => "::/0",
        };
        let more = if more > 0 { format!(" ({more} like it before)") } else { String::new() };
        tracing::warn!(
            "default route {prefix} of {} in VRF {} leads over Microsoft peering `{}`, and is not used: filter it \
             there{more}",
            self.source_name(refused.source.0),
            self.vrf_name(refused.vrf),
            self.config.sub_interfaces.get(usize::from(refused.sub_if.0)).map_or("", |sub_if| &sub_if.name),
        );
    }

    fn punted(&mut self) -> bool {
        let with = Surroundings { publisher: &self.publisher, kernel: self.kernel.as_ref() };
        let mut worked = false;
        for rings in &self.workers.rings {
            for _ in 0..TURN {
                let Some(punted) = rings.urgent.pop().or_else(|| rings.punt.pop()) else { break };
                self.punts.handle(punted, &mut self.neighbours, &with);
                worked = true;
            }
        }
        worked
    }

    fn kernel_frames(&mut self) -> bool {
        let mut worked = false;
        for frame in self.inputs.frames.try_iter().take(TURN) {
            self.punts.send_from_kernel(&frame.frame, frame.interface, &self.publisher.tables);
            worked = true;
        }
        worked
    }

    fn kernel_neighbours(&mut self) -> bool {
        let events: Vec<_> = self.inputs.neighbours.try_iter().take(TURN).collect();
        let mut released = Vec::new();
        for event in &events {
            let (held, resolved) = match self.neighbours.event(event, &mut self.rib, self.kernel.as_ref()) {
                Released::Resolved(held) => (held, true),
                Released::Lost(held) => (held, false),
            };
            released.extend(held.into_iter().map(|held| (held, resolved)));
        }
        if !released.is_empty() {
            // The new adjacencies must be in the tables before packets are sent over them.
            self.commit_slice();
        }
        for (held, resolved) in released {
            self.release(held, resolved);
        }
        !events.is_empty()
    }

    fn release(&mut self, held: Held, resolved: bool) {
        let with = Surroundings { publisher: &self.publisher, kernel: self.kernel.as_ref() };
        if resolved {
            self.punts.go_on(held, &mut self.neighbours, &with);
        } else {
            self.punts.give_up(&held, &mut self.neighbours, &with);
        }
    }

    fn calls(&mut self) -> bool {
        let calls: Vec<_> = self.inputs.calls.try_iter().take(4).collect();
        let worked = !calls.is_empty();
        for call in calls {
            // A client that did not wait gets no answer.
            match call {
                Call::Ask { request: Request::Do(Order::ReloadAcls { file }), reply } => {
                    // The answer follows, unless it does not begin.
                    if let Err(why) = self.start_reload(file.as_deref(), reply.clone()) {
                        let _ = reply.send(Reply::Error(why));
                    }
                }
                Call::Ask { request: Request::Do(order), reply } => drop(reply.send(self.obey(&order))),
                Call::Ask { request, reply } => drop(reply.send(self.answer(&request))),
                Call::Metrics { reply } => drop(reply.send(Box::new(self.metrics()))),
                Call::Interfaces { from, reply } => drop(reply.send(self.interface_page(from))),
                Call::PlanWatch { request, reply } => drop(reply.send(self.plan_watch(&request))),
                Call::Watch { session, reply } => drop(reply.send(self.watch(session))),
                Call::Explain { questions, reply } => drop(reply.send(self.explain(&questions))),
            }
        }
        worked
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.route_timers(now);
        let expired = self.neighbours.tick();
        // Before packets to whomever take what may be asked.
        self.neighbours.ask_for_wanted(&self.rib, self.kernel.as_ref());
        for held in expired {
            self.release(held, false);
        }
        self.end_closed_watches();
        self.check_tags(now);
        self.see_to_offloads();
        self.fibs.reclaim();
        let vrfs = &self.config.vrfs;
        self.fibs
            .tell_pages(|vrf| vrfs.get(usize::from(vrf.0)).map_or(String::new(), |vrf| vrf.name.clone()));
        if self.unwritten {
            self.rib.retry();
        }
        let status = self.source_status();
        self.rates.sample(now, &status);
    }

    fn look_at_links(&mut self) {
        for port in 0..self.links.len() {
            // A port that cannot tell keeps the state it had.
            let Ok(link) = self.hardware.ports[port].port.link() else { continue };
            if link.up != self.links[port] {
                self.links[port] = link.up;
                let name = &self.config.ports[port].name;
                if link.up {
                    tracing::info!("port `{name}`: link up");
                } else {
                    tracing::warn!("port `{name}`: link down");
                }
                self.tell_link(port, link.up);
            }
        }
    }

    /// Tells the RIB and the kernel of a port's link.
    fn tell_link(&mut self, port: usize, up: bool) {
        for (id, sub_if) in sub_if_ids(&self.config) {
            if sub_if.port != PortId(port as u16) {
                continue;
            }
            if let Err(error) = self.rib.set_link(id, up) {
                tracing::error!("sub-interface `{}`: {error}", sub_if.name);
            }
            if let Some(kernel) = &self.kernel
                && let Err(error) = kernel.set_link(id, up)
            {
                tracing::warn!("sub-interface `{}`: {error}", sub_if.name);
            }
        }
    }

    /// What an adjacency stands for, as it was published last.
    pub(super) fn adjacency(&self, id: AdjId) -> AdjacencyDesc {
        self.publisher.adjacency(id)
    }

    /// The name of a source, for output.
    pub(super) fn source_name(&self, source: u32) -> String {
        match SourceId(source) {
            Rib::CONNECTED => "connected".into(),
            Rib::STATIC => "static".into(),
            id if Rib::is_leak(id) => "leak".into(),
            id if TableSources::is(id) => TableSources::name(id),
            _ => {
                let peers = self.config.bgp.iter().flat_map(|bgp| &bgp.peers);
                let mut named = peers.enumerate().filter(|(i, _)| bgp_source(*i).0 == source);
                named.next().map_or_else(|| format!("source {source}"), |(_, peer)| peer.name.clone())
            }
        }
    }
}
