//! On which link of a VRF an address is, by look-up: it is asked for each packet that the kernel gets.

use std::collections::HashMap;
use std::net::IpAddr;

use dataplane::ids::{SubIfId, VrfId};

use crate::config::model::Config;
use crate::prefix::AnyPrefix;

/// The connected prefixes of all sub-interfaces.
pub struct Links {
    /// By sub-interface.
    vrfs: Vec<VrfId>,
    by_prefix: HashMap<(VrfId, AnyPrefix), SubIfId>,
    /// The lengths that there are, of IPv4 and of IPv6, longest first.
    lengths: [Vec<u8>; 2],
}

impl Links {
    /// Those that the configuration has.
    pub fn new(config: &Config) -> Self {
        let vrfs = config.sub_interfaces.iter().map(|link| link.vrf).collect();
        let mut this = Self { vrfs, by_prefix: HashMap::new(), lengths: Default::default() };
        for (id, link) in super::sub_if_ids(config) {
            for address in &link.addresses {
                this.by_prefix.entry((link.vrf, (*address).into())).or_insert(id);
                this.lengths[usize::from(address.is_ipv6())].push(address.prefix());
            }
        }
        for lengths in &mut this.lengths {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        this
    }

    /// How many sub-interfaces there are.
    pub fn count(&self) -> usize {
        self.vrfs.len()
    }

    /// The sub-interface that an address is on, in the VRF of the sub-interface `from`.
    pub fn find(&self, from: SubIfId, address: IpAddr) -> Option<SubIfId> {
        let vrf = *self.vrfs.get(usize::from(from.0))?;
        let lengths = self.lengths[usize::from(address.is_ipv6())].iter();
        lengths
            .map(|len| (vrf, AnyPrefix::new(address, *len)))
            .find_map(|key| self.by_prefix.get(&key).copied())
    }
}
