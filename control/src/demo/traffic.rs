//! The demo's frames, as capture files for `net_pcap`: flows from each LAN into the cloud and back, sizes by the
//! simple IMIX (64, 570 and 1518 bytes as 7:4:1), and a few packets that end on the way.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;

use dataplane::header::checksum;

use super::plan;

/// Flows in each file.
const FLOWS: u32 = 1024;
/// MAC of whoever sends to us.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 0x40];
/// S-tag of the circuit, and C-tag and LAN VLAN of each peering.
const S_TAG: u16 = 100;
const C_TAGS: [u16; 2] = [10, 20];
const VLANS: [u16; 2] = [30, 40];

/// Writes `lan.pcap`, `primary.pcap` and `secondary.pcap`.
pub fn write(dir: &Path) -> std::io::Result<()> {
    for (port, name) in ["lan", "primary", "secondary"].into_iter().enumerate() {
        let mut file = BufWriter::new(File::create(dir.join(format!("{name}.pcap")))?);
        // libpcap's file header: magic, version 2.4, time zone, accuracy, longest frame, Ethernet.
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1u32] {
            file.write_all(&word.to_le_bytes())?;
        }
        for flow in 0..FLOWS {
            let frame = if port == 0 { from_lan(flow) } else { from_cloud(port as u8, flow) };
            for word in [0, 0, frame.len() as u32, frame.len() as u32] {
                file.write_all(&u32::to_le_bytes(word))?;
            }
            file.write_all(&frame)?;
        }
        file.flush()?;
    }
    Ok(())
}

/// The MAC address that DPDK gives its `port`th `net_pcap` device.
fn port_mac(port: u8) -> [u8; 6] {
    [0x02, b'p', b'c', b'a', b'p', port]
}

/// A flow's share of everything: 1 in 4 is of Microsoft peering, 1 in 5 is IPv6.
fn shape(flow: u32) -> (usize, bool) {
    (usize::from(flow.is_multiple_of(4)), flow.is_multiple_of(5))
}

/// Bytes of the frame without tags and FCS.
fn size(flow: u32) -> usize {
    match flow % 12 {
        0..7 => 60,
        7..11 => 566,
        _ => 1514,
    }
}

fn from_lan(flow: u32) -> Vec<u8> {
    let (peering, ipv6) = shape(flow);
    let host = (flow % u32::from(plan::LAN_HOSTS)) as u8;
    let spread = flow.wrapping_mul(2_654_435_761) >> 8;
    let (source, mut destination): (IpAddr, IpAddr) = if ipv6 {
        let to = plan::cloud6(peering, spread % plan::V6_ROUTES[peering]);
        (plan::lan6(peering, host).into(), std::net::Ipv6Addr::from_bits(to.to_bits() + 7).into())
    } else {
        let to = plan::cloud4(peering, spread % plan::V4_ROUTES[peering]);
        (plan::lan4(peering, host).into(), std::net::Ipv4Addr::from_bits(to.to_bits() + 7).into())
    };
    let (mut ttl, mut vlan) = (64, VLANS[peering]);
    // What every network has a little of.
    match flow {
        100 => ttl = 1,
        300 => vlan = 99,
        501 => destination = "192.0.2.1".parse().unwrap_or(destination),
        _ => {}
    }
    frame(port_mac(0), &[(0x8100, vlan)], source, destination, ttl, flow)
}

fn from_cloud(port: u8, flow: u32) -> Vec<u8> {
    let (peering, ipv6) = shape(flow);
    let host = (flow % u32::from(plan::LAN_HOSTS)) as u8;
    let (source, destination): (IpAddr, IpAddr) = if ipv6 {
        (plan::cloud6(peering, flow % plan::V6_ROUTES[peering]).into(), plan::lan6(peering, host).into())
    } else {
        let from = plan::cloud4(peering, flow % plan::V4_ROUTES[peering]);
        (std::net::Ipv4Addr::from_bits(from.to_bits() + 7).into(), plan::lan4(peering, host).into())
    };
    frame(port_mac(port), &[(0x8100, S_TAG), (0x8100, C_TAGS[peering])], source, destination, 60, flow)
}

/// A UDP packet in a tagged frame.
fn frame(
    to: [u8; 6],
    tags: &[(u16, u16)],
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    flow: u32,
) -> Vec<u8> {
    let mut frame = [to, SENDER].concat();
    for (tpid, vid) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(vid.to_be_bytes());
    }
    let l3_len = size(flow) - 14;
    match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            let l3_len = l3_len.max(48);
            frame.extend(((l3_len - 40) as u16).to_be_bytes());
            frame.extend([17, ttl]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
            udp(&mut frame, flow, l3_len - 40);
        }
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00]);
            let mut header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, 17, 0, 0].to_vec();
            header[2..4].copy_from_slice(&(l3_len as u16).to_be_bytes());
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = !checksum::sum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(header);
            udp(&mut frame, flow, l3_len - 20);
        }
        // Flow 501 on purpose, if it is an IPv6 one: a frame that is cut short.
        _ => frame.extend([0x08, 0x00, 0x45]),
    }
    frame
}

/// Appends a UDP packet of `len` bytes, without a checksum in IPv4's manner (0), its payload zeros.
fn udp(frame: &mut Vec<u8>, flow: u32, len: usize) {
    frame.extend((1024 + flow as u16).to_be_bytes());
    frame.extend(443u16.to_be_bytes());
    frame.extend((len as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(frame.len() + len - 8, 0);
}
