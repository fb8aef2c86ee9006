//! However a table has come to its routes, its blocks are those that it would have if they had been loaded at once: a
//! change that patches a block leaves no run in two.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::operations::{Op, ops};
use crate::fib::Fib4Writer;
use crate::grace::NoReaders;
use crate::ids::GroupId;

/// Routes by (prefix, length).
type Model = BTreeMap<(u32, u8), GroupId>;

fn apply(writer: &mut Fib4Writer, model: &mut Model, op: Op) {
    let changes: Vec<(u128, u8, Option<u32>)> = match op {
        Op::Insert(prefix, len, group) => vec![(prefix, len, Some(group))],
        Op::Remove(at) => {
            let route = model.keys().nth(at % model.len().max(1)).copied();
            route.map(|(prefix, len)| (u128::from(prefix) << 96, len, None)).into_iter().collect()
        }
        Op::RemoveAbsent(prefix, len) => vec![(prefix, len, None)],
        Op::Load(routes) => {
            routes.into_iter().map(|(prefix, len, group)| (prefix, len, Some(group))).collect()
        }
        // Groups 0 and 1 withdraw.
        Op::Apply(changes) => changes.into_iter().map(|(p, len, g)| (p, len, (g > 1).then_some(g))).collect(),
    };
    for (prefix, len, group) in changes {
        let (prefix, group) = ((prefix >> 96) as u32, group.map(GroupId));
        if let Some(group) = group {
            writer.insert(prefix, len, group).unwrap();
            model.insert((prefix, len), group);
        } else {
            writer.remove(prefix, len).unwrap();
            model.remove(&(prefix, len));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 64 }, ..Default::default() })]

    #[test]
    fn changes_leave_no_more_blocks_than_a_load(ops in ops(32)) {
        let mut writer = Fib4Writer::new(Arc::new(NoReaders)).unwrap();
        let mut model = Model::new();
        for op in ops {
            apply(&mut writer, &mut model, op);
        }
        let mut loaded = Fib4Writer::new(Arc::new(NoReaders)).unwrap();
        loaded.load(model.iter().map(|(&(prefix, len), &group)| (prefix, len, group))).unwrap();
        writer.reclaim();
        loaded.reclaim();
        prop_assert_eq!(writer.block_bytes(), loaded.block_bytes());
    }
}
