//! From a case's network to what workers read: tables, FIBs, groups and adjacencies.

use std::sync::Arc;

use dataplane::adjacency::{Adjacency, Forward};
use dataplane::fib::{Fib4Writer, Fib6Writer};
use dataplane::grace::{GracePeriod, NoReaders};
use dataplane::ids::{AdjId, GroupId, SubIfId};
use dataplane::sub_interface::SubInterfaces;
use dataplane::tables::{Tables, VrfTables};

use super::case::{Network, PEER_MAC};

/// The tables, and what owns the routes in them.
pub struct Loaded {
    pub tables: Tables,
    _v4: Fib4Writer,
    _v6: Fib6Writer,
}

/// Builds the tables of a network.
pub fn tables(network: &Network) -> Result<Loaded, String> {
    let text = |error: dataplane::fib::FibError| error.to_string();
    let sub_interfaces = SubInterfaces::new(network.sub_interfaces.clone());
    let sub_interfaces = Arc::new(sub_interfaces.map_err(|error| error.to_string())?);
    let grace: Arc<dyn GracePeriod> = Arc::new(NoReaders);
    let mut v4 = Fib4Writer::new(Arc::clone(&grace)).map_err(text)?;
    let mut v6 = Fib6Writer::new(grace).map_err(text)?;
    let group = |index: u32| GroupId(GroupId::FIRST_FREE.0 + index);
    let short = network.v4.iter().map(|&(prefix, len, to)| ((prefix >> 96) as u32, len, group(to)));
    v4.load(short).map_err(text)?;
    v6.load(network.v6.iter().map(|&(prefix, len, to)| (prefix, len, group(to)))).map_err(text)?;
    let vrfs = [VrfTables { v4: v4.reader(), v6: v6.reader() }];
    let mut tables = Tables::new(Arc::clone(&sub_interfaces), vrfs.into());
    for id in 0..network.sub_interfaces.len() as u16 {
        let Some(sub_if) = sub_interfaces.get(SubIfId(id)) else { continue };
        tables.add_adjacency(Adjacency::Forward(Forward::new(SubIfId(id), sub_if, PEER_MAC)));
    }
    for members in &network.groups {
        let members: Vec<_> = members.iter().map(|id| AdjId(AdjId::FIRST_FREE.0 + u32::from(*id))).collect();
        tables.add_group(&members);
    }
    Ok(Loaded { tables, _v4: v4, _v6: v6 })
}
