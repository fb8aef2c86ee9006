//! Neighbours: the kernel's table mirrored into the RIB's adjacencies, resolution asked for where it is wanted, and
//! the few packets that wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Bound;
use std::time::{Duration, Instant};

use dataplane::ids::SubIfId;

use crate::config::model::StaticNeighbour;
use crate::kernel::{KernelSide, NeighbourEvent, NeighbourState};
use crate::rib::{Neighbour, Rib};

/// Packets that wait for one neighbour.
const HELD_EACH: usize = 8;
/// Packets that wait in all.
const HELD_ALL: usize = 1024;
/// Packets that wait of those that came in on one sub-interface: a flood on it leaves the others some room.
const HELD_FROM: usize = 256;
/// How long a packet waits.
const HOLD_TIME: Duration = Duration::from_secs(3);
/// How long until the kernel is asked again for the same neighbour.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long the kernel goes on asking for a neighbour, whose place in its table is taken as long.
const ANSWER: Duration = Duration::from_secs(3);
/// Questions to the kernel between two calls of [`Neighbours::tick`]: each takes its time, and its table is bounded.
/// For three seconds a neighbour that does not answer takes a place of 1024 there.
const ASKS_EACH_TICK: usize = 25;
/// Of them, for packets that came in on one sub-interface.
const ASKS_FROM: usize = 15;
/// How long a neighbour without a MAC address is remembered after it was last asked for.
const FORGET: Duration = Duration::from_secs(30);
/// How often a refusal of the kernel is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Whoever resolves neighbours: the kernel, over our TAPs.
pub trait Resolver {
    /// Has a neighbour's MAC address looked for, or confirmed.
    ///
    /// # Errors
    /// Why not, for people.
    fn resolve(&self, sub_if: SubIfId, address: IpAddr) -> Result<(), String>;
}

impl Resolver for KernelSide {
    fn resolve(&self, sub_if: SubIfId, address: IpAddr) -> Result<(), String> {
        KernelSide::resolve(self, sub_if, address).map_err(|error| error.to_string())
    }
}

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Configured.
    Static,
    /// Confirmed of late.
    Reachable,
    /// Not confirmed of late.
    Stale,
    /// Being confirmed.
    Probing,
    /// Being looked for.
    Incomplete,
    /// It did not answer.
    Failed,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Static, Self::Reachable, Self::Stale, Self::Probing, Self::Incomplete, Self::Failed];

    /// Its name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Probing => "probing",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug)]
struct Known<P> {
    mac: Option<[u8; 6]>,
    state: State,
    held: VecDeque<(Instant, SubIfId, P)>,
    asked: Option<Instant>,
}

impl<P> Default for Known<P> {
    fn default() -> Self {
        Self { mac: None, state: State::Incomplete, held: VecDeque::new(), asked: None }
    }
}

/// All neighbours. `P`: what a held packet is.
#[derive(Debug)]
pub struct Neighbours<P> {
    known: BTreeMap<(SubIfId, IpAddr), Known<P>>,
    held: usize,
    asks_left: usize,
    /// By the sub-interface that packets came in on.
    shares: BTreeMap<SubIfId, Share>,
    logged: Option<Instant>,
    /// Who spoke ARP last on each sub-interface without being a neighbour.
    strangers: BTreeMap<SubIfId, Stranger>,
}

/// What the packets of one sub-interface take of what there is.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    held: usize,
    /// Since the last tick.
    asked: usize,
}

/// Somebody on a link who is no neighbour of ours: on a link of two, the far side with a wrong address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The address that it has for its own.
    pub address: Ipv4Addr,
    /// Its MAC address.
    pub mac: [u8; 6],
}

impl Stranger {
    /// Who sent an ARP packet for IPv4 (RFC 826), from its first byte on; `None` for a probe, which has no sender yet.
    pub fn of_arp(arp: &[u8]) -> Option<Self> {
        let (kind, sender) = (arp.get(..6)?, arp.get(8..18)?);
        let mac = *sender.first_chunk()?;
        let address = Ipv4Addr::from(*sender.last_chunk()?);
        (kind == [0, 1, 8, 0, 6, 4] && !address.is_unspecified()).then_some(Self { address, mac })
    }
}

impl<P> Default for Neighbours<P> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            held: 0,
            asks_left: ASKS_EACH_TICK,
            shares: BTreeMap::new(),
            logged: None,
            strangers: BTreeMap::new(),
        }
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
    pub state: State,
    /// Packets that wait for it.
    pub held: usize,
    /// Who spoke in its stead, if it does not answer.
    pub seen: Option<Stranger>,
}

