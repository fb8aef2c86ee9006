//! Policies: what a sub-interface does with packets besides forwarding them. Checks of what comes in and of what goes
//! out, and changes to what goes out. Most sub-interfaces have none, and packets then pass no stage for them.

use std::sync::Arc;

use crate::acl::Acl;
use crate::burst::BURST;
use crate::ids::{AclId, SubIfId};

/// A set of features. Those of a packet are the features of the sub-interface it came in on, or leaves by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u8);

impl Features {
    /// None.
    pub const NONE: Self = Self(0);
    /// Coming in: a route must lead back to the source.
    pub const REVERSE_PATH: Self = Self(1);
    /// Leaving: private and shared sources do not.
    pub const PUBLIC_SOURCES: Self = Self(1 << 1);
    /// Leaving: DSCP, or the priority that follows from it, is set.
    pub const MARKING: Self = Self(1 << 2);

    /// Coming in and leaving: the segment size that TCP agrees on is limited.
    pub const MSS: Self = Self(1 << 3);
    /// Coming in: an access list must permit it.
    pub const ACCESS_IN: Self = Self(1 << 4);
    /// Leaving: an access list must permit it.
    pub const ACCESS_OUT: Self = Self(1 << 5);

    /// What `stage::policy::ingress` is there for.
    pub const INGRESS: Self = Self::REVERSE_PATH.and(Self::ACCESS_IN);
    /// What `stage::policy::forward` is there for.
    pub const EGRESS: Self = Self::PUBLIC_SOURCES.and(Self::ACCESS_OUT).and(Self::MARKING).and(Self::MSS);

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of `others` is among them.
    #[inline(always)]
    pub const fn any_of(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }
}

/// Which way packets pass a sub-interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received on it.
    In,
    /// Sent on it.
    Out,
}

/// Unicast reverse path forwarding (RFC 3704, section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReversePath {
    /// Any source may come in.
    #[default]
    Off,
    /// A route other than a discard route must cover the source.
    Loose,
    /// The best route to the source must lead out of this sub-interface, over whichever of its members: «feasible» where
    /// paths are equal.
    Strict,
}

/// The DSCP values that leave as they are; any other becomes 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DscpSet(pub u64);

impl DscpSet {
    /// All 64: nothing is changed.
    pub const ALL: Self = Self(u64::MAX);

    /// What `dscp`, 0 to 63, leaves as.
    #[inline(always)]
    pub fn limit(self, dscp: u8) -> u8 {
        if self.0 >> (dscp & 63) & 1 == 1 { dscp } else { 0 }
    }
}

impl FromIterator<u8> for DscpSet {
    fn from_iter<T: IntoIterator<Item = u8>>(values: T) -> Self {
        Self(values.into_iter().fold(0, |set, dscp| set | 1 << (dscp & 63)))
    }
}

/// The largest TCP segment that either end of a connection may be told of, in bytes; `u16::MAX` leaves it to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MssClamp {
    /// Over IPv4.
    pub v4: u16,
    /// Over IPv6.
    pub v6: u16,
}

impl Default for MssClamp {
    fn default() -> Self {
        Self { v4: u16::MAX, v6: u16::MAX }
    }
}

/// What one sub-interface does besides forwarding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which sources may come in.
    pub reverse_path: ReversePath,
    /// Whether private and shared sources are kept from leaving (RFC 1918, RFC 6598, RFC 4193).
    pub public_sources: bool,
    /// Which DSCP values may leave.
    pub dscp: DscpSet,
    /// The priority that a packet leaves with, by its DSCP; the sub-interface must carry priorities, not set one.
    pub pcp_from_dscp: Option<Box<[u8; 64]>>,
    /// How large TCP's segments may be, in both directions.
    pub mss: MssClamp,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            reverse_path: ReversePath::Off,
            public_sources: false,
            dscp: DscpSet::ALL,
            pcp_from_dscp: None,
            mss: MssClamp::default(),
        }
    }
}

impl Policy {
    /// What it takes to do it.
    pub fn features(&self) -> Features {
        let marking = self.dscp != DscpSet::ALL || self.pcp_from_dscp.is_some();
        let all = [
            (self.reverse_path != ReversePath::Off, Features::REVERSE_PATH),
            (self.public_sources, Features::PUBLIC_SOURCES),
            (marking, Features::MARKING),
            (self.mss != MssClamp::default(), Features::MSS),
        ];
        all.into_iter().filter(|(on, _)| *on).fold(Features::NONE, |set, (_, feature)| set.and(feature))
    }
}

