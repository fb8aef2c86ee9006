//! Prefixes of both families as tables key them: small, ordered by address then length.

pub mod map;

use std::fmt::Debug;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::source::Family;

/// Runs `$body` with `$p` bound to the prefix of either family.
macro_rules! with_prefix {
    ($any:expr, $p:ident => $body:expr) => {
        match $any {
            $crate::prefix::AnyPrefix::V4($p) => $body,
            $crate::prefix::AnyPrefix::V6($p) => $body,
        }
    };
}
pub(crate) use with_prefix;

/// What the tables need of a family's prefix.
pub trait Prefix: Copy + Ord + Debug + Hash + 'static {
    /// An address as an integer in host order.
    type Addr: Copy + Ord + Debug;
    /// The key inside a shard: what the shard's number does not say.
    type Local: Copy + Ord + Debug;
    /// Its family.
    const FAMILY: Family;
    /// The lowest address.
    const ZERO: Self::Addr;
    /// Bits of an address.
    const BITS: u8;

    /// A prefix; host bits of `addr` are cleared, `len` is at most `BITS`.
    fn new(addr: Self::Addr, len: u8) -> Self;
    fn len(self) -> u8;
    /// Its lowest address.
    fn first(self) -> Self::Addr;
    /// Its highest address.
    fn last(self) -> Self::Addr;
    /// The address's two highest bytes, and the rest with the length.
    fn split(self) -> (u8, u8, Self::Local);
    fn join(high: u8, low: u8, local: Self::Local) -> Self;
    fn network(self) -> IpNetwork;
    /// `addr` in this family, if it is of it.
    fn addr_of(addr: IpAddr) -> Option<Self::Addr>;

    /// The prefix of one address.
    fn host(addr: Self::Addr) -> Self {
        Self::new(addr, Self::BITS)
    }
}

/// An IPv4 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V4 {
    addr: u32,
    len: u8,
}

/// An IPv6 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V6 {
    addr: u128,
    len: u8,
}

/// The host bits of a prefix of length `len`.
fn host_bits4(len: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(len)).unwrap_or(0)
}

/// The host bits of a prefix of length `len`.
fn host_bits6(len: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(len)).unwrap_or(0)
}

impl Prefix for V4 {
    type Addr = u32;
    type Local = u32;
    const FAMILY: Family = Family::Ipv4;
    const ZERO: Self::Addr = 0;
    const BITS: u8 = 32;

    fn new(addr: u32, len: u8) -> Self {
        let len = len.min(Self::BITS);
        Self { addr: addr & !host_bits4(len), len }
    }

    fn len(self) -> u8 {
        self.len
    }

    fn first(self) -> u32 {
        self.addr
    }

    fn last(self) -> u32 {
        self.addr | host_bits4(self.len)
    }

    fn split(self) -> (u8, u8, u32) {
        let [high, low, ..] = self.addr.to_be_bytes();
        (high, low, (self.addr & 0xffff) << 8 | u32::from(self.len))
    }

    fn join(high: u8, low: u8, local: u32) -> Self {
        Self { addr: u32::from_be_bytes([high, low, 0, 0]) | local >> 8, len: local as u8 }
    }

    #[expect(clippy::expect_used, reason = "a V4 is only made by `new` and `join`, which keep len <= 32")]
    fn network(self) -> IpNetwork {
        IpNetwork::V4(Ipv4Network::new_checked(Ipv4Addr::from(self.addr), self.len).expect("len <= 32"))
    }

    fn addr_of(addr: IpAddr) -> Option<u32> {
        match addr {
            IpAddr::V4(a) => Some(a.to_bits()),
            IpAddr::V6(_) => None,
        }
    }
}

impl Prefix for V6 {
    type Addr = u128;
    type Local = u128;
    const FAMILY: Family = Family::Ipv6;
    const ZERO: Self::Addr = 0;
    const BITS: u8 = 128;

