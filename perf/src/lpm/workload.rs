//! The addresses that are looked up.

use super::Family;
use super::memory::PacketMemory;
use super::random::Random;
use super::routes::Route;

/// How many addresses a workload has: more than any cache holds entries for.
pub const ADDRESSES: usize = 1 << 20;

/// The kinds of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Any address there is.
    Random,
    /// A random route, and a random address in it.
    InPrefixes,
    /// The same, but routes are popular by Zipf's law (exponent 1).
    Zipf,
    /// 256 addresses only.
    Hot,
}

impl Workload {
    pub const ALL: [Self; 4] = [Self::Random, Self::InPrefixes, Self::Zipf, Self::Hot];

    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::InPrefixes => "in prefixes",
            Self::Zipf => "zipf",
            Self::Hot => "hot",
        }
    }
}

/// The same addresses in the form that each table takes: numbers for ours and for IPv4, bytes for DPDK's IPv6.
/// They are on huge pages, where DPDK has them, as packets are: 16 MB on ordinary pages are more than a second-level TLB
/// covers.
pub struct Addresses {
    pub v4: PacketMemory<u32>,
    pub v6: PacketMemory<u128>,
    pub bytes: PacketMemory<[u8; 16]>,
}

impl Addresses {
    /// The addresses of a workload. DPDK runs.
    ///
    /// # Errors
    /// DPDK has no memory for them.
    pub fn new(family: Family, workload: Workload, routes: &[Route]) -> Result<Self, String> {
        let mut random = Random::new(11);
        let inside = |random: &mut Random, at: usize| {
            let (prefix, len, _) = routes[at];
            prefix | random.bits128() & u128::MAX.checked_shr(u32::from(len)).unwrap_or(0)
        };
        let all: Vec<u128> = match workload {
            Workload::Random => (0..ADDRESSES).map(|_| random.bits128()).collect(),
            Workload::InPrefixes => (0..ADDRESSES)
                .map(|_| {
                    let at = random.below(routes.len());
                    inside(&mut random, at)
                })
                .collect(),
            Workload::Zipf => {
                let sums = zipf(routes.len());
                let mut ranks: Vec<usize> = (0..routes.len()).collect();
                for at in (1..ranks.len()).rev() {
                    ranks.swap(at, random.below(at + 1));
                }
                let total = sums.last().copied().unwrap_or(1.0);
                (0..ADDRESSES)
                    .map(|_| {
                        let point = random.unit() * total;
                        let rank = sums.partition_point(|&sum| sum < point).min(ranks.len() - 1);
                        inside(&mut random, ranks[rank])
                    })
                    .collect()
            }
            Workload::Hot => {
                let hot: Vec<u128> = (0..256)
                    .map(|_| {
                        let at = random.below(routes.len());
                        inside(&mut random, at)
                    })
                    .collect();
                (0..ADDRESSES).map(|_| hot[random.below(hot.len())]).collect()
            }
        };
        let (v4, v6): (Vec<u32>, Vec<u128>) = match family {
            Family::V4 => (all.iter().map(|addr| (addr >> 96) as u32).collect(), vec![]),
            Family::V6 => (vec![], all),
        };
        let bytes: Vec<[u8; 16]> = v6.iter().map(|addr| addr.to_be_bytes()).collect();
        Ok(Self { v4: PacketMemory::of(&v4)?, v6: PacketMemory::of(&v6)?, bytes: PacketMemory::of(&bytes)? })
    }
}

/// Running sums of 1/rank.
fn zipf(count: usize) -> Vec<f64> {
    let mut sum = 0.0;
    (1..=count)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect()
}
