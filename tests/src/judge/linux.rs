//! The judge: the Linux kernel as a router, in a namespace of its own. Each sub-interface is a TAP, untagged; tags are
//! taken off and put on here.
//!
//! A frame that is written into a TAP has been forwarded when the write returns, in the kernel and on this thread, so
//! what is then read from all TAPs is what became of it.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::IpAddr;

use crate::frame;
use crate::judge::plan::{DISCARDED, FIRST, KINDS, MACS, MARTIANS, Place};
use crate::lab::{Lab, Netns};
use crate::process;
use crate::sys;

/// In what the namespace differs from what a kernel starts with, each with its reason.
pub const SYSCTLS: &[(&str, &str)] = &[
    // It is a router.
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    // Limits are compared nowhere: each router has its own.
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv4/icmp_ratemask", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    // A list of the types that are limited, which cannot be empty: one that no error has.
    ("ipv6/icmp/ratemask", "127"),
    // Errors come from the address of the sub-interface that the packet came in on (RFC 1812, section 4.3.2.4).
    ("ipv4/icmp_errors_use_inbound_ifaddr", "1"),
    // Reverse-path filters have tests of their own, and sources may be any.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    // Without a reverse-path filter turnpike does not look sources up, so it does not know its own.
    ("ipv4/conf/all/accept_local", "1"),
    ("ipv4/conf/default/accept_local", "1"),
    // Turnpike sends no redirects: a circuit has two ends.
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    // Source routes are not followed (RFC 7126, section 4.3).
    ("ipv4/conf/all/accept_source_route", "0"),
    ("ipv4/conf/default/accept_source_route", "0"),
    ("ipv4/conf/all/log_martians", "0"),
    // No talk of its own: no link-local addresses, so no redirects either; no search for routers, no detection of
    // duplicates.
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/icmp/echo_ignore_multicast", "1"),
    // Fragments to itself wait for the others until the judgement is over: no error about them is sent in between.
    ("ipv4/ipfrag_time", "86400"),
    ("ipv6/ip6frag_time", "86400"),
    // Errors with a flow label of 0, which says nothing (RFC 6437, section 3).
    ("ipv6/auto_flowlabels", "0"),
];

/// The Linux router.
#[derive(Debug)]
pub struct Linux {
    taps: Vec<(Place, File)>,
    _netns: Netns,
}

/// A frame that it sent: on which sub-interface, without tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Where.
    pub place: Place,
    /// From the destination MAC on.
    pub frame: Vec<u8>,
}

impl Linux {
    /// Makes it.
    #[track_caller]
    pub fn new(lab: &Lab) -> Self {
        let netns = lab.netns("L");
        for (key, value) in SYSCTLS {
            netns.sysctl(key, value);
        }
        let mut taps = Vec::new();
        let mut batch = String::new();
        for place in Place::all() {
            let name = place.name();
            let tap = netns.enter(|| sys::tap(&name)).unwrap_or_else(|e| panic!("TAP {name}: {e}"));
            taps.push((place, tap));
            let mac = text_mac(MACS[place.port]);
            let mtu = place.kind().mtu;
            batch += &format!("link set {name} address {mac} mtu {mtu} txqueuelen 1000 up\n");
            for v6 in families(place) {
                let length = if v6 { 64 } else { 24 };
                let nodad = if v6 { "nodad" } else { "" };
                batch += &format!("addr add {}/{length} dev {name} {nodad}\n", place.ours(v6));
            }
        }
        for place in Place::all() {
            let name = place.name();
            for v6 in families(place) {
                let via = place.host(v6, 2);
                let mac = text_mac(place.neighbour_mac());
                batch += &format!("neigh replace {via} lladdr {mac} dev {name} nud permanent\n");
                for silent in place.silent(v6) {
                    batch += &format!("neigh replace {silent} lladdr {mac} dev {name} nud permanent\n");
                }
                for prefix in place.prefixes(v6) {
                    batch += &format!("route add {prefix} via {via} dev {name}\n");
                }
            }
        }
        for prefix in MARTIANS {
            batch += &format!(
                "route add {prefix} via {} dev {}\n",
                FIRST.host(prefix.contains(':'), 2),
                FIRST.name()
            );
        }
        for prefix in DISCARDED {
            batch += &format!("route add blackhole {prefix}\n");
        }
        let path = lab.path("linux.batch");
        std::fs::write(&path, batch).expect("a file of commands");
        let mut command = netns.command("ip");
        process::run(command.args(["-force", "-batch"]).arg(&path));
        let linux = Self { taps, _netns: netns };
        // What it says at the start: memberships of multicast groups.
        std::thread::sleep(std::time::Duration::from_millis(300));
        linux.read();
        linux
    }