    fn new(addr: u128, len: u8) -> Self {
        let len = len.min(Self::BITS);
        Self { addr: addr & !host_bits6(len), len }
    }

    fn len(self) -> u8 {
        self.len
    }

    fn first(self) -> u128 {
        self.addr
    }

    fn last(self) -> u128 {
        self.addr | host_bits6(self.len)
    }

    fn split(self) -> (u8, u8, u128) {
        let [high, low, ..] = self.addr.to_be_bytes();
        // The two bytes that go make room for the length.
        (high, low, self.addr << 16 >> 8 | u128::from(self.len))
    }

    fn join(high: u8, low: u8, local: u128) -> Self {
        let top = u128::from(u16::from_be_bytes([high, low])) << 112;
        Self { addr: top | local >> 8, len: local as u8 }
    }

    #[expect(clippy::expect_used, reason = "a V6 is only made by `new` and `join`, which keep len <= 128")]
    fn network(self) -> IpNetwork {
        IpNetwork::V6(Ipv6Network::new_checked(Ipv6Addr::from(self.addr), self.len).expect("len <= 128"))
    }

    fn addr_of(addr: IpAddr) -> Option<u128> {
        match addr {
            IpAddr::V6(a) => Some(a.to_bits()),
            IpAddr::V4(_) => None,
        }
    }
}

/// An [`IpNetwork`] in the family that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnyPrefix {
    V4(V4),
    V6(V6),
}

impl From<IpNetwork> for AnyPrefix {
    fn from(network: IpNetwork) -> Self {
        Self::new(network.ip(), network.prefix())
    }
}

impl AnyPrefix {
    /// The prefix of that length that an address is in.
    pub fn new(addr: IpAddr, len: u8) -> Self {
        match addr {
            IpAddr::V4(a) => Self::V4(V4::new(a.to_bits(), len)),
            IpAddr::V6(a) => Self::V6(V6::new(a.to_bits(), len)),
        }
    }

    /// The prefix of one address.
    pub fn host(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => Self::V4(V4::host(a.to_bits())),
            IpAddr::V6(a) => Self::V6(V6::host(a.to_bits())),
        }
    }

    /// It as others write it.
    pub fn network(self) -> IpNetwork {
        with_prefix!(self, p => p.network())
    }

    /// Whether it lies in `fe80::/10`, which is never routed.
    pub fn is_link_local(self) -> bool {
        matches!(self, Self::V6(p) if p.len >= 10 && p.addr >> 118 == 0xfe80 >> 6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn split_and_join_are_inverse_and_keep_order(
            a in any::<u32>(), al in 0u8..=32, b in any::<u32>(), bl in 0u8..=32,
            c in any::<u128>(), cl in 0u8..=128, d in any::<u128>(), dl in 0u8..=128,
        ) {
            let (p, q) = (V4::new(a, al), V4::new(b, bl));
            prop_assert_eq!({ let (h, l, k) = p.split(); V4::join(h, l, k) }, p);
            prop_assert_eq!(p.cmp(&q), p.split().cmp(&q.split()));
            let (p, q) = (V6::new(c, cl), V6::new(d, dl));
            prop_assert_eq!({ let (h, l, k) = p.split(); V6::join(h, l, k) }, p);
            prop_assert_eq!(p.cmp(&q), p.split().cmp(&q.split()));
        }
    }

    #[test]
    fn edges() {
        assert_eq!(V4::new(0xffff_ffff, 0).network().to_string(), "0.0.0.0/0");
        assert_eq!(V4::new(0, 0).last(), u32::MAX);
        assert_eq!(V6::new(u128::MAX, 128).last(), u128::MAX);
        let ll = |s: &str| AnyPrefix::from(s.parse::<IpNetwork>().unwrap()).is_link_local();
        assert!(ll("fe80::/10") && ll("febf::1/128"));
        assert!(!ll("fe00::/8") && !ll("fec0::/10") && !ll("2001:db8::/32"));
    }
}
