//! The mirror itself: what the kernel's messages say of neighbours, and what of it is new.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use dataplane::ids::SubIfId;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{self, NeighbourAddress, NeighbourAttribute};

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeighbourState {
    /// The kernel is asking, and has no MAC yet.
    Incomplete,
    /// Confirmed of late, or set by hand for good.
    Reachable {
        /// Its MAC.
        mac: [u8; 6],
    },
    /// Not confirmed of late: good for sending, and to be refreshed (`KernelSide::resolve`) while in use.
    Stale {
        /// Its MAC.
        mac: [u8; 6],
    },
    /// Being confirmed: good for sending until it becomes reachable or fails.
    Probing {
        /// Its MAC.
        mac: [u8; 6],
    },
    /// It did not answer.
    Failed,
    /// The kernel has forgotten it, or it was deleted.
    Gone,
}

impl NeighbourState {
    /// The MAC to send to, if there is one.
    pub fn mac(self) -> Option<[u8; 6]> {
        match self {
            Self::Reachable { mac } | Self::Stale { mac } | Self::Probing { mac } => Some(mac),
            Self::Incomplete | Self::Failed | Self::Gone => None,
        }
    }
}

/// A neighbour's new state. States that repeat are not reported again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighbourEvent {
    /// The sub-interface it is on.
    pub interface: SubIfId,
    /// Its address.
    pub address: IpAddr,
    /// Its state.
    pub state: NeighbourState,
}

/// One line of the kernel's table, or of a change to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) index: u32,
    pub(super) address: IpAddr,
    pub(super) state: NeighbourState,
}

