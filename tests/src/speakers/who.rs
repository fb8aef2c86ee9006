//! The seven that bring routes, and how many each has.

use super::route::{self, Routes};

/// One that brings routes.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    /// Its place in [`WHO`].
    pub index: usize,
    /// Its names as a source.
    pub sources: &'static [&'static str],
    /// The second byte of its routes; the hundreds in those of IPv6.
    pub number: u8,
    /// Whether it speaks BGP.
    pub bgp: bool,
    /// The preference of its routes.
    pub local_pref: u32,
    /// How many routes it has alone, IPv4 and IPv6.
    pub own: [usize; 2],
}

const fn bgp(index: usize, sources: &'static [&'static str], local_pref: u32, own: [usize; 2]) -> Who {
    Who { index, sources, number: 100 + index as u8, bgp: true, local_pref, own }
}

const fn table(index: usize, sources: &'static [&'static str]) -> Who {
    Who { index, sources, number: 110 + index as u8, bgp: false, local_pref: 100, own: MANY }
}

const MANY: [usize; 2] = [600, 300];
/// GoBGP takes them one by one over its API, a process for each.
const FEW: [usize; 2] = [90, 45];

/// FRR by BGP.
pub const FRR: Who = bgp(0, &["frr", "frr-ipv6"], 150, MANY);
/// BIRD by BGP.
pub const BIRD: Who = bgp(1, &["bird"], 140, MANY);
/// GoBGP.
pub const GOBGP: Who = bgp(2, &["gobgp"], 130, FEW);
/// ExaBGP.
pub const EXABGP: Who = bgp(3, &["exabgp"], 120, MANY);
/// OpenBGPD.
pub const OPENBGPD: Who = bgp(4, &["openbgpd"], 110, MANY);
/// FRR's zebra by FPM.
pub const FPM: Who = table(5, &["fpm"]);
/// BIRD by the kernel's table.
pub const KERNEL: Who = table(6, &["netlink"]);

/// All of them, each at its index.
pub const WHO: [Who; 7] = [FRR, BIRD, GOBGP, EXABGP, OPENBGPD, FPM, KERNEL];

impl Who {
    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.sources[0]
    }

    /// The gateway over which its routes lead.
    pub const fn gateway(&self) -> usize {
        self.index + 1
    }

    /// All its routes.
    pub fn feed(&self) -> Routes {
        route::feed(self.number, self.gateway(), self.local_pref, self.own)
    }
}
