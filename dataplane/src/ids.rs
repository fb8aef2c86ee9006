//! The small numbers by which the data plane names its things: each an index into an array.

/// Index of a port (a NIC or DPDK virtual device) in configuration order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PortId(pub u16);

/// Index of a sub-interface: one (port, outer tag, inner tag).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SubIfId(pub u16);

/// Index of a VRF: one pair of IPv4 and IPv6 tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VrfId(pub u16);

/// Index of an access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclId(pub u16);

/// Index of a next-hop group: what a FIB look-up yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupId(pub u32);

impl GroupId {
    /// No route covers the address. The group's only member punts with `PuntReason::NoRoute`.
    pub const NO_ROUTE: Self = Self(0);
    /// A discard route. The group's only member drops with `DropReason::DiscardRoute`.
    pub const DISCARD: Self = Self(1);
    /// One of our own addresses. The group's only member punts with `PuntReason::Local`.
    pub const LOCAL: Self = Self(2);
    /// The first group that control hands out.
    pub const FIRST_FREE: Self = Self(3);
}

/// Index of an adjacency: a resolved neighbour with its ready-made L2 header, or a fixed drop or punt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AdjId(pub u32);

impl AdjId {
    /// Punts with `PuntReason::NoRoute`.
    pub const NO_ROUTE: Self = Self(0);
    /// Drops with `DropReason::DiscardRoute`.
    pub const DISCARD: Self = Self(1);
    /// Punts with `PuntReason::Local`.
    pub const LOCAL: Self = Self(2);
    /// The first adjacency that control hands out.
    pub const FIRST_FREE: Self = Self(3);
}
