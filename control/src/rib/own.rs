//! What the router itself brings: connected prefixes, its own addresses, and host routes to its neighbours.
//!
//! - Our own addresses lead to the router itself, whatever the link's state.
//! - A connected prefix is there while its link is up; without the link its next hops are unresolved, so that
//!   other paths take over at once.
//! - The network and directed broadcast addresses of an IPv4 prefix of /30 or shorter are dropped (RFC 2644).
//! - A resolved neighbour has a host route while its address is in a connected prefix of its sub-interface by
//!   longest match: a more specific learned route still wins over it.
//! - `fe80::/10` is not routed: the data plane punts it.

use std::net::IpAddr;

use dataplane::ids::{SubIfId, VrfId};
use ipnetwork::IpNetwork;

use super::adjacency::Neighbour;
use super::attrs::{Own, SlotKey, Target};
use super::prefix::{AnyPrefix, Prefix, with_prefix};
use super::{Rib, RibError};
use crate::config::model::{PeeringKind, SubInterface};

/// A sub-interface as the RIB knows it.
pub(super) struct Interface {
    pub vrf: VrfId,
    addresses: Vec<IpNetwork>,
    /// What it has in the tables.
    routes: Vec<(IpNetwork, Own)>,
}

impl Interface {
    /// What it is to have in the tables.
    fn wanted(&self, subif: SubIfId, up: bool) -> Vec<(IpNetwork, Own)> {
        let mut routes = Vec::new();
        for address in &self.addresses {
            if AnyPrefix::from(*address).is_link_local() {
                continue;
            }
            routes.push((IpNetwork::from(address.ip()), Own::Local));
            if !up {
                continue;
            }
            let prefix = AnyPrefix::from(*address).network();
            routes.push((prefix, Own::Glean(subif)));
            if let IpNetwork::V4(v4) = address
                && v4.prefix() <= 30
            {
                routes.push((IpNetwork::from(IpAddr::V4(v4.network())), Own::Broadcast));
                routes.push((IpNetwork::from(IpAddr::V4(v4.broadcast())), Own::Broadcast));
            }
        }
        routes
    }
}

/// The path id by which a sub-interface's paths for one prefix differ.
fn path_id(subif: SubIfId, own: Own) -> u32 {
    let kind = match own {
        Own::Local => 0,
        Own::Broadcast => 1,
        Own::Glean(_) => 2,
        Own::Host(..) => 3,
    };
    u32::from(subif.0) << 2 | kind
}

impl Rib {
    /// Adds a sub-interface, or changes its addresses or VRF.
    ///
    /// # Errors
    ///
    /// Its VRF is not known.
    pub fn add_interface(
        &mut self,
        id: SubIfId,
        config: &SubInterface,
        link_up: bool,
    ) -> Result<(), RibError> {
        self.vrf(config.vrf)?;
        if self.interfaces.get(&id).is_some_and(|old| old.vrf != config.vrf) {
            self.remove_interface(id);
        }
        let interface = self.interfaces.entry(id).or_insert_with(|| Interface {
            vrf: config.vrf,
            addresses: Vec::new(),
            routes: Vec::new(),
        });
        interface.addresses.clone_from(&config.addresses);
        let microsoft = config.link.is_some_and(|link| link.peering == PeeringKind::Microsoft);
        self.defaults.guard(id, microsoft);
        self.groups.set_link(id, link_up);
        self.next_hops.set_link(id, link_up);
        self.refresh_interface(id)
    }

    /// Takes a sub-interface out, with its neighbours.
    pub fn remove_interface(&mut self, id: SubIfId) {
        let neighbours: Vec<IpAddr> =
            self.groups.adjacencies.neighbours().filter(|(s, ..)| *s == id).map(|(_, a, _)| a).collect();
        for address in neighbours {
            // It fails only for a sub-interface that is not there; then there is nothing to take out.
            let _ = self.set_neighbour(id, address, Neighbour::Gone);
        }
        if let Some(interface) = self.interfaces.get_mut(&id) {
            interface.addresses.clear();
            let _ = self.refresh_interface(id);
        }
        self.groups.adjacencies.forget_held(id);
        self.interfaces.remove(&id);
        self.next_hops.set_link(id, false);
    }

    /// A sub-interface's link went up or down. Groups leave it at the next [`Self::commit`], before any prefix is
    /// looked at.
    ///
    /// # Errors
    ///
    /// The sub-interface is not known.
    pub fn set_link(&mut self, id: SubIfId, up: bool) -> Result<(), RibError> {
        if !self.interfaces.contains_key(&id) {
            return Err(RibError::UnknownInterface { subif: id.0 });
        }
        self.groups.set_link(id, up);
        self.next_hops.set_link(id, up);
        self.refresh_interface(id)
    }

