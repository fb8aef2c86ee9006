//! Sequences of operations against a plain list of routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::exhaustion::limited;
use super::operations::{Op, ops};
use crate::fib::{Fib4Writer, Fib6Writer, FibError, MAX_GROUP};
use crate::grace::NoReaders;
use crate::ids::GroupId;

/// The tests of one family: its writer, the type of its addresses, and their width.
macro_rules! family {
    ($name:ident, $writer:ty, $addr:ty, $width:literal) => {
        mod $name {
            use super::*;

            /// Routes by (length, prefix).
            type Model = BTreeMap<(u8, $addr), GroupId>;

            fn narrow(prefix: u128) -> $addr {
                (prefix >> (128 - $width)) as $addr
            }

            fn mask(len: u8) -> $addr {
                <$addr>::MAX.checked_shl($width - u32::from(len)).unwrap_or(0)
            }

            fn best(model: &Model, addr: $addr) -> GroupId {
                let covers = model.iter().rev().find(|((len, prefix), _)| addr & mask(*len) == *prefix);
                covers.map_or(GroupId::NO_ROUTE, |(_, &group)| group)
            }

            /// Where answers can change: the ends of each route, and their neighbours.
            fn edges(model: &Model, more: &[$addr]) -> Vec<$addr> {
                let ends = model.keys().flat_map(|&(len, first)| {
                    let last = first | !mask(len);
                    [first, last, first.wrapping_sub(1), last.wrapping_add(1), first | (last - first) / 3]
                });
                let mut addrs: Vec<_> = ends.chain(more.iter().copied()).chain([0, <$addr>::MAX]).collect();
                addrs.sort_unstable();
                addrs.dedup();
                addrs
            }

            fn check(writer: &$writer, model: &Model, more: &[$addr]) -> Result<(), TestCaseError> {
                let fib = writer.reader();
                let addrs = edges(model, more);
                let mut out = vec![GroupId(u32::MAX); addrs.len()];
                fib.lookup_batch(&addrs, &mut out);
                for (&addr, &group) in addrs.iter().zip(&out) {
                    let best = best(model, addr);
                    prop_assert_eq!(group, best, "batch, {:x}", addr);
                    prop_assert_eq!(fib.lookup(addr), best, "one, {:x}", addr);
                }
                prop_assert_eq!(writer.len(), model.len());
                Ok(())
            }

            fn apply(writer: &mut $writer, model: &mut Model, op: Op) -> Result<(), TestCaseError> {
                match op {
                    Op::Insert(prefix, len, group) => {
                        let (prefix, group) = (narrow(prefix), GroupId(group));
                        prop_assert_eq!(writer.insert(prefix, len, group), Ok(model.insert((len, prefix), group)));
                    }
                    Op::Remove(at) if !model.is_empty() => {
                        let (len, prefix) = *model.keys().nth(at % model.len()).unwrap();
                        prop_assert_eq!(writer.remove(prefix, len), Ok(model.remove(&(len, prefix))));
                    }
                    Op::Remove(_) => {}
                    Op::RemoveAbsent(prefix, len) => {
                        let prefix = narrow(prefix);
                        prop_assert_eq!(writer.get(prefix, len), model.get(&(len, prefix)).copied());
                        prop_assert_eq!(writer.remove(prefix, len), Ok(model.remove(&(len, prefix))));
                    }
                    Op::Apply(changes) => {
                        // Groups 0 and 1 withdraw.
                        let group = |group: u32| (group > 1).then_some(GroupId(group));
                        let changes: Vec<_> =
                            changes.into_iter().map(|(p, len, g)| (narrow(p), len, group(g))).collect();
                        prop_assert_eq!(writer.apply(&changes), Ok(()));
                        for (prefix, len, group) in changes {
                            match group {
                                Some(group) => model.insert((len, prefix), group),
                                None => model.remove(&(len, prefix)),
                            };
                        }
                    }
                    Op::Load(routes) => {
                        let routes: Vec<_> =
                            routes.into_iter().map(|(p, len, group)| (narrow(p), len, GroupId(group))).collect();
                        writer.load(routes.iter().copied()).unwrap();
                        model.extend(routes.into_iter().map(|(prefix, len, group)| ((len, prefix), group)));
                    }
                }
                Ok(())
            }

            proptest! {
                #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 64 }, ..Default::default() })]

                #[test]
                fn every_sequence_agrees_with_the_model(
                    ops in ops($width),
                    random in prop::collection::vec(any::<$addr>(), 20),
                ) {
                    let mut writer = <$writer>::new(Arc::new(NoReaders)).unwrap();
                    let mut model = Model::new();
                    for op in ops {
                        apply(&mut writer, &mut model, op)?;
                        check(&writer, &model, &random)?;
                    }
                    for ((len, prefix), group) in std::mem::take(&mut model) {
                        prop_assert_eq!(writer.remove(prefix, len), Ok(Some(group)));
                    }
                    check(&writer, &model, &random)?;
                    prop_assert!(writer.is_as_new());
                }
            }

            /// What is in the table of these routes.
            fn present(writer: &$writer, routes: impl Iterator<Item = (u8, $addr)>) -> Model {
                routes.filter_map(|(len, prefix)| Some(((len, prefix), writer.get(prefix, len)?))).collect()
            }

            /// Does an operation with memory for so many allocations. What fails has changed nothing, or, where many
            /// routes change, is done up to one of them.
            fn apply_limited(writer: &mut $writer, model: &mut Model, op: Op, left: usize) -> Result<(), TestCaseError> {
                let change = match op {
                    Op::Insert(prefix, len, group) => (narrow(prefix), len, Some(GroupId(group))),
                    Op::Remove(at) if !model.is_empty() => {
                        let (len, prefix) = *model.keys().nth(at % model.len()).unwrap();
                        (prefix, len, None)
                    }
                    Op::Remove(_) => return Ok(()),
                    Op::RemoveAbsent(prefix, len) => (narrow(prefix), len, None),
                    Op::Load(routes) | Op::Apply(routes) => {
                        let routes: Vec<_> =
                            routes.into_iter().map(|(p, len, group)| (narrow(p), len, GroupId(group))).collect();
                        let done = limited(left, || writer.load(routes.iter().copied()));
                        let memory = matches!(done, Ok(()) | Err(FibError::Memory { .. }));
                        prop_assert!(memory, "{:?}", done);
                        let all = routes.iter().map(|&(prefix, len, _)| (len, prefix));
                        let now = present(writer, all.chain(model.keys().copied()));
                        for (key, group) in &now {
                            let given = || routes.iter().filter(|route| (route.1, route.0) == *key).map(|route| &route.2);
                            let old = model.get(key);
                            let right = if done.is_ok() {
                                Some(group) == given().next_back().or(old)
                            } else {
                                Some(group) == old || given().any(|given| given == group)
                            };
                            prop_assert!(right, "{:?}: {:?}", key, group);
                        }
                        prop_assert!(model.keys().all(|key| now.contains_key(key)));
                        *model = now;
                        return Ok(());
                    }
                };
                let (prefix, len, group) = change;
                let done = limited(left, || match group {
                    Some(group) => writer.insert(prefix, len, group),
                    None => writer.remove(prefix, len),
                });
                match (done, group) {
                    (Ok(old), Some(group)) => prop_assert_eq!(old, model.insert((len, prefix), group)),
                    (Ok(old), None) => prop_assert_eq!(old, model.remove(&(len, prefix))),
                    (Err(error), _) => prop_assert!(matches!(error, FibError::Memory { .. }), "{}", error),
                }
                Ok(())
            }

            proptest! {
                #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 64 }, ..Default::default() })]

                #[test]
                fn every_sequence_agrees_with_the_model_when_memory_fails(
                    ops in ops($width),
                    left in prop::collection::vec(0usize..12, 80),
                ) {
                    let mut writer = <$writer>::new(Arc::new(NoReaders)).unwrap();
                    let mut model = Model::new();
                    for (op, left) in ops.into_iter().zip(left) {
                        apply_limited(&mut writer, &mut model, op, left)?;
                        check(&writer, &model, &[])?;
                    }
                    for ((len, prefix), group) in std::mem::take(&mut model) {
                        prop_assert_eq!(writer.remove(prefix, len), Ok(Some(group)));
                    }
                    prop_assert!(writer.is_as_new());
                }
            }

            #[test]
            fn every_length_alone_and_nested() {
                for key in [0, <$addr>::MAX, <$addr>::MAX / 3] {
                    let mut writer = <$writer>::new(Arc::new(NoReaders)).unwrap();
                    let mut model = Model::new();
                    for len in 0..=$width {
                        let group = GroupId(u32::from(len) + 3);
                        assert_eq!(writer.insert(key & mask(len), len, group), Ok(None));
                        model.insert((len, key & mask(len)), group);
                        check(&writer, &model, &[]).unwrap();
                    }
                    for len in (0..=$width).step_by(2).chain((1..=$width).step_by(2)) {
                        assert!(writer.remove(key & mask(len), len).unwrap().is_some());
                        model.remove(&(len, key & mask(len)));
                        check(&writer, &model, &[]).unwrap();
                    }
                    assert!(writer.is_as_new());
                }
            }

            /// Announces and withdraws many routes whose addresses differ in the 32 bits from `start` on, in turns.
            fn crowd(start: u32, count: u32) {
                let mut writer = <$writer>::new(Arc::new(NoReaders)).unwrap();
                let mut model = Model::new();
                for at in 0..count {
                    let len = if at % 3 == 0 { $width } else { (start as u8 + 1 + (at % 33) as u8).min($width) };
                    let spread = 0x0A01_0203_0405 << 80 | u128::from(at.wrapping_mul(0x9E37_79B9)) << 96 >> start;
                    let prefix = narrow(spread) & mask(len);
                    let group = GroupId(at % 7);
                    assert_eq!(writer.insert(prefix, len, group), Ok(model.insert((len, prefix), group)));
                    if at % 5 == 4 {
                        let (len, prefix) = *model.keys().nth(at as usize * 7 % model.len()).unwrap();
                        assert_eq!(writer.remove(prefix, len), Ok(model.remove(&(len, prefix))));
                    }
                    if at % 500 == 499 {
                        check(&writer, &model, &[]).unwrap();
                    }
                }
                check(&writer, &model, &[]).unwrap();
                for (at, (len, prefix)) in model.keys().copied().collect::<Vec<_>>().into_iter().enumerate() {
                    assert!(writer.remove(prefix, len).unwrap().is_some());
                    model.remove(&(len, prefix));
                    if at % 500 == 0 {
                        check(&writer, &model, &[]).unwrap();
                    }
                }
                assert!(writer.is_as_new());
            }

            #[test]
            fn crowded_places_split_and_shrink() {
                // Within one chunk of each level, and across chunks and levels.
                for start in [0, 8, 16, 18, 20, 24, 28, 40, 60, 80, 92, 96].into_iter().filter(|&start| start < $width) {
                    crowd(start, if cfg!(miri) { 40 } else { 1500 });
                }
            }

            #[test]
            fn a_tree_that_chunks_share_outlives_a_change_under_one_of_them() {
                // Two chunks full of routes that say the same as what covers them: both lead to one shared tree.
                let mut writer = <$writer>::new(Arc::new(NoReaders)).unwrap();
                let mut model = Model::new();
                let start = if $width == 32 { 18 } else { 28 };
                let place = |chunk: u128, at: u128| narrow((1 << 127) | chunk << (128 - start) | at << (128 - start - 6));
                let mut set = |writer: &mut $writer, prefix, len, group| {
                    writer.insert(prefix, len, group).unwrap();
                    model.insert((len, prefix), group);
                    check(writer, &model, &[]).unwrap();
                };
                set(&mut writer, narrow(1 << 127), 4, GroupId(7));
                for at in 0..60 {
                    for chunk in 0..2 {
                        set(&mut writer, place(chunk, at), start + 6, GroupId(7));
                    }
                }
                for chunk in 0..2 {
                    set(&mut writer, place(chunk, 30), start + 6, GroupId(9));
                }
                for (len, prefix) in model.into_keys() {
                    writer.remove(prefix, len).unwrap();
                }
                assert!(writer.is_as_new());
            }

            #[test]
            fn deeper_chunks_side_by_side_change_one_by_one() {
                // Routes of neighbouring deeper chunks that say what covers them, so that both lead to one shared tree.
                for start in [18u32, 24, 28, 60, 92, 124].into_iter().filter(|&start| start < $width) {
                    let len = (start + 4) as u8;
                    let place = |at: u128| narrow((0x2001 << 112) | at << (128 - start));
                    for others in [0, 12] {
                        let mut writer = <$writer>::new(Arc::new(NoReaders)).unwrap();
                        let mut model = Model::new();
                        let step = |writer: &mut $writer, model: &mut Model, prefix, len, group: Option<u32>| {
                            match group {
                                Some(group) => {
                                    writer.insert(prefix, len, GroupId(group)).unwrap();
                                    model.insert((len, prefix), GroupId(group));
                                }
                                None => {
                                    writer.remove(prefix, len).unwrap();
                                    model.remove(&(len, prefix));
                                }
                            }
                            check(writer, model, &[]).unwrap();
                        };
                        step(&mut writer, &mut model, narrow(0x2001 << 112), 16, Some(7));
                        for at in 0..others {
                            step(&mut writer, &mut model, place(100 + 2 * at), start as u8, Some(9));
                        }
                        for at in 0..4 {
                            step(&mut writer, &mut model, place(at), len, Some(7));
                        }
                        for (at, group) in [(1, Some(8)), (2, Some(8)), (1, None), (0, Some(5)), (2, None), (1, Some(7))] {
                            step(&mut writer, &mut model, place(at), len, group);
                        }
                        for (len, prefix) in model.into_keys() {
                            writer.remove(prefix, len).unwrap();
                        }
                        assert!(writer.is_as_new());
                    }
                }
            }

            #[test]
            fn without_memory_nothing_changes() {
                // Room for a few routes only, filled and emptied twice.
                let mut writer = <$writer>::with_room(Arc::new(NoReaders), 1 << 15).unwrap();
                let mut model = Model::new();
                let mut refused = 0;
                for at in 0..if cfg!(miri) { 200u32 } else { 8000 } {
                    let spread = u128::from(at.wrapping_mul(0x9E37_79B9)) << 96;
                    let len = [20, 26, 12, 31, 32][at as usize % 5];
                    let prefix = narrow(spread) & mask(len);
                    if at % 7 == 6 {
                        let (len, prefix) = *model.keys().nth(at as usize % model.len()).unwrap();
                        match writer.remove(prefix, len) {
                            Ok(old) => assert_eq!(old, model.remove(&(len, prefix))),
                            Err(error) => assert!(matches!(error, FibError::Memory { .. })),
                        }
                        continue;
                    }
                    let group = GroupId(at % 1000 + 1);
                    match writer.insert(prefix, len, group) {
                        Ok(old) => assert_eq!(old, model.insert((len, prefix), group)),
                        Err(error) => {
                            assert!(matches!(error, FibError::Memory { .. }), "{error}");
                            assert_eq!(writer.get(prefix, len), model.get(&(len, prefix)).copied());
                            refused += 1;
                        }
                    }
                    if at % 1000 == 999 {
                        check(&writer, &model, &[]).unwrap();
                    }
                }
                assert!(cfg!(miri) || refused > 100, "{refused}");
                check(&writer, &model, &[]).unwrap();
            }

            #[test]
            fn bad_routes_are_refused_whole() {
                let mut writer = <$writer>::new(Arc::new(NoReaders)).unwrap();
                let error = FibError::Length { len: $width + 1, max: $width };
                assert_eq!(writer.insert(0, $width + 1, GroupId(3)), Err(error));
                assert!(writer.insert(1, $width - 1, GroupId(3)).is_err());
                let group = GroupId(MAX_GROUP.0 + 1);
                assert_eq!(writer.insert(0, 0, group), Err(FibError::Group { group }));
                assert!(writer.load([(0, 0, GroupId(3)), (1, 0, GroupId(3))]).is_err());
                assert!(writer.is_empty() && writer.is_as_new());
            }
        }
    };
}

family!(v4, Fib4Writer, u32, 32);
family!(v6, Fib6Writer, u128, 128);
