//! The kernel's side as a whole: makes the TAPs of all namespaces, or none, and is what control talks to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::channel::Sender;
use dataplane::ids::SubIfId;
use ipnetwork::IpNetwork;

use super::error::KernelError;
use super::neigh::{self, Mirror, MirrorCounters, NeighbourEvent};
use super::netlink::Netlink;
use super::netns::{Place, run_in};
use super::ready::Ready;
use super::tap::Tap;
use super::taps::{TapCounters, TapFrame, Taps, WriteOutcome};
use super::{link, sysctl};

/// The kernel makes IPv6 addresses ready in milliseconds; after this long we go on without.
const READY_TIME: Duration = Duration::from_secs(2);

/// One TAP to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapSpec {
    /// The sub-interface it stands for.
    pub interface: SubIfId,
    /// Its name, at most 15 bytes, unique in its namespace.
    pub name: String,
    /// The network namespace, by name under `/run/netns`; `None`: the current one.
    pub namespace: Option<String>,
    /// Its MAC: the sub-interface's.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes. Below 1280 it has no IPv6.
    pub mtu: u16,
    /// Our addresses with their prefix lengths. The link-local one that belongs to the MAC comes by itself.
    pub addresses: Vec<IpNetwork>,
}

/// All TAPs with their threads. Dropping it, or [`KernelSide::stop`], removes them.
pub struct KernelSide {
    // In this order they are dropped: no neighbour is reported gone only because its TAP goes.
    mirrors: Vec<Mirror>,
    taps: Taps,
    namespaces: Vec<(Place, Mutex<Netlink>)>,
    interfaces: HashMap<SubIfId, Interface>,
}

#[derive(Clone, Debug)]
struct Interface {
    name: String,
    /// Its index in the kernel.
    index: u32,
    /// Its place in `KernelSide::namespaces`.
    namespace: usize,
}

/// What `make_all` leaves for one namespace.
struct Made {
    netlink: Netlink,
    taps: Vec<(SubIfId, Tap, Interface)>,
}

impl KernelSide {
    /// Makes all TAPs, sets them up and starts the threads. Frames that the kernel sends go to `frames` (dropped and
    /// counted when it is full), changes of neighbours to `neighbours` (waited for when it is full). When anything
    /// fails nothing is left behind.
    ///
    /// # Errors
    /// Any [`KernelError`]; each says the way out.
    #[expect(clippy::needless_pass_by_value, reason = "the senders belong to the threads from here on")]
    pub fn start(
        specs: Vec<TapSpec>,
        frames: Sender<TapFrame>,
        neighbours: Sender<NeighbourEvent>,
    ) -> Result<Self, KernelError> {
        refuse_duplicates(&specs)?;
        let mut by_namespace: BTreeMap<Option<String>, Vec<TapSpec>> = BTreeMap::new();
        for spec in specs {
            by_namespace.entry(spec.namespace.clone()).or_default().push(spec);
        }

        let mut taps = Vec::new();
        let mut namespaces = Vec::new();
        let mut interfaces = HashMap::new();
        let mut mirrors = Vec::new();
        for (namespace, specs) in by_namespace {
            let place = Place(namespace);
            let number = namespaces.len();
            let made = run_in(place.0.as_deref(), || make_all(&specs, number, &place))?;
            let followed: Vec<_> =
                made.taps.iter().map(|(interface, _, known)| (known.index, *interface)).collect();
            for (interface, tap, known) in made.taps {
                taps.push((interface, tap));
                interfaces.insert(interface, known);
            }
            mirrors.push(Mirror::start(
                place.0.as_deref(),
                followed,
                neighbours.clone(),
                neigh::RECEIVE_BUFFER,
            )?);
            namespaces.push((place, Mutex::new(made.netlink)));
        }
        Ok(Self { mirrors, taps: Taps::start(taps, frames)?, namespaces, interfaces })
    }

    /// Hands a frame (from the destination MAC on, untagged, without FCS) to the kernel as received on the
    /// sub-interface. Does not block. Ethernet's padding may stay on.
    pub fn write(&self, interface: SubIfId, frame: &[u8]) -> WriteOutcome {
        self.taps.write(interface, frame)
    }

