//! Turnpike's list of either family.

use dataplane::acl::{Acl, Ends, Keys, Rule, read4, read6};
use dataplane::burst::BURST;

use super::rules::Packet;
use crate::lpm::Family;

/// A list with its packets.
pub struct Ours<'a> {
    family: Family,
    acl: Acl,
    packets: &'a [Packet],
    /// The packets' fields, burst by burst.
    v4: Vec<Keys<u32>>,
    v6: Vec<Keys<u128>>,
    scratch: (Box<Keys<u32>>, Box<Keys<u128>>),
    pub ends: Ends,
}

impl<'a> Ours<'a> {
    pub fn new(family: Family, rules: &[Rule], packets: &'a [Packet]) -> Result<Self, String> {
        let counters: Vec<u16> = (0..=rules.len() as u16).collect();
        let acl = Acl::new(rules, &counters).map_err(|error| error.to_string())?;
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for burst in packets.chunks(BURST) {
            match family {
                Family::V4 => {
                    let mut keys = Keys::default();
                    fields4(&mut keys, burst);
                    v4.push(keys);
                }
                Family::V6 => {
                    let mut keys = Keys::default();
                    fields6(&mut keys, burst);
                    v6.push(keys);
                }
            }
        }
        Ok(Self { family, acl, packets, v4, v6, scratch: Default::default(), ends: [0; BURST] })
    }

    pub fn memory(&self) -> usize {
        self.acl.memory()
    }

    /// Reads the fields of a burst.
    pub fn touch_fields(&self, burst: usize) -> u64 {
        fn sum<A: Copy>(keys: &Keys<A>, address: impl Fn(A) -> u64) -> u64 {
            let ports = keys.source_port.iter().zip(&keys.destination_port).zip(&keys.kind);
            let ports = ports.map(|((a, b), c)| u64::from(*a) + u64::from(*b) + u64::from(*c)).sum::<u64>();
            ports + keys.source.iter().chain(&keys.destination).map(|a| address(*a)).sum::<u64>()
        }
        match self.family {
            Family::V4 => sum(&self.v4[burst], u64::from),
            Family::V6 => sum(&self.v6[burst], |address| address as u64 >> 8),
        }
    }

    /// Judges one burst by fields that were read before.
    pub fn by_fields(&mut self, burst: usize) -> u64 {
        match self.family {
            Family::V4 => self.acl.v4.classify(&self.v4[burst], &mut self.ends, |_, _| ()),
            Family::V6 => self.acl.v6.classify(&self.v6[burst], &mut self.ends, |_, _| ()),
        }
    }

    /// Reads the fields of one burst from its packets, and judges it.
    pub fn by_packets(&mut self, burst: usize) -> u64 {
        let packets = &self.packets[burst * BURST..(burst + 1) * BURST];
        match self.family {
            Family::V4 => {
                fields4(&mut self.scratch.0, packets);
                self.acl.v4.classify(&self.scratch.0, &mut self.ends, |_, _| ())
            }
            Family::V6 => {
                fields6(&mut self.scratch.1, packets);
                self.acl.v6.classify(&self.scratch.1, &mut self.ends, |_, _| ())
            }
        }
    }
}

fn fields4(keys: &mut Keys<u32>, packets: &[Packet]) {
    keys.len = packets.len();
    for (at, packet) in packets.iter().enumerate() {
        read4(keys, at, &packet.0[..Packet::len(Family::V4)]);
    }
}

fn fields6(keys: &mut Keys<u128>, packets: &[Packet]) {
    keys.len = packets.len();
    for (at, packet) in packets.iter().enumerate() {
        read6(keys, at, &packet.0[..Packet::len(Family::V6)]);
    }
}
