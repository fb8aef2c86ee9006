//! A steady stream of numbered UDP datagrams over many flows, echoed at the far end, so that a test can say what
//! was lost, on which way, and for how long.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::lab::Netns;
use crate::suite::SOON;
use crate::{sys, wait};

/// Source port of flow 0.
const FIRST_PORT: u16 = 40_000;
/// After the last datagram: how long echoes may take.
const LINGER: Duration = Duration::from_millis(1500);
/// The same where packets pass at the end, so that it takes long only on a machine that stands still.
const PATIENCE: Duration = Duration::from_secs(20);
/// After the last datagram: how long it takes at least until nothing can be under way any more, if nothing was lost.
const SHORT_LINGER: Duration = Duration::from_millis(100);

/// One datagram's fate.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Which flow: its source port is [`FIRST_PORT`] and this.
    pub flow: u16,
    /// When it was sent.
    pub sent: Instant,
    /// When it arrived at the far end, if it did.
    pub arrived: Option<Instant>,
    /// When its echo was back, if it came.
    pub echoed: Option<Instant>,
}

/// What the sender knows of a datagram: its flow, when it was sent, when its echo was back.
type Sent = (u16, Instant, Option<Instant>);

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Packets pass, so the echoes of the last ones are waited for.
    Passing,
    /// Perhaps none passes any more.
    Perhaps,
}

/// A stream under way.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<OnceLock<Ending>>,
    sender: Option<JoinHandle<Vec<Sent>>>,
    echo: Option<JoinHandle<()>>,
    echo_stop: Arc<AtomicBool>,
    arrivals: Arc<Mutex<HashMap<u32, Instant>>>,
}

/// A stream to be: where from and to, and how dense.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The sending host.
    pub from: &'a Netns,
    /// The echoing host.
    pub to: &'a Netns,
    /// Address and port that echo.
    pub target: SocketAddr,
    /// Number of flows, served in turn.
    pub flows: u16,
    /// Between two datagrams.
    pub every: Duration,
    /// First bytes of each datagram, to tell streams apart on the wire.
    pub marker: [u8; 8],
}

impl Stream {
    /// Starts it.
    #[track_caller]
    pub fn start(plan: Plan<'_>) -> Self {
        let arrivals = Arc::<Mutex<HashMap<u32, Instant>>>::default();
        let (stop, echo_stop) = (Arc::<OnceLock<Ending>>::default(), Arc::<AtomicBool>::default());
        let target = plan.target;
        let far =
            plan.to.enter(|| UdpSocket::bind(target)).unwrap_or_else(|e| panic!("UDP on {target}: {e}"));
        far.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
        sys::large_buffer(&far).expect("a large buffer");
        let echo = {
            let (stop, arrivals) = (Arc::clone(&echo_stop), Arc::clone(&arrivals));
            thread::spawn(move || echo(&far, plan.marker, &stop, &arrivals))
        };
        let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let sockets: Vec<UdpSocket> = plan.from.enter(|| {
            let open = |flow: u16| {
                let socket = UdpSocket::bind((any, FIRST_PORT + flow))?;
                socket.set_nonblocking(true)?;
                Ok::<_, std::io::Error>(socket)
            };
            (0..plan.flows)
                .map(|f| open(f).unwrap_or_else(|e| panic!("UDP socket of flow {f}: {e}")))
                .collect()
        });
        let sender = {
            let stop = Arc::clone(&stop);
            let (every, marker) = (plan.every, plan.marker);
            thread::spawn(move || send(&sockets, target, every, marker, &stop))
        };
        Self { stop, sender: Some(sender), echo: Some(echo), echo_stop, arrivals }
    }

    /// Waits until so many datagrams have arrived at the far end.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        let arrived = || self.arrivals.lock().expect("the echo does not panic").len();
        wait::until_true(SOON, "datagrams to arrive", || arrived() >= count);
    }

    /// When the first datagram after `since` arrived at the far end.
    pub fn first_arrival(&self, since: Instant) -> Option<Instant> {
        self.arrivals.lock().ok()?.values().copied().filter(|t| *t >= since).min()
    }

    /// When the last datagram so far arrived at the far end.
    pub fn last_arrival(&self) -> Option<Instant> {
        self.arrivals.lock().ok()?.values().copied().max()
    }

    /// Ends it and says how it went, where packets may not pass at the end.
    #[track_caller]
    pub fn stop(self) -> Outcome {
        self.end(Ending::Perhaps)
    }

    /// Ends it while packets pass, and says how it went.
    #[track_caller]
    pub fn stop_passing(self) -> Outcome {
        self.end(Ending::Passing)
    }

    /// Ends it, and fails unless every datagram was echoed.
    #[track_caller]
    pub fn assert_lossless(self) {
        self.stop_passing().assert_lossless();
    }

    #[track_caller]
    fn end(mut self, ending: Ending) -> Outcome {
        self.stop.get_or_init(|| ending);
        let sent = self.sender.take().expect("stopped once").join().expect("the sender");
        self.echo_stop.store(true, Ordering::Relaxed);
        self.echo.take().expect("stopped once").join().expect("the echo");
        let arrivals = self.arrivals.lock().expect("the echo does not panic");
        let sample = |(number, (flow, sent, echoed)): (usize, Sent)| Sample {
            flow,
            sent,
            arrived: arrivals.get(&(number as u32)).copied(),
            echoed,
        };
        Outcome { samples: sent.into_iter().enumerate().map(sample).collect() }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.get_or_init(|| Ending::Perhaps);
        self.echo_stop.store(true, Ordering::Relaxed);
        // A panic of theirs has been printed where it happened.
        let _ = self.sender.take().map(JoinHandle::join);
        let _ = self.echo.take().map(JoinHandle::join);
    }
}

