//! Our own ping: `ping` itself gives up after two round trips' time, which on a busy machine is too soon.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Netns;
use crate::{sys, wait};

/// How long a reply may take.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Between two requests.
const INTERVAL: Duration = Duration::from_millis(10);

/// What came of some echo requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// Requests sent.
    pub sent: u32,
    /// Requests that were answered with what they held.
    pub answered: u32,
    /// Further replies to the same requests.
    pub duplicates: u32,
}

/// Echo requests to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where from; what the kernel takes, if none.
    pub source: Option<IpAddr>,
    /// Where to.
    pub target: IpAddr,
    /// ICMP data, in bytes.
    pub size: u16,
    /// How many.
    pub count: u32,
    /// How long the last one may wait for its reply.
    pub patience: Duration,
    /// Whether they may be fragmented on their way.
    pub fragments: bool,
}

/// Sends them, and ends as soon as all are answered.
#[track_caller]
pub fn send(netns: &Netns, plan: &Plan) -> Pings {
    static IDS: AtomicU16 = AtomicU16::new(0);
    let id = (std::process::id() as u16).wrapping_add(IDS.fetch_add(1, Ordering::Relaxed).wrapping_mul(257));
    let v6 = plan.target.is_ipv6();
    let socket =
        netns.enter(|| open(plan, v6)).unwrap_or_else(|e| panic!("ICMP socket in {}: {e}", netns.name()));
    let target = SocketAddr::new(plan.target, 0).into();
    let mut answers = vec![0_u32; plan.count as usize];
    for number in 0..plan.count {
        // Too big, or unreachable by now: counts as sent and not answered.
        let _ = socket.send_to(&request(v6, id, number as u16, plan.size), &target);
        let next = Instant::now() + INTERVAL;
        while Instant::now() < next && answers[number as usize] == 0 {
            collect(&socket, plan, id, &mut answers);
        }
    }
    let end = Instant::now() + plan.patience;
    while Instant::now() < end && answers.contains(&0) {
        wait::check_interrupt();
        collect(&socket, plan, id, &mut answers);
    }
    Pings {
        sent: plan.count,
        answered: answers.iter().filter(|n| **n > 0).count() as u32,
        duplicates: answers.iter().map(|n| n.saturating_sub(1)).sum(),
    }
}

/// Sends `count` requests of `size` bytes that must not be fragmented.
#[track_caller]
pub fn ping(netns: &Netns, source: Option<IpAddr>, target: IpAddr, size: u16, count: u32) -> Pings {
    send(netns, &Plan { source, target, size, count, patience: PATIENCE, fragments: false })
}

/// As [`ping`], and demands that each request gets exactly one reply.
#[track_caller]
pub fn assert_pings(netns: &Netns, source: Option<IpAddr>, target: IpAddr, size: u16, count: u32) {
    let got = ping(netns, source, target, size, count);
    let want = Pings { sent: count, answered: count, duplicates: 0 };
    assert_eq!(got, want, "ping of {size} bytes from {} to {target}", netns.name());
}

fn open(plan: &Plan, v6: bool) -> std::io::Result<Socket> {
    let (domain, protocol) =
        if v6 { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    sys::fragment(&socket, v6, plan.fragments)?;
    sys::large_buffer(&socket)?;
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    if let Some(source) = plan.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// An echo request (RFC 792, RFC 4443). The kernel adds the checksum of ICMPv6.
fn request(v6: bool, id: u16, number: u16, size: u16) -> Vec<u8> {
    let mut bytes = vec![if v6 { 128 } else { 8 }, 0, 0, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.extend((0..size).map(|n| (n ^ number) as u8));
    if !v6 {
        let checksum = crate::frame::checksum(&bytes).to_be_bytes();
        bytes[2..4].copy_from_slice(&checksum);
    }
    bytes
}

/// Takes in one reply, if there is one.
fn collect(socket: &Socket, plan: &Plan, id: u16, answers: &mut [u32]) {
    let mut buffer = [0; 10_000];
    // Nothing there yet, or an ICMP error, which shows once.
    let Ok(length) = (&*socket).read(&mut buffer) else { return };
    let bytes = &buffer[..length];
    let v6 = plan.target.is_ipv6();
    // A raw IPv4 socket gives the IP header, too.
    let start = if v6 { 0 } else { usize::from(bytes.first().copied().unwrap_or(0) & 0x0f) * 4 };
    let Some(reply) = bytes.get(start..).filter(|r| r.len() >= 8) else { return };
    let number = u16::from_be_bytes([reply[6], reply[7]]);
    let sent = request(v6, id, number, plan.size);
    let ours = reply[0] == if v6 { 129 } else { 0 } && reply[4..] == sent[4..];
    if let Some(count) = answers.get_mut(usize::from(number)).filter(|_| ours) {
        *count += 1;
    }
}
