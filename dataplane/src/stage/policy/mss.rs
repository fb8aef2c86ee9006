//! The segment size that the two ends of a TCP connection tell each other (RFC 9293, section 3.7.1), limited to what
//! the ways in and out of us carry.

use crate::burst::{Bits, Burst};
use crate::header::{ipv4, ipv6, tcp};
use crate::packet::Packet;
use crate::policy::MssClamp;
use crate::tables::Tables;

/// Limits those of `packets` that open a TCP connection.
pub fn run<P: Packet>(burst: &mut Burst<P>, tables: &Tables, packets: u64) {
    let v6 = burst.v6.bits();
    for i in Bits(packets) {
        let of = |id| tables.policies.get(id).map_or(MssClamp::default(), |policy| policy.mss);
        let (came, leaves) = (of(burst.sub_if[i]), of(burst.out_sub_if[i]));
        let is_v6 = v6 >> i & 1 == 1;
        let limit = if is_v6 { came.v6.min(leaves.v6) } else { came.v4.min(leaves.v4) };
        let (start, len) = (usize::from(burst.l3_offset[i]), usize::from(burst.l3_len[i]));
        let Some(packet) =
            burst.packets[i].as_mut().and_then(|packet| packet.bytes_mut().get_mut(start..start + len))
        else {
            continue;
        };
        let segment = if is_v6 { ipv6::tcp(packet) } else { ipv4::tcp(packet) };
        if let Some(segment) = segment.and_then(|at| packet.get_mut(at..)) {
            tcp::clamp_mss(segment, limit);
        }
    }
}
