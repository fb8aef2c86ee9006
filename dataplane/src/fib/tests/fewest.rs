//! However an IPv4 table has come to its routes, its blocks are those that it would have if they had been loaded at
//! once: a change that patches a block leaves nothing wrong in it, and no run in two.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::fib::Fib4Writer;
use crate::grace::NoReaders;
use crate::ids::GroupId;

/// Where two chunks begin whose routes meet often.
const FIRST: u32 = 0x0A01_0000;

/// A /24 among 128, a length, a group, and whether the route is announced.
fn change() -> impl Strategy<Value = (u32, u8, u32, bool)> {
    // Some groups need a cell.
    let group = prop_oneof![40 => 0u32..3, 1 => Just(40_000)];
    (0u32..128, prop_oneof![40 => 17u8..=24, 1 => Just(26)], group, any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 32 }, ..Default::default() })]

    #[test]
    fn changes_leave_what_a_load_would(changes in prop::collection::vec(change(), 1..120)) {
        let mut writer = Fib4Writer::new(Arc::new(NoReaders)).unwrap();
        let mut model = BTreeMap::new();
        for (slot, len, group, there) in changes {
            let prefix = (FIRST | slot << 8) & u32::MAX << (32 - len);
            if there {
                writer.insert(prefix, len, GroupId(group)).unwrap();
                model.insert((prefix, len), GroupId(group));
            } else {
                writer.remove(prefix, len).unwrap();
                model.remove(&(prefix, len));
            }
            writer.reclaim();
            let mut loaded = Fib4Writer::new(Arc::new(NoReaders)).unwrap();
            loaded.load(model.iter().map(|(&(prefix, len), &group)| (prefix, len, group))).unwrap();
            loaded.reclaim();
            prop_assert_eq!(writer.block_bytes(), loaded.block_bytes());
            let (ours, other) = (writer.reader(), loaded.reader());
            for addr in (0..128).map(|slot| FIRST | slot << 8 | slot) {
                prop_assert_eq!(ours.lookup(addr), other.lookup(addr), "{:x}", addr);
            }
        }
    }
}
