//! Operations on the FIBs, against a plain list of routes: every answer and the state at the end must be the list's.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use dataplane::fib::{Fib4Writer, Fib6Writer};
use dataplane::grace::NoReaders;
use dataplane::ids::GroupId;
use libfuzzer_sys::fuzz_target;

/// A prefix: some bits at some place, so that prefixes meet often.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Place {
    bits: u16,
    at: u8,
    high: bool,
    len: u8,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Announce(Place, u16),
    Withdraw(Place),
    Batch(Vec<(Place, Option<u16>)>),
    Load(Vec<(Place, u16)>),
    LookUp(Vec<Place>),
}

impl Place {
    /// The address (left-aligned in 128 bits) and the length, for a family this wide.
    fn route(self, width: u8) -> (u128, u8) {
        let mut len = self.len % (width + 1);
        // A route over a large part of the root takes most of a second here; some of them will do.
        if (1..8).contains(&len) && self.at % 16 != 0 {
            len += 8;
        }
        let address = (u128::from(self.bits) << 112 >> (self.at % 112)) | u128::from(self.high) << 127;
        (address & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0), len)
    }
}

fn group(number: u16) -> GroupId {
    // Few groups, so that neighbours are often equal; some that do not fit in 15 bits.
    GroupId(if number % 16 == 0 { 0x7FF0 + u32::from(number) } else { u32::from(number % 4) })
}

macro_rules! family {
    ($name:ident, $writer:ty, $width:expr, $narrow:expr) => {
        fn $name(operations: &[Operation]) {
            let narrow = $narrow;
            let mut writer = <$writer>::new(Arc::new(NoReaders)).unwrap();
            let mut model: BTreeMap<(u8, u128), GroupId> = BTreeMap::new();
            let look_up = |model: &BTreeMap<(u8, u128), GroupId>, address: u128| {
                let covers = |len: u8, prefix: u128| {
                    (address ^ prefix) & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0) == 0
                };
                let longest = model.iter().rev().find(|&(&(len, prefix), _)| covers(len, prefix));
                longest.map_or(GroupId::NO_ROUTE, |(_, &group)| group)
            };
            for operation in operations {
                match operation {
                    Operation::Announce(place, number) => {
                        let (prefix, len) = place.route($width);
                        let old = writer.insert(narrow(prefix), len, group(*number)).unwrap();
                        assert_eq!(old, model.insert((len, prefix), group(*number)));
                    }
                    Operation::Withdraw(place) => {
                        let (prefix, len) = place.route($width);
                        assert_eq!(writer.remove(narrow(prefix), len).unwrap(), model.remove(&(len, prefix)));
                    }
                    Operation::Batch(changes) => {
                        let mut batch = Vec::new();
                        for &(place, number) in changes {
                            let (prefix, len) = place.route($width);
                            batch.push((narrow(prefix), len, number.map(group)));
                            match number {
                                Some(number) => drop(model.insert((len, prefix), group(number))),
                                None => drop(model.remove(&(len, prefix))),
                            }
                        }
                        writer.apply(&batch).unwrap();
                    }
                    Operation::Load(routes) => {
                        let routes: Vec<_> =
                            routes.iter().map(|(place, n)| (place.route($width), group(*n))).collect();
                        writer
                            .load(routes.iter().map(|&((prefix, len), group)| (narrow(prefix), len, group)))
                            .unwrap();
                        model.extend(routes.into_iter().map(|((prefix, len), group)| ((len, prefix), group)));
                    }
                    Operation::LookUp(places) => {
                        let addresses: Vec<u128> = places.iter().map(|place| place.route($width).0).collect();
                        let narrowed: Vec<_> = addresses.iter().map(|&address| narrow(address)).collect();
                        let mut found = vec![GroupId(u32::MAX); addresses.len()];
                        writer.reader().lookup_batch(&narrowed, &mut found);
                        for ((&address, &narrowed), &found) in addresses.iter().zip(&narrowed).zip(&found) {
                            assert_eq!(found, look_up(&model, address));
                            assert_eq!(found, writer.reader().lookup(narrowed));
                        }
                    }
                }
            }
            assert_eq!(writer.len(), model.len());
            for (&(len, prefix), &group) in &model {
                assert_eq!(writer.get(narrow(prefix), len), Some(group));
                let last = prefix | u128::MAX.checked_shr(u32::from(len)).unwrap_or(0);
                for address in [prefix, last] {
                    // Below the width of the family there is nothing to look up.
                    let address = address & u128::MAX << (128 - u32::from($width));
                    assert_eq!(writer.reader().lookup(narrow(address)), look_up(&model, address));
                }
            }
            for (len, prefix) in model.into_keys() {
                assert!(writer.remove(narrow(prefix), len).unwrap().is_some());
            }
            assert!(writer.is_empty());
        }
    };
}

family!(v4, Fib4Writer, 32u8, |address: u128| (address >> 96) as u32);
family!(v6, Fib6Writer, 128u8, |address: u128| address);

fuzz_target!(|operations: Vec<Operation>| {
    v4(&operations);
    v6(&operations);
});