/// Sends until told to stop; datagram `n` is of flow `n % flows`. Yields (flow, sent, echoed) by number.
fn send(
    sockets: &[UdpSocket],
    target: SocketAddr,
    every: Duration,
    marker: [u8; 8],
    stop: &OnceLock<Ending>,
) -> Vec<Sent> {
    let mut samples = Vec::<Sent>::new();
    let mut answered = 0;
    let mut next = Instant::now();
    let mut end = None;
    sys::hurry();
    loop {
        let now = Instant::now();
        if let Some(ending) = stop.get() {
            let waited = now - *end.get_or_insert(now);
            // One of each flow.
            let last = samples.iter().rev().take(sockets.len());
            let missing =
                *ending == Ending::Passing && last.into_iter().any(|(_, _, echoed)| echoed.is_none());
            let limit = if missing { PATIENCE } else { LINGER };
            if waited > limit || (waited > SHORT_LINGER && answered == samples.len()) {
                return samples;
            }
        }
        if end.is_none() && now >= next {
            let flow = samples.len() % sockets.len();
            let datagram = [&marker[..], &(samples.len() as u32).to_be_bytes()].concat();
            // No route, or an ICMP error of an earlier one: counts as sent and lost.
            let _ = sockets[flow].send_to(&datagram, target);
            samples.push((flow as u16, now, None));
            next = (next + every).max(now.checked_sub(every).unwrap_or(now));
        }
        for socket in sockets {
            answered += collect(socket, marker, &mut samples);
        }
        thread::sleep(next.saturating_duration_since(Instant::now()).min(Duration::from_millis(2)));
    }
}

/// Takes in the echoes that have come; how many datagrams they answer that were not answered before.
fn collect(socket: &UdpSocket, marker: [u8; 8], samples: &mut [Sent]) -> usize {
    let mut buffer = [0; 64];
    let mut answered = 0;
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let sample = number(&buffer[..length], marker).and_then(|n| samples.get_mut(n as usize));
                if let Some(sample) = sample {
                    answered += usize::from(sample.2.is_none());
                    sample.2.get_or_insert_with(Instant::now);
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return answered,
            // An ICMP error shows once on the socket.
            Err(_) => {}
        }
    }
}

fn echo(socket: &UdpSocket, marker: [u8; 8], stop: &AtomicBool, arrivals: &Mutex<HashMap<u32, Instant>>) {
    let mut buffer = [0; 64];
    sys::hurry();
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let (Some(number), Ok(mut arrivals)) = (number(&buffer[..length], marker), arrivals.lock()) {
            arrivals.entry(number).or_insert_with(Instant::now);
            // A lost echo shows as one.
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

fn number(datagram: &[u8], marker: [u8; 8]) -> Option<u32> {
    let number = datagram.strip_prefix(&marker)?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

/// How a stream went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Each datagram, in the order of sending.
    pub samples: Vec<Sample>,
}

impl Outcome {
    /// Datagrams that did not arrive.
    pub fn lost(&self) -> usize {
        self.samples.iter().filter(|s| s.arrived.is_none()).count()
    }

    /// Datagrams whose echo did not come back, for whichever reason.
    pub fn unanswered(&self) -> usize {
        self.samples.iter().filter(|s| s.echoed.is_none()).count()
    }

    /// From `event` to the sending of the last datagram that was not echoed: how long the repair took. Zero when
    /// nothing was lost after it.
    pub fn repair(&self, event: Instant) -> Duration {
        let lost = self.samples.iter().filter(|s| s.echoed.is_none() && s.sent >= event);
        lost.map(|s| s.sent - event).max().unwrap_or_default()
    }

    /// As [`Self::repair`], looking at the way there only.
    pub fn repair_one_way(&self, event: Instant) -> Duration {
        let lost = self.samples.iter().filter(|s| s.arrived.is_none() && s.sent >= event);
        lost.map(|s| s.sent - event).max().unwrap_or_default()
    }

    /// In words, for a test that fails: how many were lost and how many unanswered, second by second from `event`.
    pub fn describe(&self, event: Instant) -> String {
        let mut seconds: BTreeMap<u64, (usize, usize, usize, BTreeSet<u16>)> = BTreeMap::new();
        for s in self.samples.iter().filter(|s| s.sent >= event) {
            let second = seconds.entry((s.sent - event).as_secs()).or_default();
            second.0 += 1;
            second.1 += usize::from(s.arrived.is_none());
            second.2 += usize::from(s.echoed.is_none());
            if s.echoed.is_none() {
                second.3.insert(s.flow);
            }
        }
        let line = |(second, (sent, lost, silent, flows)): (u64, (usize, usize, usize, BTreeSet<u16>))| {
            format!("second {second}: {sent} sent, {lost} lost, {silent} unanswered, flows {flows:?}\n")
        };
        seconds.into_iter().map(line).collect()
    }

    /// Fails unless every datagram was echoed.
    #[track_caller]
    pub fn assert_lossless(&self) {
        assert!(!self.samples.is_empty(), "nothing was sent");
        assert_eq!(
            (self.lost(), self.unanswered()),
            (0, 0),
            "(lost on the way there, without echo) of {} datagrams",
            self.samples.len()
        );
    }
}