/// Packets that need not wait any longer.
#[derive(Debug, PartialEq, Eq)]
pub enum Released<P> {
    /// They can go on.
    Resolved(Vec<P>),
    /// Their neighbour is not there.
    Lost(Vec<P>),
}

impl<P> Neighbours<P> {
    /// Enters the `[[neighbour]]`s.
    pub fn set_static(&mut self, neighbours: &[StaticNeighbour], rib: &mut Rib) {
        for neighbour in neighbours {
            let known = self.known.entry((neighbour.interface, neighbour.address)).or_default();
            known.mac = Some(neighbour.mac);
            known.state = State::Static;
            tell(rib, neighbour.interface, neighbour.address, Neighbour::Reachable(neighbour.mac));
        }
    }

    /// Takes in what the kernel says.
    pub fn event(
        &mut self,
        event: &NeighbourEvent,
        rib: &mut Rib,
        resolver: Option<&impl Resolver>,
    ) -> Released<P> {
        let key = (event.interface, event.address);
        let known = self.known.entry(key).or_default();
        if known.state == State::Static {
            return Released::Lost(Vec::new());
        }
        known.mac = event.state.mac();
        known.state = match event.state {
            NeighbourState::Reachable { .. } => State::Reachable,
            NeighbourState::Stale { .. } => State::Stale,
            NeighbourState::Probing { .. } => State::Probing,
            NeighbourState::Incomplete => State::Incomplete,
            NeighbourState::Failed | NeighbourState::Gone => State::Failed,
        };
        if event.state == NeighbourState::Incomplete {
            return Released::Lost(Vec::new());
        }
        let held = std::mem::take(&mut known.held);
        for (_, from, _) in &held {
            self.let_go(*from);
        }
        let released: Vec<_> = held.into_iter().map(|(.., packet)| packet).collect();
        let news = match event.state.mac() {
            Some(mac) => Neighbour::Reachable(mac),
            None if event.state == NeighbourState::Gone => Neighbour::Gone,
            None => Neighbour::Failed,
        };
        tell(rib, event.interface, event.address, news);
        if news == Neighbour::Gone {
            self.known.remove(&key);
        }
        // The kernel sees none of the packets that we forward, so it lets the entry go stale. Asking makes it
        // probe, and so find out whether the neighbour still lives.
        if let (NeighbourState::Stale { .. }, Some(resolver)) = (event.state, resolver) {
            self.ask(resolver, key);
        }
        if event.state.mac().is_some() { Released::Resolved(released) } else { Released::Lost(released) }
    }

    /// Whether packets to this neighbour can go.
    pub fn is_resolved(&self, sub_if: SubIfId, address: IpAddr) -> bool {
        self.known.get(&(sub_if, address)).is_some_and(|known| known.mac.is_some())
    }