    /// What became known of a neighbour, resolved by the kernel or configured.
    ///
    /// # Errors
    ///
    /// The sub-interface is not known.
    pub fn set_neighbour(&mut self, id: SubIfId, address: IpAddr, state: Neighbour) -> Result<(), RibError> {
        let Some(interface) = self.interfaces.get(&id) else {
            return Err(RibError::UnknownInterface { subif: id.0 });
        };
        let vrf = interface.vrf;
        if !self.groups.set_neighbour(id, address, state) {
            return Ok(());
        }
        let prefix = AnyPrefix::host(address);
        if prefix.is_link_local() {
            return Ok(());
        }
        let resolved = matches!(state, Neighbour::Reachable(_));
        with_prefix!(prefix, p => self.set_host(vrf, p, Own::Host(id, address), id, resolved))
    }

    /// Takes a neighbour for dead until told otherwise, whatever the kernel says of it: for who knows sooner, such as
    /// BFD. Groups leave it at the next [`Self::commit`], for their other members or their backup.
    ///
    /// # Errors
    ///
    /// The sub-interface is not known, or [`MOST_HELD`](super::MOST_HELD) others are taken for dead already.
    pub fn hold_down(&mut self, id: SubIfId, address: IpAddr, down: bool) -> Result<(), RibError> {
        if !self.interfaces.contains_key(&id) {
            return Err(RibError::UnknownInterface { subif: id.0 });
        }
        self.groups.hold_down(id, address, down).ok_or(RibError::TooManyHeld)
    }

    /// Whether a neighbour is taken for dead by [`Self::hold_down`].
    pub fn is_held_down(&self, id: SubIfId, address: IpAddr) -> bool {
        self.groups.adjacencies.is_held_down(id, address)
    }

    /// The sub-interfaces in whose connected prefixes an address is.
    pub fn on_links(&self, address: IpAddr) -> Vec<SubIfId> {
        let has = |interface: &Interface| interface.addresses.iter().any(|own| own.contains(address));
        self.interfaces.iter().filter(|(_, interface)| has(interface)).map(|(id, _)| *id).collect()
    }

    /// Puts in or takes out the host route to a neighbour.
    fn set_host<K: Prefix>(
        &mut self,
        vrf: VrfId,
        key: K,
        own: Own,
        subif: SubIfId,
        resolved: bool,
    ) -> Result<(), RibError> {
        self.set_own(vrf, key, own, subif, resolved)?;
        let afi = K::afi_mut(&mut self.vrfs[usize::from(vrf.0)]);
        let paths = afi.table.get(key).map_or(&[][..], |entry| entry.paths.as_slice());
        let slots = &self.slots;
        if paths.iter().any(|p| matches!(slots.get(p.slot).target, Target::Own(Own::Host(..)))) {
            afi.hosts.insert(key.first());
        } else {
            afi.hosts.remove(&key.first());
        }
        Ok(())
    }

    /// Puts in or takes out one of the router's own paths.
    fn set_own<K: Prefix>(
        &mut self,
        vrf: VrfId,
        key: K,
        own: Own,
        subif: SubIfId,
        present: bool,
    ) -> Result<(), RibError> {
        let source = self.sources.intern(Self::CONNECTED, vrf)?;
        if present {
            let slot_key = SlotKey::Own(own);
            let slot =
                self.slots.find(&slot_key).unwrap_or_else(|| self.slots.add(slot_key, Target::Own(own)));
            self.slots.acquire(slot);
            self.put(source, key, path_id(subif, own), slot);
            self.drop_slot(slot);
        } else {
            self.withdraw(source, key, path_id(subif, own));
        }
        Ok(())
    }

    /// Brings the tables in line with a sub-interface's addresses and link.
    fn refresh_interface(&mut self, id: SubIfId) -> Result<(), RibError> {
        let Some(interface) = self.interfaces.get_mut(&id) else { return Ok(()) };
        let vrf = interface.vrf;
        let wanted = interface.wanted(id, self.groups.adjacencies.link_up(id));
        let before = std::mem::replace(&mut interface.routes, wanted.clone());
        let changes = (before.iter().filter(|route| !wanted.contains(route)).map(|route| (route, false)))
            .chain(wanted.iter().map(|route| (route, true)));
        for ((prefix, own), present) in changes {
            with_prefix!(AnyPrefix::from(*prefix), p => self.set_own(vrf, p, *own, id, present))?;
        }
        Ok(())
    }
}
