//! Sub-interfaces, and how (port, outer VLAN, inner VLAN) finds one by array index.

use crate::burst::{BURST, ROOM};
use crate::expected::ExpectedFrames;
use crate::header::ethernet;
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
    /// How many: 0 to 2.
    pub fn count(self) -> usize {
        match self {
            Self::Untagged => 0,
            Self::One(_) => 1,
            Self::Two(..) => 2,
        }
    }

    /// Length of an Ethernet header with these tags: 14, 18 or 22 bytes.
    pub fn l2_len(self) -> usize {
        14 + 4 * self.count()
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
    /// By inner VID, for the numbers of tables in `ports`.
    inner: Vec<[u16; 4096]>,
    vrfs: Vec<VrfId>,
    expected: ExpectedFrames,
}

/// No sub-interface, or no inner table.
const NOTHING: u16 = u16::MAX;

#[derive(Clone, Debug)]
struct PortVlans {
    untagged: u16,
    /// By outer VID: the singly tagged sub-interface, and the index of the table for a second tag.
    outer: Box<[(u16, u16); 4096]>,
    /// By number of tags: what all with so many have in common, if it is the whole pattern.
    patterns: [Option<Pattern>; 3],
    /// By kind of frame (`header::wide::end_of`), where there is a pattern.
    heads: [Option<Head>; 6],
    /// Whether all have what those with as many tags have in common.
    regular: bool,
    /// The VRF, if all have the same.
    vrf: Option<VrfId>,
}

/// What an L2 header must be but for VLAN ids and ethertype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The destination MAC address.
    pub mac: [u8; 6],
    /// The TPIDs, outermost first; 0 where there is no tag.
    pub tpids: [u16; 2],
}

impl Pattern {
    fn of(sub_if: &SubInterface) -> Self {
        let tpids = match sub_if.tags {
            Tags::Untagged => [0; 2],
            Tags::One(tag) => [tag.tpid, 0],
            Tags::Two(outer, inner) => [outer.tpid, inner.tpid],
        };
        Self { mac: sub_if.mac, tpids }
    }
}

/// The start of a frame with as many tags as some [`Pattern`], of one address family, with an IPv4 header without options.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Head {
    /// Its bytes.
    pub bytes: [u8; 32],
    /// The bits of them that count.
    pub mask: [u8; 32],
}

impl Head {
    /// That of no frame.
    pub const NONE: Self = Self { bytes: [0; 32], mask: [0; 32] };

    fn new(tags: usize, ipv6: bool, pattern: &Pattern) -> Self {
        let mut this = Self::NONE;
        let mut put = |at: usize, bytes: &[u8], mask: u8| {
            this.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            this.mask[at..at + bytes.len()].fill(mask);
        };
        put(0, &pattern.mac, 0xff);
        for (tag, tpid) in pattern.tpids.iter().enumerate().take(tags) {
            put(12 + 4 * tag, &tpid.to_be_bytes(), 0xff);
        }
        let (ethertype, version, mask) =
            if ipv6 { (ethernet::IPV6, 0x60, 0xf0) } else { (ethernet::IPV4, 0x45, 0xff) };
        put(12 + 4 * tags, &ethertype.to_be_bytes(), 0xff);
        put(14 + 4 * tags, &[version], mask);
        this
    }
}

/// The sub-interfaces of a port where all with as many tags have the same [`Pattern`], so that the VLAN ids alone tell
/// which it is.
#[derive(Clone, Copy, Debug)]
pub struct Regular<'a> {
    vlans: &'a PortVlans,
    inner: &'a [[u16; 4096]],
    vrfs: &'a [VrfId],
}

