//! What the hosts at both ends do: ping, traceroute, and bulk transfers over TCP and UDP.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::Netns;
use crate::process::output;

/// Longest a bulk transfer may stand still.
const STALL: Duration = Duration::from_secs(5);

/// What `ping` reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// Requests sent.
    pub sent: u32,
    /// Replies received, without duplicates.
    pub received: u32,
    /// Replies received twice.
    pub duplicates: u32,
}

/// Sends `count` echo requests of `size` bytes that must not be fragmented, 20 ms apart, from `source` or what the
/// kernel takes.
#[track_caller]
pub fn ping(netns: &Netns, source: Option<IpAddr>, target: IpAddr, size: u16, count: u32) -> Pings {
    let mut command: Command = netns.command("ping");
    command.args(["-n", "-q", "-i", "0.02", "-W", "1", "-M", "do"]);
    command.args(source.iter().flat_map(|s| ["-I".to_owned(), s.to_string()]));
    command.args(["-c", &count.to_string(), "-s", &size.to_string(), &target.to_string()]);
    let output = output(&mut command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let before = |word: &str| {
        let head = text.split(word).next().filter(|h| h.len() < text.len())?;
        head.split_whitespace().last()?.trim_start_matches('+').parse().ok()
    };
    let figures = before(" packets transmitted").zip(before(" received"));
    let Some((sent, received)) = figures else {
        panic!("ping {target}: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    Pings { sent, received, duplicates: before(" duplicates").unwrap_or(0) }
}

/// Pings and demands that each request gets exactly one reply.
#[track_caller]
pub fn assert_pings(netns: &Netns, source: Option<IpAddr>, target: IpAddr, size: u16, count: u32) {
    let got = ping(netns, source, target, size, count);
    let want = Pings { sent: count, received: count, duplicates: 0 };
    assert_eq!(got, want, "ping of {size} bytes from {} to {target}", netns.name());
}

/// The hops towards `target` by UDP probes; `None` where nobody answered.
#[track_caller]
pub fn traceroute(netns: &Netns, target: IpAddr) -> Vec<Option<IpAddr>> {
    let mut command = netns.command("traceroute");
    command.args(["-n", "-q", "1", "-w", "1", "-m", "6", "-N", "1", &target.to_string()]);
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

/// Sends `count` UDP datagrams of `size` bytes one way, each numbered, in `pace`d bursts of 16. Returns how many
/// different ones arrived whole.
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
    receiver.set_read_timeout(Some(Duration::from_secs(1))).expect("a time limit");
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let sender = from.enter(|| UdpSocket::bind(any)).expect("UDP socket");
    sender.connect(target).unwrap_or_else(|e| panic!("UDP from {} to {target}: {e}", from.name()));
    let counting = thread::spawn(move || {
        let mut seen = vec![false; count as usize];
        let mut buffer = vec![0; size + 1];
        while let Ok(length) = receiver.recv(&mut buffer) {
            let number = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
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
        }
    }
    counting.join().expect("the receiver")
}
