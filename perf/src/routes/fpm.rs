//! FPM: FRR's zebra, full by BGP, sends its table to a receiver that only drains, which is zebra's own sending time,
//! and to ours, several times by turns. What it sent is then replayed into ours at full speed.
//!
//! Each time zebra connects anew, and sends all: the clock starts with the connection, and ends with the last route
//! received, or in the FIB.
//!
//! zebra's walk over its table rests for a second when its buffer of a megabyte is full. Its other thread empties that,
//! and has to come to a core every few milliseconds. So other sessions' threads stand back while this is measured, for both
//! receivers alike, and ours is not asked all the time how far it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::feed::Feed;
use super::lab::{Favour, Lab, Stop, usage};
use super::ours::Turnpike;
use super::peers::Peer;
use super::report::{Report, Row};
use super::speaker::Speaker;
use super::subject::{Kind, Subject as _};
use super::{Args, Run, SENDER};

/// How often by turns.
const ROUNDS: usize = 5;
/// Where receivers are: the one that drains, and ours.
const DRAIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(SENDER), 2621);
const OURS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(SENDER), 2620);
/// rtnetlink's message for a new route.
const NEW_ROUTE: u16 = 24;

fn configuration(lab: &Lab, core: usize) -> String {
    format!(
        "[[port]]\nname = \"wan0\"\ndevice = \"net_null0,no-rx=1\"\n[[interface]]\nname = \"wan\"\nport = \"wan0\"\n\
         addresses = [\"198.51.100.1/24\", \"2001:db8:ffff::1/64\"]\n\
         [[neighbour]]\ninterface = \"wan\"\naddress = \"198.51.100.2\"\nmac = \"02:00:00:00:00:22\"\n\
         [workers]\ncores = [{core}]\nidle = \"sleep\"\n[kernel]\ntaps = false\n\
         [memory]\nhuge_pages = \"never\"\nbuffers = 4096\n[api]\nsocket = \"{}\"\n\
         [fpm]\nlisten = \"{OURS}\"\n[[fpm.table]]\nvrf = \"default\"\n",
        lab.path("turnpike.sock").display(),
    )
}

/// Runs the case.
pub fn run(args: &Args, feed: &Feed, report: &mut Report, stop: &Stop) -> Result<(), String> {
    if let Some(how) = super::peers::missing(Kind::FrrKernel) {
        eprintln!("perf: FRR is not installed ({how}): no FPM");
        return Ok(());
    }
    eprintln!("perf: fpm: zebra takes the feed from bgpd first");
    let lab = Lab::new(800)?;
    lab.sender.ip("link set lo up")?;
    let mut frr = Peer::start(Kind::FrrKernel, &lab, &["-M", "dplane_fpm_nl"], stop)?;
    let mut speaker = Speaker::connect(&lab.sender, frr.address(), SENDER, stop)?;
    let filled = Run { args, kind: Kind::FrrKernel, lab: &lab, feed, stop };
    filled.announce(&mut frr, &mut speaker, None, report)?;
    let _favour = Favour::laboratory();
    let zebra = Zebra { lab: &lab, patience: Duration::from_secs(args.patience), stop };
    let count = feed.prefixes.len();
    // What is kept costs the receiver time: that one is not counted.
    let mut sent = Vec::new();
    zebra.drain(count, Some(&mut sent))?;
    for round in 1..=ROUNDS {
        speaker.keepalive()?;
        eprintln!("perf: fpm: round {round} of {ROUNDS}");
        let before = usage(&frr.pids(), "");
        let seconds = zebra.drain(count, None)?;
        let (cpu, rss) = usage(&frr.pids(), "");
        report.row(&Row {
            buffer_full: Some(zebra.buffer_full()?),
            ..row("fpm", "frr-sends", count, seconds, (cpu - before.0, rss))
        })?;
        speaker.keepalive()?;
        let mut turnpike = Turnpike::start_in(&lab.sender, &lab, &configuration(&lab, args.core), stop)?;
        let start = zebra.connect_to(OURS, || turnpike.fpm_is_up())?;
        let seconds = zebra.filled(&mut turnpike, count, start)?;
        report.row(&Row {
            buffer_full: Some(zebra.buffer_full()?),
            ..row("fpm", "turnpike", count, seconds, usage(&turnpike.pids(), turnpike.leave_out()))
        })?;
        zebra.order("configure terminal", "no fpm address")?;
    }
    eprintln!("perf: fpm: {:.1} MB of frames are replayed", sent.len() as f64 / 1e6);
    let mut turnpike = Turnpike::start_in(&lab.sender, &lab, &configuration(&lab, args.core), stop)?;
    let mut stream = lab.sender.run(|| TcpStream::connect(OURS))?.map_err(|error| error.to_string())?;
    let start = Instant::now();
    let replay = std::thread::spawn(move || stream.write_all(&sent).map(|()| stream));
    let seconds = zebra.filled(&mut turnpike, count, start)?;
    // The connection stays until all is counted.
    drop(replay.join());
    report.row(&row("fpm-replay", "turnpike", count, seconds, usage(&turnpike.pids(), turnpike.leave_out())))
}

fn row(case: &'static str, subject: &'static str, routes: usize, seconds: f64, usage: (f64, f64)) -> Row {
    Row { case, subject, routes, seconds, cpu_seconds: usage.0, rss_mb: usage.1, ..Row::default() }
}

/// A zebra that is full.
struct Zebra<'a> {
    lab: &'a Lab,
    patience: Duration,
    stop: &'a Stop,
}

