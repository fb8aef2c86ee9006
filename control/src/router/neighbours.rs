//! Neighbours: the kernel's table mirrored into the RIB's adjacencies, resolution asked for where it is wanted, and
//! the few packets that wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use dataplane::ids::SubIfId;

use crate::config::model::StaticNeighbour;
use crate::kernel::{KernelSide, NeighbourEvent, NeighbourState};
use crate::rib::{Neighbour, Rib};

/// Packets that wait for one neighbour.
const HELD_EACH: usize = 8;
/// Packets that wait in all.
const HELD_ALL: usize = 1024;
/// How long a packet waits.
const HOLD_TIME: Duration = Duration::from_secs(3);
/// How long until the kernel is asked again for the same neighbour.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Neighbours that nobody asked for lately are forgotten beyond so many.
const MAX_UNKNOWN: usize = 16_384;

type Key = (SubIfId, IpAddr);

/// What is known of a neighbour.
#[derive(Debug)]
struct Known<P> {
    mac: Option<[u8; 6]>,
    state: &'static str,
    held: VecDeque<(Instant, SubIfId, P)>,
    asked: Option<Instant>,
}

impl<P> Default for Known<P> {
    fn default() -> Self {
        Self { mac: None, state: "incomplete", held: VecDeque::new(), asked: None }
    }
}

/// All neighbours. `P`: what a held packet is.
#[derive(Debug)]
pub struct Neighbours<P> {
    known: BTreeMap<Key, Known<P>>,
    held: usize,
}

impl<P> Default for Neighbours<P> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), held: 0 }
    }
}

/// A neighbour for output.
pub struct View {
    /// The sub-interface it is on.
    pub sub_if: SubIfId,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: Option<[u8; 6]>,
    /// Its state.
    pub state: &'static str,
    /// Packets that wait for it.
    pub held: usize,
}

impl<P> Neighbours<P> {
    /// Enters the `[[neighbour]]`s.
    pub fn set_static(&mut self, neighbours: &[StaticNeighbour], rib: &mut Rib) {
        for neighbour in neighbours {
            let known = self.known.entry((neighbour.interface, neighbour.address)).or_default();
            known.mac = Some(neighbour.mac);
            known.state = "static";
            tell(rib, neighbour.interface, neighbour.address, Neighbour::Reachable(neighbour.mac));
        }
    }

    /// Takes in what the kernel says. Returns the packets that need not wait any longer, each with the
    /// sub-interface it came in on, and whether they can go on (`true`) or are lost.
    pub fn event(
        &mut self,
        event: &NeighbourEvent,
        rib: &mut Rib,
        kernel: Option<&KernelSide>,
    ) -> (Vec<(SubIfId, P)>, bool) {
        let key = (event.interface, event.address);
        let known = self.known.entry(key).or_default();
        if known.state == "static" {
            return (Vec::new(), false);
        }
        known.mac = event.state.mac();
        let (state, for_rib) = match event.state {
            NeighbourState::Reachable { mac } => ("reachable", Some(Neighbour::Reachable(mac))),
            NeighbourState::Probing { mac } => ("probing", Some(Neighbour::Reachable(mac))),
            NeighbourState::Stale { mac } => ("stale", Some(Neighbour::Reachable(mac))),
            NeighbourState::Incomplete => ("incomplete", None),
            NeighbourState::Failed => ("failed", Some(Neighbour::Failed)),
            NeighbourState::Gone => ("gone", Some(Neighbour::Gone)),
        };
        known.state = state;
        let resolved = matches!(for_rib, Some(Neighbour::Reachable(_)));
        let released = match for_rib {
            None => Vec::new(),
            Some(_) => std::mem::take(&mut known.held).into_iter().map(|(_, from, p)| (from, p)).collect(),
        };
        self.held -= released.len();
        if let Some(for_rib) = for_rib {
            tell(rib, event.interface, event.address, for_rib);
        }
        if state == "gone" {
            self.known.remove(&key);
        }
        // The kernel sees none of the packets that we forward, so it lets the entry go stale. Asking makes it
        // probe, and so find out whether the neighbour still lives.
        if state == "stale"
            && let Some(kernel) = kernel
        {
            ask(kernel, event.interface, event.address);
        }
        (released, resolved)
    }

    /// Whether packets to this neighbour can go.
    pub fn is_resolved(&self, sub_if: SubIfId, address: IpAddr) -> bool {
        self.known.get(&(sub_if, address)).is_some_and(|known| known.mac.is_some())
    }

    /// Holds a packet, received on `from`, for a neighbour, and has the kernel look for it.
    ///
    /// # Errors
    /// The name of the reason why it is not held; the packet is gone then.
    pub fn hold(
        &mut self,
        sub_if: SubIfId,
        address: IpAddr,
        from: SubIfId,
        packet: P,
        kernel: Option<&KernelSide>,
    ) -> Result<(), &'static str> {
        let Some(kernel) = kernel else { return Err("unresolved_no_tap") };
        if self.known.len() >= MAX_UNKNOWN {
            self.known.retain(|_, known| known.mac.is_some() || !known.held.is_empty());
        }
        if self.known.len() >= MAX_UNKNOWN {
            return Err("too_many_neighbours");
        }
        let now = Instant::now();
        let known = self.known.entry((sub_if, address)).or_default();
        if known.asked.is_none_or(|asked| now.duration_since(asked) >= ASK_AGAIN) {
            known.asked = Some(now);
            ask(kernel, sub_if, address);
        }
        if known.held.len() >= HELD_EACH || self.held >= HELD_ALL {
            return Err("hold_queue_full");
        }
        known.held.push_back((now, from, packet));
        self.held += 1;
        Ok(())
    }

    /// Gateways that the RIB wants resolved are asked for, each at most once a second.
    pub fn ask_for_wanted(&mut self, rib: &Rib, kernel: Option<&KernelSide>) {
        let Some(kernel) = kernel else { return };
        let now = Instant::now();
        for (sub_if, address) in rib.wanted() {
            let known = self.known.entry((sub_if, address)).or_default();
            if known.asked.is_none_or(|asked| now.duration_since(asked) >= ASK_AGAIN) {
                known.asked = Some(now);
                ask(kernel, sub_if, address);
            }
        }
    }

    /// Lets go of packets that waited too long. Returns them with the sub-interface each came in on.
    pub fn expire(&mut self) -> Vec<(SubIfId, P)> {
        let now = Instant::now();
        let mut expired = Vec::new();
        for known in self.known.values_mut() {
            while known.held.front().is_some_and(|(since, ..)| now.duration_since(*since) > HOLD_TIME) {
                expired.extend(known.held.pop_front().map(|(_, from, packet)| (from, packet)));
            }
        }
        self.held -= expired.len();
        expired
    }

    /// All neighbours, for output.
    pub fn views(&self) -> impl Iterator<Item = View> {
        self.known.iter().map(|((sub_if, address), known)| View {
            sub_if: *sub_if,
            address: *address,
            mac: known.mac,
            state: known.state,
            held: known.held.len(),
        })
    }
}

fn tell(rib: &mut Rib, sub_if: SubIfId, address: IpAddr, neighbour: Neighbour) {
    if let Err(error) = rib.set_neighbour(sub_if, address, neighbour) {
        tracing::error!("neighbour {address}: {error}");
    }
}

fn ask(kernel: &KernelSide, sub_if: SubIfId, address: IpAddr) {
    if let Err(error) = kernel.resolve(sub_if, address) {
        tracing::warn!("cannot resolve {address}: {error}");
    }
}
