//! The real Internet tables, where they are there (`TURNPIKE_TABLES`, or `shared/data` beside the checkout): every /24 of IPv4,
//! the ends of every route of IPv6, against a table built another way; then everything is withdrawn.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use crate::fib::{Fib4Writer, Fib6Writer};
use crate::grace::NoReaders;
use crate::ids::GroupId;

/// The lines of a table, or `None` when it is not there.
fn lines(name: &str) -> Option<String> {
    let folder = std::env::var_os("TURNPIKE_TABLES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    let path = folder.join(name);
    if cfg!(miri) || !path.exists() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    let output = Command::new("zstdcat").arg(&path).output().expect("zstdcat runs");
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

/// A route as text: address, length, group.
fn fields(line: &str) -> (&str, u8, GroupId) {
    let (prefix, group) = line.split_once(' ').unwrap();
    let (addr, len) = prefix.split_once('/').unwrap();
    (addr, len.parse().unwrap(), GroupId(group.parse().unwrap()))
}

/// A permutation of the routes that is the same each time.
fn shuffle<T>(items: &mut [T]) {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for at in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        items.swap(at, (state >> 33) as usize % (at + 1));
    }
}

#[test]
fn every_24_of_the_real_ipv4_table() {
    let Some(text) = lines("v4_2024-01_bart_901k.txt.zst") else { return };
    let mut routes: Vec<(u32, u8, GroupId)> = text
        .lines()
        .map(|line| {
            let (addr, len, group) = fields(line);
            (addr.parse::<std::net::Ipv4Addr>().unwrap().to_bits(), len, group)
        })
        .collect();
    // The other way: shorter routes first, each painted over what it covers.
    let mut by_len = routes.clone();
    by_len.sort_by_key(|route| route.1);
    let mut painted = vec![GroupId::NO_ROUTE; 1 << 24];
    for &(prefix, len, group) in by_len.iter().filter(|route| route.1 <= 24) {
        painted[(prefix >> 8) as usize..][..1 << (24 - len)].fill(group);
    }
    // The /24s that longer routes are in are compared address by address.
    let mut deep = std::collections::BTreeMap::<u32, Vec<GroupId>>::new();
    for &(prefix, len, group) in by_len.iter().filter(|route| route.1 > 24) {
        let page = deep.entry(prefix >> 8).or_insert_with(|| vec![painted[(prefix >> 8) as usize]; 256]);
        page[(prefix & 255) as usize..][..1 << (32 - len)].fill(group);
    }
    let check = |fib: &crate::fib::Fib4| {
        let mut out = [GroupId(0); 64];
        for block in (0..1u32 << 24).step_by(64) {
            let addrs: [u32; 64] = std::array::from_fn(|at| (block + at as u32) << 8);
            fib.lookup_batch(&addrs, &mut out);
            for (at, (addr, group)) in (block as usize..).zip(addrs.iter().zip(out)) {
                let right = deep.get(&(addr >> 8)).map_or(painted[at], |page| page[0]);
                assert_eq!(group, right, "{addr:x}");
            }
        }
        for (page, right) in &deep {
            let addrs: Vec<u32> = (0..256).map(|low| page << 8 | low).collect();
            let mut out = [GroupId(0); 256];
            fib.lookup_batch(&addrs, &mut out);
            assert_eq!(out[..], right[..], "{page:x}");
        }
    };
    let mut writer = Fib4Writer::new(Arc::new(NoReaders)).unwrap();
    writer.load(routes.iter().copied()).unwrap();
    assert_eq!(writer.len(), routes.len());
    assert!(writer.reader().memory() < 5_000_000, "{} bytes", writer.reader().memory());
    check(&writer.reader());
    shuffle(&mut routes);
    for &(prefix, len, group) in &routes {
        assert_eq!(writer.remove(prefix, len), Ok(Some(group)));
    }
    assert!(writer.is_as_new());
    for &(prefix, len, group) in &routes {
        assert_eq!(writer.insert(prefix, len, group), Ok(None));
    }
    check(&writer.reader());
}

#[test]
fn every_route_of_the_real_ipv6_table() {
    let Some(text) = lines("v6_2024-01_bart_160k.txt.zst") else { return };
    let mut routes: Vec<(u128, u8, GroupId)> = text
        .lines()
        .map(|line| {
            let (addr, len, group) = fields(line);
            (addr.parse::<std::net::Ipv6Addr>().unwrap().to_bits(), len, group)
        })
        .collect();
    routes.sort_by_key(|route| (route.0, route.1));
    // The other way: a walk along the addresses with the routes that are open.
    let mut edges: Vec<u128> = routes
        .iter()
        .flat_map(|&(prefix, len, _)| {
            let last = prefix | u128::MAX.checked_shr(u32::from(len)).unwrap_or(0);
            [prefix, last, prefix.wrapping_sub(1), last.wrapping_add(1), prefix + (last - prefix) / 3]
        })
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let mut open: Vec<(u128, GroupId)> = Vec::new();
    let mut begin = routes.iter().peekable();
    let right: Vec<GroupId> = edges
        .iter()
        .map(|&addr| {
            while let Some(&&(prefix, len, group)) = begin.peek().filter(|route| route.0 <= addr) {
                open.retain(|&(last, _)| last >= prefix);
                open.push((prefix | u128::MAX.checked_shr(u32::from(len)).unwrap_or(0), group));
                begin.next();
            }
            open.retain(|&(last, _)| last >= addr);
            open.last().map_or(GroupId::NO_ROUTE, |&(_, group)| group)
        })
        .collect();
    let check = |fib: &crate::fib::Fib6| {
        let mut out = vec![GroupId(0); edges.len()];
        fib.lookup_batch(&edges, &mut out);
        assert!(out == right);
    };
    let mut writer = Fib6Writer::new(Arc::new(NoReaders)).unwrap();
    writer.load(routes.iter().copied()).unwrap();
    assert_eq!(writer.len(), routes.len());
    assert!(writer.reader().memory() < 5_000_000, "{} bytes", writer.reader().memory());
    check(&writer.reader());
    shuffle(&mut routes);
    for &(prefix, len, group) in &routes {
        assert_eq!(writer.remove(prefix, len), Ok(Some(group)));
    }
    assert!(writer.is_as_new());
    for &(prefix, len, group) in &routes {
        assert_eq!(writer.insert(prefix, len, group), Ok(None));
    }
    check(&writer.reader());
}