impl Zebra<'_> {
    /// Says two things to zebra; gives its answer.
    fn order(&self, first: &str, second: &str) -> Result<String, String> {
        let dir = self.lab.dir.path().display().to_string();
        let args = ["--vty_socket", &dir, "-d", "zebra", "-c", first, "-c", second];
        let output = std::process::Command::new("vtysh").args(args).output();
        let output = output.map_err(|error| format!("cannot run vtysh: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && !said.contains('%') {
            return Ok(said);
        }
        Err(format!("zebra refused `{second}`: {said}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// How often zebra has found its buffer full since this was asked last, and rested a second for it.
    fn buffer_full(&self) -> Result<u64, String> {
        let said = self.order("show fpm counters", "clear fpm counters")?;
        let line = said.lines().find(|line| line.contains("Buffer full hits"));
        let count = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
        count.ok_or_else(|| format!("zebra's FPM counters: {said}"))
    }

    /// Has zebra connect to `to`; gives when `connected` held first.
    fn connect_to(
        &self,
        to: SocketAddr,
        mut connected: impl FnMut() -> Result<bool, String>,
    ) -> Result<Instant, String> {
        self.order("configure terminal", &format!("fpm address {} port {}", to.ip(), to.port()))?;
        let asked = Instant::now();
        while !connected()? {
            if asked.elapsed() > self.patience {
                return Err(format!("zebra does not connect to {to}"));
            }
            self.stop.sleep(Duration::from_millis(1))?;
        }
        Ok(Instant::now())
    }

    /// Waits until ours has all; gives the seconds since `start`.
    fn filled(&self, turnpike: &mut Turnpike, count: usize, start: Instant) -> Result<f64, String> {
        loop {
            let have = turnpike.count(self.lab, count)?;
            if have >= count {
                return Ok(start.elapsed().as_secs_f64());
            }
            if start.elapsed() > self.patience {
                return Err(format!("ours has {have} of {count} routes by FPM"));
            }
            self.stop.sleep(Duration::from_millis(10))?;
        }
    }

    /// Takes all that zebra sends, as fast as it does: seconds until `count` routes had come. It only reads and counts,
    /// unless the bytes are to be kept.
    fn drain(&self, count: usize, mut keep: Option<&mut Vec<u8>>) -> Result<f64, String> {
        let text = |error: std::io::Error| format!("the receiver that drains: {error}");
        let listener = self.lab.sender.run(|| TcpListener::bind(DRAIN))?.map_err(text)?;
        // As much as ours asks for: it is zebra that is measured.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&listener, 32 << 20);
        let (accepted, first) = mpsc::channel();
        let patience = self.patience;
        std::thread::scope(|scope| {
            let receiver = scope.spawn(move || -> std::io::Result<f64> {
                let (mut stream, _) = listener.accept()?;
                let start = Instant::now();
                // Nobody waits for it any more only if the run has failed.
                let _ = accepted.send(());
                stream.set_read_timeout(Some(Duration::from_millis(500)))?;
                let (mut piece, mut left, mut routes) = (vec![0; 1 << 20], 0, 0);
                while routes < count && start.elapsed() < patience {
                    let length = match stream.read(&mut piece[left..]) {
                        Ok(0) => break,
                        Ok(length) => length,
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                        Err(error) => return Err(error),
                    };
                    let (seen, whole) = count_routes(&piece[..left + length]);
                    routes += seen;
                    if let Some(keep) = &mut keep {
                        keep.extend_from_slice(&piece[..whole]);
                    }
                    piece.copy_within(whole..left + length, 0);
                    left = left + length - whole;
                }
                let seconds = start.elapsed().as_secs_f64();
                if routes < count {
                    return Err(std::io::Error::other(format!("only {routes} of {count} routes came")));
                }
                Ok(seconds)
            });
            self.connect_to(DRAIN, || Ok(first.try_recv().is_ok() || receiver.is_finished()))?;
            let result = receiver.join().map_err(|_| "the receiver that drains has ended".to_owned())?;
            self.order("configure terminal", "no fpm address")?;
            result.map_err(text)
        })
    }
}

/// New routes in the whole frames of `bytes`, and how many bytes those are.
fn count_routes(bytes: &[u8]) -> (usize, usize) {
    let (mut seen, mut whole) = (0, 0);
    while let Some([_, _, high, low]) = bytes.get(whole..whole + 4) {
        let length = usize::from(u16::from_be_bytes([*high, *low])).max(4);
        let Some(mut messages) = bytes.get(whole + 4..whole + length) else { break };
        while let Some(head) = messages.first_chunk::<6>() {
            let size = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]).max(16) as usize;
            seen += usize::from(u16::from_ne_bytes([head[4], head[5]]) == NEW_ROUTE);
            messages = messages.get(size.next_multiple_of(4)..).unwrap_or(&[]);
        }
        whole += length;
    }
    (seen, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_counted_in_whole_frames() {
        let message = |kind: u16| {
            let mut bytes = 18u32.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.resize(20, 0);
            bytes
        };
        let frame = |kinds: &[u16]| {
            let body: Vec<u8> = kinds.iter().flat_map(|kind| message(*kind)).collect();
            let mut bytes = vec![1, 1];
            bytes.extend((4 + body.len() as u16).to_be_bytes());
            bytes.extend(body);
            bytes
        };
        let all = [frame(&[104]), frame(&[25, 24]), frame(&[24])].concat();
        assert_eq!(count_routes(&all[..all.len() - 1]), (1, all.len() - frame(&[24]).len()));
        assert_eq!(count_routes(&all), (2, all.len()));
    }
}