    /// Makes the kernel find out a neighbour's MAC (ARP or ND), or confirm one that is stale. What comes of it
    /// arrives as a [`NeighbourEvent`]: after three unanswered requests, about three seconds, `Failed`. Does nothing
    /// while the kernel is at it already, and for a neighbour that is reachable or set by hand.
    ///
    /// # Errors
    /// No TAP for `interface`, or the kernel refuses: its table is full (`net.ipv4.neigh.default.gc_thresh3`), the
    /// interface is down or deleted.
    pub fn resolve(&self, interface: SubIfId, address: IpAddr) -> Result<(), KernelError> {
        let (known, place, mut netlink) = self.reach(interface)?;
        let asked = match neigh::is_permanent(&mut netlink, known.index, address) {
            Ok(true) => Ok(()),
            Ok(false) => {
                netlink.request(neigh::use_request(known.index, address), netlink_packet_core::NLM_F_CREATE)
            }
            Err(error) => Err(error),
        };
        asked.map_err(|source| {
            KernelError::refused(format!("resolve {address} on the TAP `{}`", known.name), place, source)
        })
    }

    /// Raises or drops the TAP's carrier, so that FRR and others see the link come and go. A link that goes takes its
    /// neighbours with it (`Gone` events, but those set by hand).
    ///
    /// # Errors
    /// No TAP for `interface`, or somebody deleted it.
    pub fn set_link(&self, interface: SubIfId, up: bool) -> Result<(), KernelError> {
        self.taps.set_carrier(interface, up)
    }

    /// The index that the kernel gave the TAP, in the TAP's namespace.
    pub fn kernel_index(&self, interface: SubIfId) -> Option<u32> {
        self.interfaces.get(&interface).map(|known| known.index)
    }

    /// What went over each TAP so far.
    pub fn counters(&self) -> Vec<(SubIfId, TapCounters)> {
        self.taps.counters()
    }

    /// What the neighbour mirrors have met so far, all namespaces together.
    pub fn mirror_counters(&self) -> MirrorCounters {
        self.mirrors.iter().map(Mirror::counters).fold(MirrorCounters::default(), |sum, one| MirrorCounters {
            resyncs: sum.resyncs + one.resyncs,
            malformed: sum.malformed + one.malformed,
        })
    }

    /// Ends the threads and removes the TAPs. They are gone when this returns, unless another thread is just starting a
    /// child process, which has their descriptors until its exec.
    pub fn stop(self) {
        drop(self);
    }

    fn reach(
        &self,
        interface: SubIfId,
    ) -> Result<(&Interface, &Place, MutexGuard<'_, Netlink>), KernelError> {
        let unknown = || KernelError::UnknownInterface(interface);
        let known = self.interfaces.get(&interface).ok_or_else(unknown)?;
        let (place, netlink) = self.namespaces.get(known.namespace).ok_or_else(unknown)?;
        // A socket has no state that a panic elsewhere could have broken.
        Ok((known, place, netlink.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Debug for KernelSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelSide").field("interfaces", &self.interfaces).finish_non_exhaustive()
    }
}

fn refuse_duplicates(specs: &[TapSpec]) -> Result<(), KernelError> {
    let mut seen: HashMap<SubIfId, &TapSpec> = HashMap::new();
    for spec in specs {
        if let Some(first) = seen.insert(spec.interface, spec) {
            return Err(KernelError::Duplicate {
                interface: spec.interface,
                first: first.name.clone(),
                second: spec.name.clone(),
            });
        }
    }
    Ok(())
}

/// Makes the TAPs of one namespace; the calling thread is in it.
fn make_all(specs: &[TapSpec], namespace: usize, place: &Place) -> Result<Made, KernelError> {
    let no_socket = |source| KernelError::refused("open a netlink socket", place, source);
    let mut netlink = Netlink::open().map_err(no_socket)?;
    let ready = Ready::new().map_err(no_socket)?;
    // All of them first: a name that is taken shows before anything is set up.
    let mut made = Vec::with_capacity(specs.len());
    for spec in specs {
        made.push((spec, Tap::create(&spec.name, place)?));
    }
    link::loopback_up(&mut netlink, place)?;
    sysctl::warn_about_strict_rp_filter(place);
    let mut taps = Vec::with_capacity(made.len());
    let mut pending = HashSet::new();
    for (spec, tap) in made {
        let index = link::index_of(&spec.name, place)?;
        let addresses = link::configure(&mut netlink, spec, index, place)?;
        pending.extend(addresses.into_iter().map(|address| (index, address)));
        taps.push((spec.interface, tap, Interface { name: spec.name.clone(), index, namespace }));
    }
    match ready.wait(pending, READY_TIME) {
        Ok(late) if late.is_empty() => {}
        Ok(late) => tracing::warn!("{place} is slow: {} IPv6 addresses are not ready yet", late.len()),
        Err(error) => {
            tracing::warn!("cannot see whether the IPv6 addresses in {place} are ready yet: {error}");
        }
    }
    // It is up already; this takes the RTNL lock (see `Ready::wait`).
    link::loopback_up(&mut netlink, place)?;
    Ok(Made { netlink, taps })
}
