//! A replica of two tables, and a RIB behind it that must not be told of withdrawals of what it does not have.

use std::collections::HashMap;

use control::source::SourceId;
use control::source::rtnl::{Manners, Protocols, Replica, Table, Tables};
use dataplane::ids::{SubIfId, VrfId};

/// The main table, and table 100.
pub fn replica(manners: Manners) -> Replica {
    let table = |number, vrf, protocols| Table {
        number,
        vrf: VrfId(vrf),
        source: SourceId(u32::from(vrf)),
        protocols,
        interfaces: HashMap::from([(1, SubIfId(10)), (2, SubIfId(20))]),
        any_interface: vrf == 0,
    };
    let tables = vec![table(254, 0, Protocols::All), table(100, 1, Protocols::Made)];
    Replica::new(manners, Tables::new(tables), vec![Default::default(), Default::default()])
}

/// Takes all that is news.
pub fn drain(replica: &mut Replica) {
    while let Some(batch) = replica.news() {
        assert!(!batch.events.is_empty());
    }
    assert_eq!(replica.counts().waiting, 0);
}