/// The policies of all sub-interfaces.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    all: Box<[Policy]>,
    features: Box<[Features]>,
    any: Features,
    /// The access list that each sub-interface has for what comes in, and for what goes out.
    access: Box<[[Option<AclId>; 2]]>,
    lists: Box<[Arc<Acl>]>,
    /// Whether the sender of a packet that is refused is told (RFC 1812, section 5.2.7.1; RFC 4443, section 3.1).
    pub tell: bool,
}

impl Policies {
    /// The policies by [`SubIfId`]; sub-interfaces beyond the end have none. `tell`: whether senders are told of what
    /// is refused.
    pub fn new(all: Vec<Policy>, tell: bool) -> Self {
        let features: Box<[_]> = all.iter().map(Policy::features).collect();
        let any = features.iter().fold(Features::NONE, |any, one| any.and(*one));
        Self { all: all.into(), features, any, tell, ..Self::default() }
    }

    /// The same with access lists. `access`: by [`SubIfId`], the list for each [`Direction`].
    #[must_use]
    pub fn with_access(mut self, access: Vec<[Option<AclId>; 2]>, lists: Vec<Arc<Acl>>) -> Self {
        let mut features = self.features.into_vec();
        features.resize(features.len().max(access.len()), Features::NONE);
        for (features, access) in features.iter_mut().zip(&access) {
            for (list, feature) in access.iter().zip([Features::ACCESS_IN, Features::ACCESS_OUT]) {
                *features = features.and(if list.is_some() { feature } else { Features::NONE });
            }
        }
        self.any = features.iter().fold(Features::NONE, |any, one| any.and(*one));
        Self { features: features.into(), access: access.into(), lists: lists.into(), ..self }
    }

    /// The access list of a sub-interface, if it has one.
    #[inline(always)]
    pub fn access(&self, id: SubIfId, direction: Direction) -> Option<AclId> {
        self.access.get(usize::from(id.0)).and_then(|access| access[direction as usize])
    }

    /// An access list.
    #[inline(always)]
    pub fn list(&self, id: AclId) -> Option<&Acl> {
        self.lists.get(usize::from(id.0)).map(|list| &**list)
    }

    /// The features that any sub-interface has.
    #[inline(always)]
    pub fn any(&self) -> Features {
        self.any
    }

    /// The policy of a sub-interface that has one.
    #[inline(always)]
    pub fn get(&self, id: SubIfId) -> Option<&Policy> {
        self.all.get(usize::from(id.0))
    }

    /// The features of a sub-interface.
    #[inline(always)]
    pub fn features(&self, id: SubIfId) -> Features {
        self.features.get(usize::from(id.0)).copied().unwrap_or_default()
    }

    /// The features of each packet of `packets` (bits) by its sub-interface.
    #[inline(always)]
    pub fn of(&self, sub_if: &[SubIfId; BURST], packets: u64) -> OfPackets {
        let mut of = [Features::NONE; BURST];
        for (features, id) in of.iter_mut().zip(sub_if) {
            *features = self.features(*id);
        }
        OfPackets { of, packets }
    }
}

/// The features of each packet of a burst.
pub struct OfPackets {
    of: [Features; BURST],
    packets: u64,
}

impl OfPackets {
    /// The packets that have any of `features`, as bits.
    #[inline(always)]
    pub fn having(&self, features: Features) -> u64 {
        let bit = |(i, of): (usize, &Features)| u64::from(of.any_of(features)) << i;
        self.of.iter().enumerate().map(bit).fold(0, |bits, bit| bits | bit) & self.packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_has_the_features_that_it_needs() {
        assert_eq!(Policy::default().features(), Features::NONE);
        let strict = Policy { reverse_path: ReversePath::Strict, ..Policy::default() };
        assert_eq!(strict.features(), Features::REVERSE_PATH);
        let marking = Policy { pcp_from_dscp: Some(Box::new([0; 64])), ..Policy::default() };
        assert_eq!(marking.features(), Features::MARKING);
        let policies = Policies::new(vec![Policy::default(), strict, marking], false);
        assert!(policies.any().any_of(Features::INGRESS) && policies.any().any_of(Features::EGRESS));
        let mut sub_if = [SubIfId(0); BURST];
        (sub_if[3], sub_if[4], sub_if[5]) = (SubIfId(1), SubIfId(1), SubIfId(9));
        assert_eq!(policies.of(&sub_if, 0b10_1011).having(Features::INGRESS), 0b00_1000);
    }

    #[test]
    fn values_outside_the_set_become_zero() {
        let set: DscpSet = [46, 34, 18, 10, 0].into_iter().collect();
        for dscp in 0..64 {
            let kept = [46, 34, 18, 10, 0].contains(&dscp);
            assert_eq!(set.limit(dscp), if kept { dscp } else { 0 });
            assert_eq!(DscpSet::ALL.limit(dscp), dscp);
        }
    }
}
