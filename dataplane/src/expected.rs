//! The frame that a sub-interface is there for, as two words to compare with: unicast to its MAC address, with exactly
//! its tags. Nearly all frames are such, and are known without a branch on how many tags they have; what is not goes
//! the long way of `stage::classify`.

use std::collections::HashSet;

use crate::header::ethernet;
use crate::ids::{PortId, SubIfId, VrfId};
use crate::sub_interface::{SubInterface, Tag, Tags};

/// Bytes from a frame's start that [`ExpectedFrames::find`] takes: an untagged IPv4 packet has so many.
pub const HEAD: usize = 34;

/// What the start of an expected frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The sub-interface it came in on.
    pub sub_if: SubIfId,
    /// That sub-interface's VRF.
    pub vrf: VrfId,
    /// Where the IP header starts: 14, 18 or 22 bytes from the frame's start.
    pub l3_offset: u8,
    /// Priority of the outermost tag, 0 to 7; 0 without a tag.
    pub pcp: u8,
    /// IPv6, not IPv4.
    pub ipv6: bool,
}

/// The expected frames of all sub-interfaces.
#[derive(Clone, Debug, Default)]
pub struct ExpectedFrames {
    /// By port.
    ports: Vec<Outer>,
    /// Indices into `frames`, at a port's outer VID's offset plus the inner VID. What lies there for tags that no
    /// sub-interface has is of no matter: the frame there is another than the one received.
    index: Vec<u16>,
    frames: Vec<Frame>,
}

/// Offsets into the index by outer VID, 0 without a tag.
#[derive(Clone, Debug)]
struct Outer(Box<[u32; VIDS]>);

const VIDS: usize = 4096;

/// One sub-interface's frame.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub struct Frame {
    /// Bytes 0 to 6 and 12 to 20 of the frame, as little-endian words.
    mac: u64,
    tags: u64,
    /// The bits of bytes 12 to 20 that count.
    mask: u64,
    /// Port and number of tags.
    kind: u32,
    sub_if: u16,
    vrf: u16,
}

/// The frame of no sub-interface.
const NOBODY: Frame = Frame { mac: 0, tags: 0, mask: 0, kind: u32::MAX, sub_if: 0, vrf: 0 };

/// The ethertypes of IP as bytes 0 and 1 of a little-endian word.
const IPV4: u16 = ethernet::IPV4.swap_bytes();
const IPV6: u16 = ethernet::IPV6.swap_bytes();

/// Bits of a tag that count: TPID and VID, not priority and drop eligibility.
const TAG: u64 = 0xff0f_ffff;

impl ExpectedFrames {
    /// For these sub-interfaces; the index is the [`SubIfId`]. Their VLAN ids are in range, and no two have the same
    /// tags on the same port.
    pub(crate) fn new(all: &[SubInterface]) -> Self {
        // Entry 0 stands for nobody. Behind the last there is room for any inner VID.
        let mut this = Self { ports: Vec::new(), index: vec![0], frames: vec![NOBODY] };
        let vid = |tag: Tag| usize::from(ethernet::vid(tag.vid));
        let doubly = all.iter().filter_map(|sub_if| match sub_if.tags {
            Tags::Two(outer, _) => Some((sub_if.port, vid(outer))),
            _ => None,
        });
        let doubly: HashSet<(PortId, usize)> = doubly.collect();
        for (id, sub_if) in all.iter().enumerate() {
            let port = usize::from(sub_if.port.0);
            if this.ports.len() <= port {
                this.ports.resize_with(port + 1, || Outer(Box::new([0; VIDS])));
            }
            let (outer, inner) = match sub_if.tags {
                Tags::Untagged => (0, 0),
                Tags::One(tag) => (vid(tag), 0),
                Tags::Two(outer, inner) => (vid(outer), vid(inner)),
            };
            let offset = &mut this.ports[port].0[outer];
            if *offset == 0 {
                *offset = this.index.len() as u32;
                let room = if doubly.contains(&(sub_if.port, outer)) { VIDS } else { 1 };
                this.index.resize(this.index.len() + room, 0);
            }
            this.index[*offset as usize + inner] = this.frames.len() as u16;
            this.frames.push(Frame::of(SubIfId(id as u16), sub_if));
        }
        this.index.resize(this.index.len() + VIDS, 0);
        this
    }

    /// What `head`, the start of a frame received on `port`, says, if it is an IP frame that a sub-interface expects.
    #[inline(always)]
    pub fn find(&self, port: PortId, head: &[u8; HEAD]) -> Option<Arrival> {
        self.on(port)?.find(head)
    }

    /// Those of one port, for a burst.
    #[inline(always)]
    pub fn on(&self, port: PortId) -> Option<OnPort<'_>> {
        let outer = &*self.ports.get(usize::from(port.0))?.0;
        Some(OnPort { outer, index: &self.index, frames: &self.frames, kind: kind(port, 0) })
    }
}

/// The expected frames of one port.
#[derive(Clone, Copy, Debug)]
pub struct OnPort<'a> {
    outer: &'a [u32; VIDS],
    index: &'a [u16],
    frames: &'a [Frame],
    kind: u32,
}