impl Regular<'_> {
    /// What all with so many tags have in common; `None` where there are none.
    #[inline(always)]
    pub fn pattern(&self, tags: usize) -> Option<&Pattern> {
        self.vlans.patterns.get(tags)?.as_ref()
    }

    /// How frames of a kind begin; `None` where there are none.
    #[inline(always)]
    pub fn head(&self, kind: usize) -> Option<&Head> {
        self.vlans.heads.get(kind)?.as_ref()
    }

    /// The sub-interface with so many tags, of these VLAN ids; [`NONE`] if there is none.
    #[inline(always)]
    pub fn find<const TAGS: usize>(&self, outer: u16, inner: u16) -> SubIfId {
        let (single, table) = self.vlans.outer[usize::from(outer & 0xfff)];
        SubIfId(match TAGS {
            0 => self.vlans.untagged,
            1 => single,
            _ => self.inner.get(usize::from(table)).map_or(NONE.0, |table| table[usize::from(inner & 0xfff)]),
        })
    }

    /// The sub-interface of each of `len` frames with so many tags, of these outer and inner VLAN ids; [`NONE`] if there is
    /// none. `outer`: in place of all the outer ones. What `found` has behind `len` is of no matter.
    #[inline(always)]
    pub fn find_all<const TAGS: usize>(
        &self,
        outer: Option<u16>,
        [outers, inners]: &[[u16; ROOM]; 2],
        len: usize,
        found: &mut [SubIfId; BURST],
    ) {
        let each = &mut found[..len.min(BURST)];
        match outer {
            _ if TAGS == 0 => found.fill(self.find::<0>(0, 0)),
            Some(outer) if TAGS == 1 => found.fill(self.find::<1>(outer, 0)),
            Some(outer) => {
                let table = self.inner.get(usize::from(self.vlans.outer[usize::from(outer & 0xfff)].1));
                let Some(table) = table else { return found.fill(NONE) };
                for (sub_if, inner) in each.iter_mut().zip(inners) {
                    *sub_if = SubIfId(table[usize::from(inner & 0xfff)]);
                }
            }
            None => {
                for ((sub_if, outer), inner) in each.iter_mut().zip(outers).zip(inners) {
                    *sub_if = self.find::<TAGS>(*outer, *inner);
                }
            }
        }
    }

    /// The VRF of all, if it is one.
    #[inline(always)]
    pub fn vrf(&self) -> Option<VrfId> {
        self.vlans.vrf
    }

    /// The VRF of a sub-interface.
    #[inline(always)]
    pub fn vrf_of(&self, id: SubIfId) -> VrfId {
        self.vrfs.get(usize::from(id.0)).copied().unwrap_or_default()
    }
}

/// No sub-interface.
pub const NONE: SubIfId = SubIfId(NOTHING);

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
        if all.len() >= usize::from(NOTHING) {
            return Err(SubInterfaceError::TooMany);
        }
        let mut this = Self::default();
        for (i, sub_if) in all.iter().enumerate() {
            this.add(i as u16, sub_if)?;
        }
        for (port, vlans) in this.ports.iter_mut().enumerate() {
            let on_port = || all.iter().filter(|sub_if| usize::from(sub_if.port.0) == port);
            for (tags, pattern) in vlans.patterns.iter_mut().enumerate() {
                let with_tags = on_port().filter(|sub_if| sub_if.tags.count() == tags);
                *pattern = common(with_tags.map(Pattern::of));
            }
            vlans.heads = std::array::from_fn(|kind| {
                let tags = kind % 3;
                Some(Head::new(tags, kind >= 3, vlans.patterns[tags].as_ref()?))
            });
            vlans.vrf = common(on_port().map(|sub_if| sub_if.vrf));
            let alike = |sub_if: &SubInterface| vlans.patterns[sub_if.tags.count()].is_some();
            vlans.regular = on_port().all(alike);
        }
        this.vrfs = all.iter().map(|sub_if| sub_if.vrf).collect();
        this.expected = ExpectedFrames::new(&all);
        this.all = all;
        Ok(this)
    }

    fn add(&mut self, id: u16, sub_if: &SubInterface) -> Result<(), SubInterfaceError> {
        let port = usize::from(sub_if.port.0);
        while self.ports.len() <= port {
            self.ports.push(PortVlans {
                untagged: NOTHING,
                outer: Box::new([(NOTHING, NOTHING); 4096]),
                patterns: [None; 3],
                heads: [None; 6],
                regular: false,
                vrf: None,
            });
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
                if *table == NOTHING {
                    *table = self.inner.len() as u16;
                    self.inner.push([NOTHING; 4096]);
                }
                &mut self.inner[usize::from(*table)][checked(inner)?]
            }
        };
        if *slot != NOTHING {
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
            (0, _) => NOTHING,
            (_, 0) => vlans.outer.get(usize::from(outer))?.0,
            _ => {
                let table = vlans.outer.get(usize::from(outer))?.1;
                *self.inner.get(usize::from(table))?.get(usize::from(inner))?
            }
        };
        (id != NOTHING).then_some(SubIfId(id))
    }

    /// The sub-interface of that id.
    pub fn get(&self, id: SubIfId) -> Option<&SubInterface> {
        self.all.get(usize::from(id.0))
    }

    /// Those of a port, if they are such that VLAN ids tell them apart.
    #[inline(always)]
    pub fn regular(&self, port: PortId) -> Option<Regular<'_>> {
        let vlans = self.ports.get(usize::from(port.0)).filter(|vlans| vlans.regular)?;
        Some(Regular { vlans, inner: &self.inner, vrfs: &self.vrfs })
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

/// What all of these are, if there are any and they are all the same.
fn common<T: PartialEq>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.all(|one| one == first).then_some(first)
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
