//! A simulated device for tests of all that measures, and tests of generator and checker against it.

mod faults;
mod sim;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use sim::{Device, Fault, Sim};

use super::frame::{Flow, Layer2, Tag, Template};
use super::stamp::{PATTERN, Stamp};

/// Flow number `n` from port 0 to port 1, with so many tags.
pub fn flow(n: u16, v6: bool, tags: usize) -> Flow {
    let tag = |i: usize| (i < tags).then_some(Tag { tpid: 0x8100, tci: 100 + i as u16 });
    let addresses = |net: u16| -> IpAddr {
        if v6 {
            Ipv6Addr::new(0x2001, 2, 0, net, 0, 0, 0, n).into()
        } else {
            Ipv4Addr::new(198, 18 + net as u8, (n >> 8) as u8, n as u8).into()
        }
    };
    Flow {
        from: 0,
        to: 0b10,
        l2: Layer2 { dst: [2, 0, 0, 0, 0, 1], src: [2, 0, 0, 0, 0, 2], tags: [tag(0), tag(1)] },
        src: addresses(0),
        dst: addresses(1),
        src_port: 1024 + n,
        dst_port: 7,
        hop_limit: 64,
    }
}

/// A whole frame of a flow with this sequence number, of trial 1.
pub fn frame_of(flow: &Flow, size: u16, seq: u64) -> Vec<u8> {
    let template = Template::new(flow, size).unwrap();
    let mut frame = PATTERN[..usize::from(template.len)].to_vec();
    template.write(Stamp { trial: 1, flow: 0, seq, time: 0 }, &mut frame);
    frame
}