    /// Whether the kernel has a place for this neighbour in its table: it is resolved, or was asked for just now.
    pub fn has_place(&self, sub_if: SubIfId, address: IpAddr) -> bool {
        let asked = |known: &Known<P>| known.asked.is_some_and(|asked| asked.elapsed() < ANSWER);
        self.known.get(&(sub_if, address)).is_some_and(|known| known.mac.is_some() || asked(known))
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
        resolver: Option<&impl Resolver>,
    ) -> Result<(), &'static str> {
        let Some(resolver) = resolver else { return Err("unresolved_no_tap") };
        let key = (sub_if, address);
        let share = self.shares.get(&from).copied().unwrap_or_default();
        let no_room = self.held >= HELD_ALL || share.held >= HELD_FROM;
        if no_room || self.known.get(&key).is_some_and(|known| known.held.len() >= HELD_EACH) {
            return Err("hold_queue_full");
        }
        if self.is_due(key) {
            if share.asked >= ASKS_FROM || !self.ask(resolver, key) {
                return Err("resolution_refused");
            }
            self.shares.entry(from).or_default().asked += 1;
        }
        self.known.entry(key).or_default().held.push_back((Instant::now(), from, packet));
        self.shares.entry(from).or_default().held += 1;
        self.held += 1;
        Ok(())
    }

    /// Gateways that the RIB wants resolved are asked for, each at most once a second; and so are stale neighbours that
    /// there were too many of to be confirmed when the kernel said so.
    pub fn ask_for_wanted(&mut self, rib: &Rib, resolver: Option<&impl Resolver>) {
        let Some(resolver) = resolver else { return };
        for key in rib.wanted() {
            if self.is_due(key) {
                self.ask(resolver, key);
            }
        }
        let stale = self.known.iter().filter(|(_, known)| known.state == State::Stale).map(|(key, _)| *key);
        let due: Vec<_> = stale.filter(|key| self.is_due(*key)).take(self.asks_left).collect();
        for key in due {
            self.ask(resolver, key);
        }
    }

    /// A packet that came in on `from` waits no longer.
    fn let_go(&mut self, from: SubIfId) {
        self.held -= 1;
        if let Some(share) = self.shares.get_mut(&from) {
            share.held = share.held.saturating_sub(1);
        }
    }

    /// Whether the kernel may be asked for a neighbour (again).
    fn is_due(&self, key: (SubIfId, IpAddr)) -> bool {
        let asked = self.known.get(&key).and_then(|known| known.asked);
        asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN)
    }

    /// Asks the kernel, unless that was done too often of late. Returns whether it looks.
    fn ask(&mut self, resolver: &impl Resolver, key: (SubIfId, IpAddr)) -> bool {
        if self.asks_left == 0 {
            return false;
        }
        self.asks_left -= 1;
        match resolver.resolve(key.0, key.1) {
            Ok(()) => {
                self.known.entry(key).or_default().asked = Some(Instant::now());
                true
            }
            Err(why) => {
                if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY) {
                    self.logged = Some(Instant::now());
                    tracing::warn!("neighbours are not resolved: {why}");
                }
                false
            }
        }
    }

    /// Lets go of packets that waited too long, and returns them; forgets neighbours that nobody asks for any more. To
    /// be called ten times a second or so.
    pub fn tick(&mut self) -> Vec<P> {
        self.asks_left = ASKS_EACH_TICK;
        self.shares.values_mut().for_each(|share| share.asked = 0);
        let mut expired = Vec::new();
        self.known.retain(|_, known| {
            while known.held.front().is_some_and(|(since, ..)| since.elapsed() > HOLD_TIME) {
                expired.extend(known.held.pop_front());
            }
            let wanted = known.asked.is_some_and(|asked| asked.elapsed() < FORGET);
            known.mac.is_some() || !known.held.is_empty() || wanted
        });
        for (_, from, _) in &expired {
            self.let_go(*from);
        }
        expired.into_iter().map(|(.., packet)| packet).collect()
    }

    /// The resolved neighbour behind `last`, or else the first one, of those that are `wanted`, with its MAC address.
    pub fn after(
        &self,
        last: Option<(SubIfId, IpAddr)>,
        wanted: impl Fn(SubIfId, IpAddr) -> bool,
    ) -> Option<(SubIfId, IpAddr, [u8; 6])> {
        let behind = last.map_or(Bound::Unbounded, Bound::Excluded);
        let neighbour = |((sub_if, address), known): (&(SubIfId, IpAddr), &Known<P>)| {
            known.mac.filter(|_| wanted(*sub_if, *address)).map(|mac| (*sub_if, *address, mac))
        };
        self.known.range((behind, Bound::Unbounded)).chain(&self.known).find_map(neighbour)
    }

    /// All neighbours, for output.
    pub fn views(&self) -> impl Iterator<Item = View> {
        self.known.iter().map(|((sub_if, address), known)| View {
            sub_if: *sub_if,
            address: *address,
            mac: known.mac,
            state: known.state,
            held: known.held.len(),
            seen: self.strangers.get(sub_if).copied().filter(|_| known.mac.is_none() && address.is_ipv4()),
        })
    }

    /// Takes note of an ARP packet's sender, unless it is a neighbour. One for each sub-interface.
    pub fn saw(&mut self, sub_if: SubIfId, sender: Stranger) {
        if self.is_resolved(sub_if, sender.address.into()) {
            self.strangers.remove(&sub_if);
        } else {
            self.strangers.insert(sub_if, sender);
        }
    }
}

