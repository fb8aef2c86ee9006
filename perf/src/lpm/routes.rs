//! The routes of a run: the real Internet table where it is there, cut or grown to size, else a generated one with
//! the same distribution of lengths. Addresses are left-aligned in 128 bits for both families.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Family;
use super::random::Random;

/// A prefix, its length, and its next hop, 1 to 256.
pub type Route = (u128, u8, u32);

/// Next hops that the routes are spread over.
const HOPS: usize = 256;

/// Prefix lengths of today's Internet, in tenths of a percent.
const LENGTHS4: &[(u8, u32)] = &[
    (24, 600),
    (23, 98),
    (22, 100),
    (21, 50),
    (20, 45),
    (19, 32),
    (18, 18),
    (17, 12),
    (16, 25),
    (15, 4),
    (14, 4),
    (13, 2),
    (12, 1),
    (11, 1),
    (25, 1),
    (26, 1),
    (32, 1),
];
const LENGTHS6: &[(u8, u32)] = &[
    (48, 470),
    (32, 110),
    (40, 100),
    (44, 95),
    (36, 45),
    (46, 35),
    (47, 25),
    (29, 25),
    (42, 20),
    (45, 15),
    (33, 15),
    (34, 15),
    (38, 12),
    (39, 8),
    (28, 3),
    (30, 3),
    (56, 2),
    (64, 3),
];

/// Where the real tables are.
fn real_table(data: &Path, family: Family) -> PathBuf {
    data.join(match family {
        Family::V4 => "v4_2024-01_bart_901k.txt.zst",
        Family::V6 => "v6_2024-01_bart_160k.txt.zst",
    })
}

/// Exactly `count` routes, sorted; and whether they come from the real table.
pub fn routes(
    family: Family,
    count: usize,
    data: &Path,
    scatter: bool,
) -> Result<(Vec<Route>, bool), String> {
    let mut random = Random::new(7);
    let path = real_table(data, family);
    let real = path.exists();
    let mut routes = if real { read(&path, family)? } else { Vec::new() };
    // A smaller table is a sample of the larger one, not its beginning.
    for at in (1..routes.len()).rev() {
        routes.swap(at, random.below(at + 1));
    }
    routes.truncate(count);
    grow(family, &mut routes, count, &mut random);
    if scatter {
        for route in &mut routes {
            route.2 = random.below(HOPS) as u32 + 1;
        }
    }
    routes.sort_unstable();
    Ok((routes, real))
}

fn read(path: &Path, family: Family) -> Result<Vec<Route>, String> {
    let name = path.display();
    let output = Command::new("zstdcat").arg(path).output();
    let output = output.map_err(|error| format!("cannot run zstdcat for {name}: {error}; install zstd"))?;
    if !output.status.success() {
        return Err(format!("zstdcat {name}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| parse(line, family).ok_or_else(|| format!("{name}: not a route: {line:?}")))
        .collect()
}

fn parse(line: &str, family: Family) -> Option<Route> {
    let (prefix, hop) = line.split_once(' ')?;
    let (address, len) = prefix.split_once('/')?;
    let address = match family {
        Family::V4 => u128::from(address.parse::<Ipv4Addr>().ok()?.to_bits()) << 96,
        Family::V6 => address.parse::<Ipv6Addr>().ok()?.to_bits(),
    };
    Some((address, len.parse().ok()?, hop.parse().ok()?))
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

/// Adds routes up to `count`: more of what is near a route that is there, now and then a new allocation.
fn grow(family: Family, routes: &mut Vec<Route>, count: usize, random: &mut Random) {
    let lengths = match family {
        Family::V4 => LENGTHS4,
        Family::V6 => LENGTHS6,
    };
    let mut seen: HashSet<(u128, u8)> = routes.iter().map(|&(prefix, len, _)| (prefix, len)).collect();
    while routes.len() < count {
        let len = random.weighted(lengths);
        let allocation = match family {
            Family::V4 => 20,
            Family::V6 => 32,
        };
        let (prefix, hop) = if routes.is_empty() || random.below(if len <= allocation { 2 } else { 12 }) == 0
        {
            (anywhere(family, random), random.below(HOPS) as u32 + 1)
        } else {
            // A neighbour under the same allocation, mostly by the same way.
            let (near, _, hop) = routes[random.below(routes.len())];
            let kept = mask(allocation.min(len.saturating_sub(2)));
            let hop = if random.below(3) == 0 { random.below(HOPS) as u32 + 1 } else { hop };
            (near & kept | random.bits128() & !kept, hop)
        };
        let prefix = prefix & mask(len);
        if seen.insert((prefix, len)) {
            routes.push((prefix, len, hop));
        }
    }
}

/// An address in space that is handed out: 1.0.0.0 to 223.255.255.255, or the registries' /12s to /16s.
fn anywhere(family: Family, random: &mut Random) -> u128 {
    let rest = random.bits128();
    match family {
        Family::V4 => u128::from(random.below(223) as u32 + 1) << 120 | rest >> 8,
        Family::V6 => {
            let blocks = [
                0x2001, 0x2400, 0x2401, 0x2402, 0x2403, 0x2404, 0x2405, 0x2406, 0x2407, 0x2600, 0x2602,
                0x2604, 0x2605, 0x2606, 0x2607, 0x2610, 0x2620, 0x2800, 0x2801, 0x2803, 0x2804, 0x2806,
                0x2a00, 0x2a01, 0x2a02, 0x2a03, 0x2a04, 0x2a05, 0x2a06, 0x2a07, 0x2a09, 0x2a0a, 0x2a0b,
                0x2a0c, 0x2a0d, 0x2a0e, 0x2a0f, 0x2a10, 0x2a12, 0x2c0f,
            ];
            blocks[random.below(blocks.len())] << 112 | rest >> 16
        }
    }
}
