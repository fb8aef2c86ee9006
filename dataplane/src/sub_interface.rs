//! Sub-interfaces, and how (port, outer VLAN, inner VLAN) finds one by array index.

use crate::expected::ExpectedFrames;
use crate::ids::{PortId, SubIfId, VrfId};

/// VLAN tags of a sub-interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tags {
    /// None; priority tags (VID 0) are accepted.
    Untagged,
    /// One.
    One(Tag),
    /// S-tag and C-tag.
    Two(Tag, Tag),
}

impl Tags {
    /// Length of an Ethernet header with these tags: 14, 18 or 22 bytes.
    pub fn l2_len(self) -> usize {
        match self {
            Self::Untagged => 14,
            Self::One(_) => 18,
            Self::Two(..) => 22,
        }
    }
}

/// One VLAN tag without its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// Ethertype that announces it.
    pub tpid: u16,
    /// VLAN id, 1 to 4094.
    pub vid: u16,
}

/// What the stages know of a sub-interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubInterface {
    /// The port under it.
    pub port: PortId,
    /// Its tags.
    pub tags: Tags,
    /// The VRF that its packets are routed in.
    pub vrf: VrfId,
    /// Our MAC address on it.
    pub mac: [u8; 6],
    /// Largest IP packet sent on it, in bytes.
    pub mtu: u16,
    /// Priority set on what is sent on it; `None`: the received one.
    pub pcp: Option<u8>,
}

/// All sub-interfaces of the router.
#[derive(Clone, Debug, Default)]
pub struct SubInterfaces {
    all: Vec<SubInterface>,
    ports: Vec<PortVlans>,
    inner: Vec<Box<[u16; 4096]>>,
    expected: ExpectedFrames,
}

/// No sub-interface, or no inner table.
const NONE: u16 = u16::MAX;

#[derive(Clone, Debug)]
struct PortVlans {
    untagged: u16,
    /// By outer VID: the singly tagged sub-interface, and the index of the table for a second tag.
    outer: Box<[(u16, u16); 4096]>,
}

/// Why a set of sub-interfaces cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubInterfaceError {
    /// Two have the same tags on the same port.
    #[error("sub-interfaces {0} and {1} have the same tags on the same port")]
    Overlap(u16, u16),
    /// A VLAN id outside 1 to 4094.
    #[error("sub-interface {0} has a VLAN id outside 1 to 4094")]
    VlanId(u16),
    /// More than 65,535.
    #[error("more than 65,535 sub-interfaces")]
    TooMany,
}

impl SubInterfaces {
    /// Builds the tables; the index in `all` is the [`SubIfId`].
    ///
    /// # Errors
    /// Overlapping tags, VLAN ids out of range, or too many sub-interfaces.
    pub fn new(all: Vec<SubInterface>) -> Result<Self, SubInterfaceError> {
        if all.len() >= usize::from(NONE) {
            return Err(SubInterfaceError::TooMany);
        }
        let mut this = Self::default();
        for (i, sub_if) in all.iter().enumerate() {
            this.add(i as u16, sub_if)?;
        }
        this.expected = ExpectedFrames::new(&all);
        this.all = all;
        Ok(this)
    }

    fn add(&mut self, id: u16, sub_if: &SubInterface) -> Result<(), SubInterfaceError> {
        let port = usize::from(sub_if.port.0);
        while self.ports.len() <= port {
            self.ports.push(PortVlans { untagged: NONE, outer: Box::new([(NONE, NONE); 4096]) });
        }
        let checked = |tag: Tag| match tag.vid {
            1..=4094 => Ok(usize::from(tag.vid)),
            _ => Err(SubInterfaceError::VlanId(id)),
        };
        let entry = &mut self.ports[port];
        let slot = match sub_if.tags {
            Tags::Untagged => &mut entry.untagged,
            Tags::One(tag) => &mut entry.outer[checked(tag)?].0,
            Tags::Two(outer, inner) => {
                let table = &mut entry.outer[checked(outer)?].1;
                if *table == NONE {
                    *table = self.inner.len() as u16;
                    self.inner.push(Box::new([NONE; 4096]));
                }
                &mut self.inner[usize::from(*table)][checked(inner)?]
            }
        };
        if *slot != NONE {
            return Err(SubInterfaceError::Overlap(*slot, id));
        }
        *slot = id;
        Ok(())
    }

    /// The sub-interface for the VLAN ids of a frame, outermost first; 0 where there is no tag. TPIDs are the
    /// caller's to compare.
    pub fn find(&self, port: PortId, outer: u16, inner: u16) -> Option<SubIfId> {
        let vlans = self.ports.get(usize::from(port.0))?;
        let id = match (outer, inner) {
            (0, 0) => vlans.untagged,
            (0, _) => NONE,
            (_, 0) => vlans.outer.get(usize::from(outer))?.0,
            _ => {
                let table = vlans.outer.get(usize::from(outer))?.1;
                *self.inner.get(usize::from(table))?.get(usize::from(inner))?
            }
        };
        (id != NONE).then_some(SubIfId(id))
    }

    /// The sub-interface of that id.
    pub fn get(&self, id: SubIfId) -> Option<&SubInterface> {
        self.all.get(usize::from(id.0))
    }

    /// The frames that each is there for.
    pub fn expected(&self) -> &ExpectedFrames {
        &self.expected
    }

    /// All of them; the index is the id.
    pub fn all(&self) -> &[SubInterface] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn on(port: u16, tags: Tags) -> SubInterface {
        SubInterface {
            port: PortId(port),
            tags,
            vrf: VrfId(0),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            pcp: None,
        }
    }

    fn tag(vid: u16) -> Tag {
        Tag { tpid: 0x8100, vid }
    }

    #[test]
    fn the_key_is_port_outer_inner() {
        let table = SubInterfaces::new(vec![
            on(0, Tags::Untagged),
            on(0, Tags::One(tag(100))),
            on(0, Tags::Two(tag(100), tag(10))),
            on(1, Tags::Two(tag(100), tag(10))),
            on(1, Tags::Two(tag(200), tag(10))),
        ])
        .unwrap();
        let find = |p, o, i| table.find(PortId(p), o, i).map(|id| id.0);
        assert_eq!(find(0, 0, 0), Some(0));
        assert_eq!(find(0, 100, 0), Some(1));
        assert_eq!(find(0, 100, 10), Some(2));
        assert_eq!(find(1, 100, 10), Some(3));
        assert_eq!(find(1, 200, 10), Some(4));
        assert_eq!(find(1, 0, 0), None);
        assert_eq!(find(0, 100, 11), None);
        assert_eq!(find(0, 200, 10), None);
        assert_eq!(find(0, 0, 10), None);
        assert_eq!(find(0, 4095, 4095), None);
        assert_eq!(find(7, 0, 0), None);
    }

    #[test]
    fn overlaps_and_bad_ids_are_refused() {
        let twice = vec![on(0, Tags::One(tag(5))), on(0, Tags::One(tag(5)))];
        assert_eq!(SubInterfaces::new(twice).unwrap_err(), SubInterfaceError::Overlap(0, 1));
        for vid in [0, 4095] {
            let bad = vec![on(0, Tags::Two(tag(1), tag(vid)))];
            assert_eq!(SubInterfaces::new(bad).unwrap_err(), SubInterfaceError::VlanId(0));
        }
    }
}