/// The start of a frame in words.
#[derive(Clone, Copy)]
struct Words {
    mac: u64,
    tags: u64,
}

impl<'a> OnPort<'a> {
    /// As [`ExpectedFrames::find`].
    #[inline(always)]
    pub fn find(&self, head: &[u8; HEAD]) -> Option<Arrival> {
        let words = Words { mac: word(head, 0), tags: word(head, 12) };
        // Not IP is a tag, or else what follows is not the ethertype that it must be.
        let one = u32::from(!is_ip(words.tags as u16));
        let two = one & u32::from(!is_ip((words.tags >> 32) as u16));
        let count = one + two;
        let at = 12 + 4 * count as usize;
        let ethertype = u16::from_le_bytes([head[at], head[at + 1]]);
        if !is_ip(ethertype) {
            return None;
        }
        let outer = vid(words.tags >> 16) & one.wrapping_neg();
        let inner = vid(words.tags >> 48) & two.wrapping_neg();
        let frame = self.frame(outer, inner)?;
        if self.differs(frame, words, count) {
            return None;
        }
        Some(Arrival {
            sub_if: SubIfId(frame.sub_if),
            vrf: VrfId(frame.vrf),
            l3_offset: at as u8 + 2,
            pcp: ((words.tags >> 21) as u32 & 7 & one.wrapping_neg()) as u8,
            ipv6: ethertype == IPV6,
        })
    }

    /// The frame for a head that ought to have so many tags.
    #[inline(always)]
    pub fn guess<const TAGS: usize>(&self, head: &[u8; HEAD]) -> Option<&'a Frame> {
        let tags = word(head, 12);
        let outer = if TAGS > 0 { vid(tags >> 16) } else { 0 };
        let inner = if TAGS > 1 { vid(tags >> 48) } else { 0 };
        self.frame(outer, inner)
    }

    /// Whether a head is that of `frame`, with so many tags and of this family.
    #[inline(always)]
    pub fn is<const TAGS: usize, const V6: bool>(&self, head: &[u8; HEAD], frame: &Frame) -> bool {
        let at = 12 + 4 * TAGS;
        let ethertype = u16::from_le_bytes([head[at], head[at + 1]]);
        let words = Words { mac: word(head, 0), tags: if TAGS == 0 { 0 } else { word(head, 12) } };
        ethertype == if V6 { IPV6 } else { IPV4 } && !self.differs(frame, words, TAGS as u32)
    }

    #[inline(always)]
    fn frame(&self, outer: u32, inner: u32) -> Option<&'a Frame> {
        let offset = self.outer[outer as usize & (VIDS - 1)];
        self.frames.get(usize::from(*self.index.get((offset + inner) as usize)?))
    }

    #[inline(always)]
    fn differs(&self, frame: &Frame, words: Words, tags: u32) -> bool {
        (words.mac ^ frame.mac) << 16
            | (words.tags ^ frame.tags) & frame.mask
            | u64::from(frame.kind ^ (self.kind | tags))
            != 0
    }
}

/// The VID of a TCI in a little-endian word's low bits.
#[inline(always)]
fn vid(tci: u64) -> u32 {
    u32::from((tci as u16).swap_bytes()) & 0xfff
}

impl Frame {
    /// The sub-interface that expects it.
    #[inline(always)]
    pub fn sub_if(&self) -> SubIfId {
        SubIfId(self.sub_if)
    }

    /// That sub-interface's VRF.
    #[inline(always)]
    pub fn vrf(&self) -> VrfId {
        VrfId(self.vrf)
    }

    fn of(id: SubIfId, sub_if: &SubInterface) -> Self {
        let mut bytes = [0; 8];
        let (one, two) = match sub_if.tags {
            Tags::Untagged => (None, None),
            Tags::One(tag) => (Some(tag), None),
            Tags::Two(outer, inner) => (Some(outer), Some(inner)),
        };
        let mut mask = 0;
        for (at, tag) in [one, two].into_iter().flatten().enumerate() {
            bytes[4 * at..4 * at + 2].copy_from_slice(&tag.tpid.to_be_bytes());
            bytes[4 * at + 2..4 * at + 4].copy_from_slice(&tag.vid.to_be_bytes());
            mask |= TAG << (32 * at);
        }
        let mac = sub_if.mac;
        Self {
            mac: u64::from_le_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0]),
            tags: u64::from_le_bytes(bytes),
            mask,
            kind: kind(sub_if.port, (sub_if.tags.l2_len() as u32 - 14) / 4),
            sub_if: id.0,
            vrf: sub_if.vrf.0,
        }
    }
}

fn kind(port: PortId, tags: u32) -> u32 {
    u32::from(port.0) << 2 | tags
}

#[inline(always)]
fn is_ip(ethertype: u16) -> bool {
    ethertype == IPV4 || ethertype == IPV6
}

/// Priority of the outer tag of a frame that has one, 0 to 7.
#[inline(always)]
pub fn outer_pcp(head: &[u8; HEAD]) -> u8 {
    ethernet::pcp(u16::from_be_bytes([head[14], head[15]]))
}