    /// Gives it a frame without tags as it arrives on a sub-interface; what it sent for that.
    pub fn forward(&self, place: Place, frame: &[u8]) -> Vec<Sent> {
        let Some((_, tap)) = self.taps.iter().find(|(p, _)| *p == place) else { return Vec::new() };
        // It is refused when it is shorter than its header: then it is lost as it would be on any wire.
        let _ = (&*tap).write(frame);
        self.read()
    }

    fn read(&self) -> Vec<Sent> {
        use std::os::fd::AsFd as _;
        let mut sent = Vec::new();
        let mut buffer = [0; 10_000];
        let files: Vec<_> = self.taps.iter().map(|(_, tap)| tap.as_fd()).collect();
        let ready = sys::readable(&files, 0).unwrap_or_else(|e| panic!("the TAPs: {e}"));
        for ((place, tap), _) in self.taps.iter().zip(ready).filter(|(_, ready)| *ready) {
            loop {
                match (&*tap).read(&mut buffer) {
                    // Its own talk: memberships of multicast groups, and neighbour discovery.
                    Ok(length) if length > 0 && buffer[0] & 1 == 1 => {}
                    Ok(length) => sent.push(Sent { place: *place, frame: buffer[..length].to_vec() }),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) => panic!("TAP {}: {e}", place.name()),
                }
            }
        }
        sent
    }
}

/// The families that a sub-interface has.
pub fn families(place: Place) -> impl Iterator<Item = bool> {
    [false, true].into_iter().filter(move |v6| !v6 || place.kind().v6)
}

/// A MAC address as text.
pub fn text_mac(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// The sub-interface that a frame belongs to, and the frame without its tags. Priority tags (VLAN id 0) count for
/// nothing; three tags in all are read (IEEE 802.1Q, section 6.9; and one more than any sub-interface has).
pub fn untag(port: usize, frame: &[u8]) -> Option<(Place, Vec<u8>)> {
    let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let mut tags = Vec::new();
    let mut at = 12;
    for _ in 0..3 {
        let tpid = word(at)?;
        if !is_tpid(tpid) {
            break;
        }
        let vid = word(at + 2)? & 0xfff;
        if vid != 0 {
            tags.push((tpid, vid));
        }
        at += 4;
    }
    if is_tpid(word(at)?) {
        return None;
    }
    let place = Place::by_tags(port, &tags)?;
    Some((place, frame::pop(frame, (at - 12) / 4)))
}

/// Priority of the outermost tag of a frame, 0 without one.
pub fn priority(frame: &[u8]) -> u8 {
    match frame.get(12..15) {
        Some([high, low, tci]) if is_tpid(u16::from_be_bytes([*high, *low])) => tci >> 5,
        _ => 0,
    }
}

fn is_tpid(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// The frame as it goes out on a sub-interface, with its tags; `priority` is that of the packet as it was received.
pub fn tag(sent: &Sent, priority: u8) -> Vec<u8> {
    let kind = &KINDS[sent.place.kind];
    let tags: Vec<_> = kind.tags.iter().map(|t| t.with_pcp(kind.pcp.unwrap_or(priority))).collect();
    frame::push(&sent.frame, &tags)
}

/// The router's own packets have the lowest priority; others keep theirs.
pub fn is_own(sent: &Sent) -> bool {
    let packet = sent.frame.get(14..).unwrap_or_default();
    let source = match packet.first().map(|b| b >> 4) {
        Some(4) => packet.get(12..16).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from),
        Some(6) => packet.get(8..24).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from),
        _ => None,
    };
    source.is_some_and(super::plan::is_ours)
}