/// What a message says of a neighbour; `None` for what is none (multicast, broadcast, bridge entries, proxies).
pub(super) fn entry(message: &RouteNetlinkMessage) -> Option<Entry> {
    use neighbour::NeighbourState as Kernel;
    let (message, deleted) = match message {
        RouteNetlinkMessage::NewNeighbour(message) => (message, false),
        RouteNetlinkMessage::DelNeighbour(message) => (message, true),
        _ => return None,
    };
    if message.header.flags.contains(neighbour::NeighbourFlags::Proxy) {
        return None;
    }
    let mut address: Option<IpAddr> = None;
    let mut mac: Option<[u8; 6]> = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some((*v6).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let state = match (message.header.state, mac) {
        _ if deleted => NeighbourState::Gone,
        // The kernel's own: the MAC follows from the address.
        (Kernel::Noarp, _) => return None,
        (Kernel::Reachable | Kernel::Permanent, Some(mac)) => NeighbourState::Reachable { mac },
        (Kernel::Stale, Some(mac)) => NeighbourState::Stale { mac },
        (Kernel::Delay | Kernel::Probe, Some(mac)) => NeighbourState::Probing { mac },
        (Kernel::Failed, _) => NeighbourState::Failed,
        _ => NeighbourState::Incomplete,
    };
    Some(Entry { index: message.header.ifindex, address: address?, state })
}

/// The mirror itself: what was last reported, for the interfaces that are ours.
#[derive(Debug)]
pub(super) struct Table {
    interfaces: HashMap<u32, SubIfId>,
    states: HashMap<(u32, IpAddr), NeighbourState>,
}

impl Table {
    pub(super) fn new(interfaces: impl IntoIterator<Item = (u32, SubIfId)>) -> Self {
        Self { interfaces: interfaces.into_iter().collect(), states: HashMap::new() }
    }

    /// Takes a change, and returns what to report of it.
    pub(super) fn apply(&mut self, entry: Entry) -> Option<NeighbourEvent> {
        let Entry { index, address, state } = entry;
        let interface = *self.interfaces.get(&index)?;
        let before = match state {
            NeighbourState::Gone => self.states.remove(&(index, address)),
            _ => self.states.insert((index, address), state),
        };
        (before.unwrap_or(NeighbourState::Gone) != state).then_some(NeighbourEvent {
            interface,
            address,
            state,
        })
    }

    /// Takes the whole table, and returns what to report: first what vanished, then what is new or has changed.
    pub(super) fn replace(&mut self, snapshot: &[Entry]) -> Vec<NeighbourEvent> {
        let present: HashSet<_> = snapshot.iter().map(|entry| (entry.index, entry.address)).collect();
        let vanished: Vec<_> = self.states.keys().filter(|key| !present.contains(key)).copied().collect();
        let gone = vanished.into_iter().map(|(index, address)| Entry {
            index,
            address,
            state: NeighbourState::Gone,
        });
        gone.chain(snapshot.iter().copied()).filter_map(|entry| self.apply(entry)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::neighbour::{NeighbourMessage, NeighbourState as Kernel};
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn message(state: Kernel, attributes: Vec<NeighbourAttribute>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 4;
        message.header.state = state;
        message.attributes = attributes;
        message
    }

    fn to(address: &str) -> NeighbourAttribute {
        NeighbourAttribute::Destination(address.parse::<IpAddr>().unwrap().into())
    }

    fn at(mac: &[u8]) -> NeighbourAttribute {
        NeighbourAttribute::LinkLayerAddress(mac.to_vec())
    }

    #[test]
    fn states_of_the_kernel_as_ours() {
        let new = |state, attributes| {
            entry(&RouteNetlinkMessage::NewNeighbour(message(state, attributes))).map(|entry| entry.state)
        };
        let known = || vec![to("192.0.2.2"), at(&MAC)];
        for (kernel, ours) in [
            (Kernel::Reachable, NeighbourState::Reachable { mac: MAC }),
            (Kernel::Permanent, NeighbourState::Reachable { mac: MAC }),
            (Kernel::Stale, NeighbourState::Stale { mac: MAC }),
            (Kernel::Delay, NeighbourState::Probing { mac: MAC }),
            (Kernel::Probe, NeighbourState::Probing { mac: MAC }),
            (Kernel::Failed, NeighbourState::Failed),
            (Kernel::Incomplete, NeighbourState::Incomplete),
            (Kernel::None, NeighbourState::Incomplete),
        ] {
            assert_eq!(new(kernel, known()), Some(ours), "{kernel:?}");
        }
        // Nobody's neighbour, or none that we could send to.
        assert_eq!(new(Kernel::Noarp, vec![to("ff02::1"), at(&MAC)]), None);
        assert_eq!(new(Kernel::Reachable, vec![at(&MAC)]), None);
        assert_eq!(new(Kernel::Reachable, vec![to("2001:db8::2")]), Some(NeighbourState::Incomplete));
        assert_eq!(
            new(Kernel::Reachable, vec![to("192.0.2.2"), at(&MAC[..5])]),
            Some(NeighbourState::Incomplete)
        );
        let mut proxy = message(Kernel::Reachable, known());
        proxy.header.flags = neighbour::NeighbourFlags::Proxy;
        assert_eq!(entry(&RouteNetlinkMessage::NewNeighbour(proxy)), None);
        let deleted = entry(&RouteNetlinkMessage::DelNeighbour(message(Kernel::Reachable, known())));
        assert_eq!(deleted.map(|entry| entry.state), Some(NeighbourState::Gone));
    }

    /// A change, or the whole table read anew.
    #[derive(Clone, Debug)]
    enum Step {
        Change(Entry),
        Snapshot(Vec<Entry>),
    }

    fn any_entry(states: usize) -> impl Strategy<Value = Entry> {
        // Index 3 is not one of ours. A snapshot has no `Gone`, which is the last.
        (1u32..4, 0u8..6, 0..states).prop_map(|(index, host, state)| Entry {
            index,
            address: IpAddr::from([192, 0, 2, host]),
            state: [
                NeighbourState::Incomplete,
                NeighbourState::Reachable { mac: MAC },
                NeighbourState::Stale { mac: MAC },
                NeighbourState::Reachable { mac: [2, 0, 0, 0, 0, 2] },
                NeighbourState::Failed,
                NeighbourState::Gone,
            ][state],
        })
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => any_entry(6).prop_map(Step::Change),
            1 => proptest::collection::vec(any_entry(5), 0..10).prop_map(|mut entries| {
                entries.sort_by_key(|entry| (entry.index, entry.address));
                entries.dedup_by_key(|entry| (entry.index, entry.address));
                Step::Snapshot(entries)
            }),
        ]
    }

    proptest! {
        /// Whoever applies the events has the kernel's table, and no event repeats what is known.
        #[test]
        fn events_make_the_table(steps in proptest::collection::vec(any_step(), 0..40)) {
            let ours = [(1u32, SubIfId(10)), (2, SubIfId(20))];
            let mut table = Table::new(ours);
            let mut kernel: HashMap<(u32, IpAddr), NeighbourState> = HashMap::new();
            let mut consumer: HashMap<(SubIfId, IpAddr), NeighbourState> = HashMap::new();
            for step in steps {
                let events = match step {
                    Step::Change(entry) => {
                        kernel.insert((entry.index, entry.address), entry.state);
                        table.apply(entry).into_iter().collect()
                    }
                    Step::Snapshot(entries) => {
                        kernel = entries.iter().map(|entry| ((entry.index, entry.address), entry.state)).collect();
                        table.replace(&entries)
                    }
                };
                kernel.retain(|_, state| *state != NeighbourState::Gone);
                for event in events {
                    let before = match event.state {
                        NeighbourState::Gone => consumer.remove(&(event.interface, event.address)),
                        state => consumer.insert((event.interface, event.address), state),
                    };
                    prop_assert_ne!(before.unwrap_or(NeighbourState::Gone), event.state);
                }
                let expected: HashMap<_, _> = kernel
                    .iter()
                    .filter_map(|(&(index, address), &state)| {
                        let interface = ours.iter().find(|(number, _)| *number == index)?.1;
                        Some(((interface, address), state))
                    })
                    .collect();
                prop_assert_eq!(&consumer, &expected);
            }
        }
    }
}
