//! What the hosts at both ends do: traceroute, and bulk transfers over TCP and UDP.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::Netns;
use crate::{sys, wait};

/// Longest a bulk transfer may stand still.
const STALL: Duration = Duration::from_secs(20);
/// Most datagrams of a bulk transfer that are under way, so that none is lost on a machine that stands still.
const WINDOW: u32 = 512;
/// How long a datagram may be under way.
const PATIENCE: Duration = Duration::from_secs(5);

/// The hops towards `target` by UDP probes; `None` where nobody answered.
#[track_caller]
pub fn traceroute(netns: &Netns, target: IpAddr) -> Vec<Option<IpAddr>> {
    let mut command = netns.command("traceroute");
    command.args(["-n", "-q", "1", "-w", "10", "-m", "6", "-N", "1", &target.to_string()]);
    let text = crate::process::run(&mut command);
    text.lines().skip(1).map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect()
}

/// Sends `bytes` over TCP from one host to another and back (the far side echoes), and checks every byte. Returns
/// the rate in Mbit/s, both ways together.
#[track_caller]
pub fn tcp_there_and_back(from: &Netns, to: &Netns, target: SocketAddr, bytes: usize) -> f64 {
    let listener =
        to.enter(|| TcpListener::bind(target)).unwrap_or_else(|e| panic!("listen on {target}: {e}"));
    let echo = thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(STALL))?;
        let mut buffer = vec![0; 65_536];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                n => stream.write_all(&buffer[..n])?,
            }
        }
    });
    let start = Instant::now();
    let stream = from
        .enter(|| TcpStream::connect_timeout(&target, STALL))
        .unwrap_or_else(|e| panic!("TCP from {} to {target}: {e}", from.name()));
    stream.set_read_timeout(Some(STALL)).expect("a time limit");
    stream.set_write_timeout(Some(STALL)).expect("a time limit");
    let pattern: Vec<u8> = (0..65_537_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut back = vec![0; bytes];
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut left = bytes;
            while left > 0 {
                let part = left.min(pattern.len());
                (&stream).write_all(&pattern[..part]).unwrap_or_else(|e| panic!("TCP to {target}: {e}"));
                left -= part;
            }
        });
        (&stream).read_exact(&mut back).unwrap_or_else(|e| panic!("TCP back from {target}: {e}"));
    });
    let took = start.elapsed();
    drop(stream);
    echo.join().expect("the echo").unwrap_or_else(|e| panic!("TCP echo at {target}: {e}"));
    assert!(
        back.chunks(pattern.len()).all(|c| c == &pattern[..c.len()]),
        "bytes changed on their way to {target}"
    );
    bytes as f64 * 16.0 / took.as_secs_f64() / 1e6
}

/// Sends `count` UDP datagrams of `size` bytes one way, each numbered, in `pace`d bursts of 16. Waits where too many are
/// under way. Returns how many different ones arrived whole.
#[track_caller]
pub fn udp_one_way(
    from: &Netns,
    to: &Netns,
    target: SocketAddr,
    size: usize,
    count: u32,
    pace: Duration,
) -> u32 {
    let receiver = to.enter(|| UdpSocket::bind(target)).unwrap_or_else(|e| panic!("UDP on {target}: {e}"));
    receiver.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    sys::large_buffer(&receiver).expect("a large buffer");
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let sender = from.enter(|| UdpSocket::bind(any)).expect("UDP socket");
    sender.connect(target).unwrap_or_else(|e| panic!("UDP from {} to {target}: {e}", from.name()));
    // One after the last number that has arrived.
    let arrived = Arc::<AtomicU32>::default();
    let newest = Arc::clone(&arrived);
    let counting = thread::spawn(move || {
        let mut seen = vec![false; count as usize];
        let mut buffer = vec![0; size + 1];
        while let Ok(length) = receiver.recv(&mut buffer) {
            let number = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
            newest.fetch_max(number.saturating_add(1), Ordering::Relaxed);
            let whole = length == size && buffer[4..length].iter().all(|b| *b == number as u8);
            if let Some(mark) = seen.get_mut(number as usize).filter(|_| whole) {
                *mark = true;
            }
            if seen.iter().rev().all(|s| *s) {
                break;
            }
        }
        seen.iter().filter(|s| **s).count() as u32
    });
    for number in 0..count {
        let mut datagram = vec![number as u8; size];
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        // A full queue or an ICMP error of an earlier one shows as a missing datagram.
        let _ = sender.send(&datagram);
        if number % 16 == 15 {
            thread::sleep(pace);
            let few = || arrived.load(Ordering::Relaxed) + WINDOW > number;
            if wait::within(PATIENCE, &mut || few().then_some(())).is_none() {
                // Nothing arrives any more: what is missing says so.
                break;
            }
        }
    }
    counting.join().expect("the receiver")
}