#[inline(always)]
fn word(head: &[u8; HEAD], at: usize) -> u64 {
    head[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sub_interface::SubInterfaces;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn table() -> SubInterfaces {
        let tag = |tpid, vid| Tag { tpid, vid };
        let on = |port, tags, mac| SubInterface {
            port: PortId(port),
            tags,
            vrf: VrfId(port),
            mac,
            mtu: 1500,
            pcp: None,
        };
        let all = vec![
            on(0, Tags::Untagged, OURS),
            on(0, Tags::One(tag(0x8100, 1)), OURS),
            on(0, Tags::One(tag(0x88a8, 2)), OURS),
            on(0, Tags::Two(tag(0x8100, 2), tag(0x8100, 1)), OURS),
            on(1, Tags::Two(tag(0x88a8, 1), tag(0x8100, 3)), OURS),
            on(1, Tags::One(tag(0x8100, 1)), [2, 0, 0, 0, 0, 2]),
            on(2, Tags::One(tag(0x8100, 4094)), OURS),
        ];
        SubInterfaces::new(all).unwrap()
    }

    /// What the words say, found out field by field.
    fn plain(table: &SubInterfaces, port: PortId, head: &[u8; HEAD]) -> Option<Arrival> {
        let be16 = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let ip = |ethertype| ethertype == ethernet::IPV4 || ethertype == ethernet::IPV6;
        let count = (0..=2).find(|count| ip(be16(12 + 4 * count)))?;
        let tag = |k: usize| Tag { tpid: be16(12 + 4 * k), vid: ethernet::vid(be16(14 + 4 * k)) };
        let tags = match count {
            0 => Tags::Untagged,
            1 => Tags::One(tag(0)),
            _ => Tags::Two(tag(0), tag(1)),
        };
        let expects =
            |sub_if: &&SubInterface| sub_if.port == port && sub_if.tags == tags && head[..6] == sub_if.mac;
        let at = table.all().iter().position(|sub_if| expects(&sub_if))?;
        Some(Arrival {
            sub_if: SubIfId(at as u16),
            vrf: table.all()[at].vrf,
            l3_offset: 14 + 4 * count as u8,
            pcp: if count > 0 { ethernet::pcp(be16(14)) } else { 0 },
            ipv6: be16(12 + 4 * count) == ethernet::IPV6,
        })
    }

    fn any_head() -> impl Strategy<Value = [u8; HEAD]> {
        let ethertype = prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x8100), Just(0x88a8), any::<u16>()];
        let tci = prop_oneof![0..4u16, Just(4094u16), any::<u16>()];
        (any::<[u8; HEAD]>(), prop::collection::vec((ethertype, tci), 3), 0..20u8).prop_map(
            |(mut head, words, odd)| {
                head[..6].copy_from_slice(&OURS);
                if odd < 6 {
                    head[usize::from(odd)] ^= 3;
                }
                for (k, (ethertype, tci)) in words.iter().enumerate() {
                    head[12 + 4 * k..14 + 4 * k].copy_from_slice(&ethertype.to_be_bytes());
                    head[14 + 4 * k..16 + 4 * k].copy_from_slice(&tci.to_be_bytes());
                }
                head
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn words_say_what_fields_say(head in any_head(), port in 0..4u16) {
            let table = table();
            prop_assert_eq!(table.expected().find(PortId(port), &head), plain(&table, PortId(port), &head));
        }

        #[test]
        fn a_right_guess_is_the_same(head in any_head(), port in 0..3u16) {
            let table = table();
            let on_port = table.expected().on(PortId(port)).unwrap();
            let found = on_port.find(&head).map(|arrival| (arrival.sub_if, arrival.l3_offset, arrival.ipv6));
            let guess = |frame: Option<&Frame>, is: &dyn Fn(&Frame) -> bool| frame.filter(|f| is(f)).map(Frame::sub_if);
            for (l3_offset, ipv6, guessed) in [
                (14, false, guess(on_port.guess::<0>(&head), &|f| on_port.is::<0, false>(&head, f))),
                (14, true, guess(on_port.guess::<0>(&head), &|f| on_port.is::<0, true>(&head, f))),
                (18, false, guess(on_port.guess::<1>(&head), &|f| on_port.is::<1, false>(&head, f))),
                (18, true, guess(on_port.guess::<1>(&head), &|f| on_port.is::<1, true>(&head, f))),
                (22, false, guess(on_port.guess::<2>(&head), &|f| on_port.is::<2, false>(&head, f))),
                (22, true, guess(on_port.guess::<2>(&head), &|f| on_port.is::<2, true>(&head, f))),
            ] {
                // A guess of more tags than there are can be right only where there is no IP below.
                if let Some((sub_if, at, family)) = found && at == l3_offset && family == ipv6 {
                    prop_assert_eq!(guessed, Some(sub_if));
                } else if found.is_none() && l3_offset == 14 {
                    prop_assert_eq!(guessed, None);
                }
            }
        }
    }
}