fn tell(rib: &mut Rib, sub_if: SubIfId, address: IpAddr, neighbour: Neighbour) {
    if let Err(error) = rib.set_neighbour(sub_if, address, neighbour) {
        tracing::error!("neighbour {address}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Sources;
    use std::cell::RefCell;

    const LAN: SubIfId = SubIfId(0);
    const FROM: SubIfId = SubIfId(1);
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    /// Notes what it is asked for; refuses when told to.
    #[derive(Default)]
    struct Asked {
        all: RefCell<Vec<IpAddr>>,
        refuses: bool,
    }

    impl Resolver for Asked {
        fn resolve(&self, _: SubIfId, address: IpAddr) -> Result<(), String> {
            self.all.borrow_mut().push(address);
            if self.refuses { Err("the table is full".into()) } else { Ok(()) }
        }
    }

    fn host(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn rib() -> Rib {
        Rib::new(1, &Sources::default())
    }

    fn event(state: NeighbourState) -> NeighbourEvent {
        NeighbourEvent { interface: LAN, address: host(1), state }
    }

    #[test]
    fn packets_wait_and_go_on_when_the_neighbour_answers() {
        let (mut neighbours, asked, mut rib) = (Neighbours::default(), Asked::default(), rib());
        for packet in 0..HELD_EACH {
            assert_eq!(neighbours.hold(LAN, host(1), FROM, packet, Some(&asked)), Ok(()));
        }
        assert_eq!(neighbours.hold(LAN, host(1), FROM, 99, Some(&asked)), Err("hold_queue_full"));
        assert_eq!(*asked.all.borrow(), [host(1)], "asked once");
        let none = neighbours.event(&event(NeighbourState::Incomplete), &mut rib, Some(&asked));
        assert_eq!(none, Released::Lost(vec![]));
        let all = neighbours.event(&event(NeighbourState::Reachable { mac: MAC }), &mut rib, Some(&asked));
        assert_eq!(all, Released::Resolved((0..HELD_EACH).collect()));
        assert!(neighbours.is_resolved(LAN, host(1)));
        assert_eq!(neighbours.held, 0);
    }

    #[test]
    fn packets_are_lost_when_it_does_not() {
        let (mut neighbours, asked, mut rib) = (Neighbours::default(), Asked::default(), rib());
        assert_eq!(neighbours.hold(LAN, host(1), FROM, 7, Some(&asked)), Ok(()));
        let lost = neighbours.event(&event(NeighbourState::Failed), &mut rib, Some(&asked));
        assert_eq!(lost, Released::Lost(vec![7]));
        assert!(!neighbours.is_resolved(LAN, host(1)));
        neighbours.event(&event(NeighbourState::Gone), &mut rib, Some(&asked));
        assert_eq!(neighbours.views().count(), 0);
    }

    #[test]
    fn a_stale_neighbour_is_confirmed_and_a_static_one_left_alone() {
        let (mut neighbours, asked, mut rib) = (Neighbours::<u32>::default(), Asked::default(), rib());
        neighbours.event(&event(NeighbourState::Stale { mac: MAC }), &mut rib, Some(&asked));
        assert_eq!(*asked.all.borrow(), [host(1)]);
        let fixed = StaticNeighbour { interface: LAN, address: host(1), mac: [2; 6] };
        neighbours.set_static(&[fixed], &mut rib);
        neighbours.event(&event(NeighbourState::Failed), &mut rib, Some(&asked));
        let view = neighbours.views().next().unwrap();
        assert_eq!((view.mac, view.state), (Some([2; 6]), State::Static));
    }

    #[test]
    fn who_speaks_in_the_stead_of_a_silent_neighbour_is_named() {
        let arp = |sender: [u8; 4]| [&[0, 1, 8, 0, 6, 4, 0, 1][..], &MAC, &sender, &[0; 10]].concat();
        assert_eq!(Stranger::of_arp(&arp([0; 4])), None, "a probe");
        assert_eq!(Stranger::of_arp(&arp([192, 0, 2, 6])[..17]), None, "cut short");
        let sender = Stranger::of_arp(&arp([192, 0, 2, 6])).unwrap();
        assert_eq!((sender.address.octets(), sender.mac), ([192, 0, 2, 6], MAC));
        let (mut neighbours, asked, mut rib) = (Neighbours::<u32>::default(), Asked::default(), rib());
        neighbours.hold(LAN, host(1), FROM, 0, Some(&asked)).unwrap();
        neighbours.saw(FROM, sender);
        assert_eq!(neighbours.views().next().unwrap().seen, None, "on another link");
        neighbours.saw(LAN, sender);
        neighbours.event(&event(NeighbourState::Failed), &mut rib, Some(&asked));
        assert_eq!(neighbours.views().next().unwrap().seen, Some(sender));
        neighbours.event(&event(NeighbourState::Reachable { mac: MAC }), &mut rib, Some(&asked));
        assert_eq!(neighbours.views().next().unwrap().seen, None, "it answers");
    }

    #[test]
    fn stale_neighbours_beyond_the_share_are_confirmed_later() {
        let (mut neighbours, asked, mut rib) = (Neighbours::<u32>::default(), Asked::default(), rib());
        let count = ASKS_EACH_TICK as u8 + 10;
        for last in 0..count {
            let state = NeighbourState::Stale { mac: MAC };
            let event = NeighbourEvent { interface: LAN, address: host(last), state };
            neighbours.event(&event, &mut rib, Some(&asked));
        }
        assert_eq!(asked.all.borrow().len(), ASKS_EACH_TICK);
        neighbours.tick();
        neighbours.ask_for_wanted(&rib, Some(&asked));
        let all: std::collections::BTreeSet<_> = asked.all.borrow().iter().copied().collect();
        assert_eq!(all.len(), usize::from(count), "each was asked for");
        assert_eq!(asked.all.borrow().len(), usize::from(count), "and none twice");
    }

    #[test]
    fn a_scan_asks_no_more_than_its_share_and_leaves_nothing_behind() {
        let (mut neighbours, asked) = (Neighbours::default(), Asked::default());
        let outcomes: Vec<_> =
            (0..200).map(|i| neighbours.hold(LAN, host(i), FROM, i, Some(&asked))).collect();
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), ASKS_FROM);
        assert_eq!(asked.all.borrow().len(), ASKS_FROM);
        assert_eq!(neighbours.views().count(), ASKS_FROM);
        assert_eq!(neighbours.hold(LAN, host(201), LAN, 0, Some(&asked)), Ok(()), "from elsewhere");
        assert!(neighbours.tick().is_empty(), "none has waited long");
        assert_eq!(neighbours.hold(LAN, host(250), FROM, 0, Some(&asked)), Ok(()), "a new share");
    }

    #[test]
    fn what_waits_of_one_link_leaves_room_for_the_others() {
        let (mut neighbours, asked, mut rib) = (Neighbours::default(), Asked::default(), rib());
        let mut ticks = 0;
        while neighbours.held < HELD_FROM {
            for packet in 0..ASKS_FROM * HELD_EACH {
                let address = IpAddr::from([10, ticks, 0, (packet / HELD_EACH) as u8]);
                let _ = neighbours.hold(LAN, address, FROM, packet, Some(&asked));
            }
            assert!(neighbours.tick().is_empty());
            ticks += 1;
        }
        assert_eq!(neighbours.held, HELD_FROM);
        assert_eq!(neighbours.hold(LAN, host(1), FROM, 0, Some(&asked)), Err("hold_queue_full"));
        assert_eq!(neighbours.hold(LAN, host(1), LAN, 0, Some(&asked)), Ok(()), "from elsewhere");
        // Room comes back as they go on.
        let address = IpAddr::from([10, 0, 0, 0]);
        let state = NeighbourState::Reachable { mac: MAC };
        neighbours.event(&NeighbourEvent { interface: LAN, address, state }, &mut rib, Some(&asked));
        assert_eq!(neighbours.hold(LAN, host(2), FROM, 0, Some(&asked)), Ok(()));
    }

    #[test]
    fn resolved_neighbours_follow_one_another_in_a_ring() {
        let (mut neighbours, mut rib) = (Neighbours::<u32>::default(), rib());
        let next = |neighbours: &Neighbours<u32>, last: Option<u8>| {
            let last = last.map(|last| (LAN, host(last)));
            let next = neighbours.after(last, |id, address| id == LAN && address.is_ipv4());
            next.map(|(.., address, mac)| (0..=9).find(|last| (address, mac) == (host(*last), MAC)))
        };
        assert_eq!(next(&neighbours, None), None);
        let v6 = IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]);
        let reachable = NeighbourState::Reachable { mac: MAC };
        for (interface, address, state) in [
            (LAN, host(2), NeighbourState::Failed),
            (LAN, host(3), reachable),
            (LAN, host(5), reachable),
            (LAN, v6, reachable),
            (FROM, host(1), reachable),
        ] {
            neighbours.event(&NeighbourEvent { interface, address, state }, &mut rib, None::<&Asked>);
        }
        let following = [None, Some(3), Some(4), Some(5), Some(9)].map(|last| next(&neighbours, last));
        assert_eq!(following, [3, 5, 5, 3, 3].map(|last| Some(Some(last))));
        let behind = neighbours.after(Some((LAN, host(5))), |id, _| id == LAN);
        assert_eq!(behind, Some((LAN, v6, MAC)), "IPv6 stands behind IPv4");
    }

    #[test]
    fn what_the_kernel_refuses_is_not_held() {
        let (mut neighbours, refuses) = (Neighbours::default(), Asked { refuses: true, ..Asked::default() });
        assert_eq!(neighbours.hold(LAN, host(1), FROM, 0, Some(&refuses)), Err("resolution_refused"));
        assert_eq!(neighbours.hold(LAN, host(1), FROM, 0, None::<&Asked>), Err("unresolved_no_tap"));
        assert_eq!(neighbours.held, 0);
    }
}
