//! What was generated, and how it ended: a histogram, printed with each run. A sort of frames that is meant to be among
//! them, and is not, fails a run of a hundred thousand.

use std::collections::BTreeMap;

use crate::judge::generate::Input;
use crate::judge::intended::Difference;
use crate::judge::received::{Received, header_len, walk};

/// Frames from which on every sort must have occurred.
const ENOUGH: u64 = 50_000;
/// Upper ends of the classes of packet lengths, in bytes.
const LENGTHS: [usize; 9] = [0, 19, 39, 127, 575, 1279, 1500, 8989, 9000];

/// How often each sort occurred, by group.
#[derive(Debug, Default)]
pub struct Tally {
    frames: u64,
    groups: BTreeMap<&'static str, BTreeMap<String, u64>>,
}

impl Tally {
    /// Counts a frame as it was sent.
    pub fn frame(&mut self, input: &Input) {
        self.frames += 1;
        self.count("tags", tags(&input.frame));
        let received = Received::of(input);
        let Some(received) = received else { return self.count("link", "no sub-interface".to_owned()) };
        self.count("link", received.place.kind().name.to_owned());
        let packet = received.packet();
        let class = LENGTHS.iter().position(|end| packet.len() <= *end);
        self.count(
            "bytes of IP",
            class.map_or("more".to_owned(), |class| format!("to {:4}", LENGTHS[class])),
        );
        if received.is_v4() {
            self.v4(&received);
        } else if received.is_v6() {
            self.v6(packet);
        } else {
            self.count("family", "neither, or cut short".to_owned());
        }
    }

    fn v4(&mut self, received: &Received) {
        let packet = received.packet();
        self.count("family", "IPv4".to_owned());
        self.count("words of IPv4 header", format!("{:2}", header_len(packet) / 4));
        self.count("TTL", ttl(packet[8]));
        let right = if received.checksum_is_right() { "right" } else { "wrong" };
        self.count("IPv4 checksum", right.to_owned());
        let field = u16::from_be_bytes([packet[6], packet[7]]);
        let part = match (field & 0x1fff, field & 0x2000) {
            (0, 0) => "whole",
            (0, _) => "first",
            (_, 0) => "last",
            _ => "middle",
        };
        let flags =
            ["", ", DF", ", reserved", ", DF, reserved"][usize::from(field >> 14 & 1 | field >> 14 & 2)];
        self.count("IPv4 fragments", format!("{part}{flags}"));
        for option in walk(received.options()).0 {
            let name = match option.kind {
                7 => "record route",
                68 => "timestamp",
                130 => "security",
                131 => "loose route",
                134 => "label",
                137 => "strict route",
                148 => "router alert",
                _ => "unknown",
            };
            self.count("IPv4 options", name.to_owned());
        }
    }

    fn v6(&mut self, packet: &[u8]) {
        self.count("family", "IPv6".to_owned());
        self.count("TTL", ttl(packet[7]));
        let next = match packet[6] {
            0 => "hop-by-hop",
            43 => "routing",
            44 => "fragment",
            51 => "authentication",
            58 => "ICMPv6",
            60 => "destination options",
            6 | 17 => "TCP, UDP",
            _ => "other",
        };
        self.count("next header of IPv6", next.to_owned());
    }

    /// Counts what became of a frame: Linux's way, and in what turnpike's has to differ.
    pub fn end(&mut self, how: &'static str, differences: &[Difference]) {
        self.count("Linux", how.to_owned());
        for difference in differences {
            self.count("intended differences", format!("{difference:?}"));
        }
    }

    /// How often something occurred.
    pub fn of(&self, group: &str, name: &str) -> u64 {
        self.groups.get(group).and_then(|group| group.get(name)).copied().unwrap_or(0)
    }

    fn count(&mut self, group: &'static str, name: String) {
        *self.groups.entry(group).or_default().entry(name).or_default() += 1;
    }

    /// All of it, a line for each group.
    pub fn print(&self) {
        for (group, counts) in &self.groups {
            let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name}: {count}")).collect();
            println!("    {group}: {}", counts.join("; "));
        }
    }

    /// Fails when a sort that is meant to be among so many frames is not.
    #[track_caller]
    pub fn assert_complete(&self) {
        if self.frames < ENOUGH {
            return;
        }
        let mut wanted: Vec<(&str, String)> =
            (5..=15).map(|w| ("words of IPv4 header", format!("{w:2}"))).collect();
        wanted.extend(LENGTHS.map(|end| ("bytes of IP", format!("to {end:4}"))));
        let tags = [
            "none",
            "8100",
            "8100+8100",
            "88a8+8100",
            "8100(0)",
            "8100(0)+8100",
            "8100(0)+8100+8100",
            "8100(0)+88a8+8100",
            "8100+8100(0)",
            "88a8",
            "88a8+88a8",
            "8100+88a8",
            "9100",
            "9100+8100",
        ];
        wanted.extend(tags.map(|tags| ("tags", tags.to_owned())));
        for difference in [
            Difference::Martian,
            Difference::LinkLocal,
            Difference::NetworkAddress,
            Difference::ForKernel,
            Difference::BeyondOffset,
            Difference::Jumbogram,
            Difference::LinkGroup,
            Difference::Redirect,
            Difference::NoIpv6,
            Difference::Options,
            Difference::ErrorSource,
            Difference::Stamp,
            Difference::Tail,
            Difference::Labels,
        ] {
            wanted.push(("intended differences", format!("{difference:?}")));
        }
        let missing: Vec<_> = wanted.iter().filter(|(group, name)| self.of(group, name) == 0).collect();
        assert!(missing.is_empty(), "sorts of frames that did not occur: {missing:?}");
        let twentieth = self.frames / 20;
        for end in ["forwarded", "answered", "dropped"] {
            assert!(self.of("Linux", end) > twentieth, "Linux {end} less than a twentieth");
        }
    }
}

fn ttl(ttl: u8) -> String {
    match ttl {
        0..=2 => ttl.to_string(),
        _ => "more".to_owned(),
    }
}

/// The TPIDs of a frame's tags, those of VLAN id 0 marked.
fn tags(frame: &[u8]) -> String {
    let mut all = Vec::new();
    let mut at = 12;
    while let Some(&[a, b, c, d]) = frame.get(at..at + 4)
        && matches!((a, b), (0x81 | 0x91, 0) | (0x88, 0xa8))
    {
        let zero = if u16::from_be_bytes([c, d]) & 0xfff == 0 { "(0)" } else { "" };
        all.push(format!("{:04x}{zero}", u16::from_be_bytes([a, b])));
        at += 4;
    }
    if all.is_empty() { "none".to_owned() } else { all.join("+") }
}

#[cfg(test)]
mod tests {
    use crate::frame;

    #[test]
    fn tags_are_named() {
        let of = |tags: &[frame::Tag]| super::tags(&frame::build([2; 6], [4; 6], tags, frame::IPV4, &[]));
        assert_eq!(of(&[]), "none");
        assert_eq!(of(&[frame::Tag::new(0x8100, 0), frame::Tag::new(0x88a8, 7)]), "8100(0)+88a8");
    }
}
