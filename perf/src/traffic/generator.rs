//! The generator: one loop on one core that sends by the clock and judges all that comes back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::check::{Checker, Counts, Observer, Verdict};
use super::pace::Pacer;
use super::plan::Traffic;
use super::stamp::Stamp;
use super::wire::Wire;

/// Frames handed to a port at once, at most.
pub const BURST: usize = 32;

/// How much to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// For so long.
    Time(Duration),
    /// So many frames on each port that sends.
    Frames(u64),
    /// Until the stop flag is set.
    #[allow(dead_code, reason = "for whoever ends the trial from another thread")]
    UntilStopped,
}

/// One trial.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Frames a second on each port that sends; infinite for as fast as can be.
    pub rate: f64,
    /// How much.
    pub length: Length,
    /// How long to wait for the last frames; the wait ends early once all are back.
    pub drain: Duration,
    /// Measure the latency of every so-manieth frame.
    pub latency_every: Option<u32>,
    /// By how much the hop limit must be lower when a frame comes back: the routers on the way.
    pub hops: u8,
    /// Ports to receive on: bit `n` for port `n`.
    pub receive: u32,
    /// How long to leave the core to others when there is nothing to do; none: not at all.
    pub rest: Option<Duration>,
}

/// How far a trial is, for another thread to look at.
#[derive(Debug, Default)]
pub struct Live {
    /// Frames sent.
    pub sent: AtomicU64,
    /// Frames that came back intact, duplicates included.
    pub received: AtomicU64,
}

/// What came of a trial.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// All flows together.
    pub total: Counts,
    /// Each flow, by its number.
    pub flows: Vec<Counts>,
    /// Frames that ports refused, with queues full; they are among the sent and the lost.
    pub refused: u64,
    /// Frames that should have been sent by the rate and were not, since the generator was late. Not among the sent.
    pub missed: u64,
    /// How long was sent, in seconds.
    pub seconds: f64,
    /// The longest time between two looks at the receiving ports while sending, in seconds.
    pub longest_gap: f64,
    /// Frames that were none of ours.
    pub foreign: u64,
    /// Frames of earlier trials.
    pub stragglers: u64,
    /// Latencies in ticks, if they were asked for.
    pub latency: Option<Histogram<u64>>,
    /// Ticks a second.
    pub hz: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

impl Outcome {
    /// Frames a second that were sent, over all ports.
    pub fn offered(&self) -> f64 {
        if self.seconds > 0.0 { self.total.sent as f64 / self.seconds } else { 0.0 }
    }

    /// Frames a second that came back.
    pub fn delivered(&self) -> f64 {
        if self.seconds > 0.0 { self.total.received as f64 / self.seconds } else { 0.0 }
    }

    /// The share of the intended frames that the generator did not manage to send, 0 to 1.
    pub fn shortfall(&self) -> f64 {
        let intended = self.total.sent + self.missed;
        if intended == 0 { 0.0 } else { self.missed as f64 / intended as f64 }
    }
}

/// A port that sends.
struct Sender<'a> {
    port: usize,
    flows: &'a [u32],
    at: usize,
    count: u64,
    pacer: Pacer,
}

/// Runs one trial. It ends early when `stop` is set, with what came until then.
pub fn run<W: Wire, O: Observer>(
    wire: &mut W,
    traffic: &Traffic,
    trial: u16,
    load: &Load,
    stop: &AtomicBool,
    live: &Live,
    observer: &mut O,
) -> Outcome {
    let hz = wire.hz();
    let mut trial = Trial::new(traffic, trial, load, hz);
    let start = wire.now();
    let senders = (0..traffic.ports()).map(|port| Sender {
        port,
        flows: traffic.of_port(port),
        at: 0,
        count: 0,
        pacer: Pacer::new(load.rate, hz, start),
    });
    let mut senders: Vec<_> = senders.filter(|sender| !sender.flows.is_empty()).collect();
    let end = match load.length {
        Length::Time(time) => start + ticks(time, hz),
        Length::Frames(_) | Length::UntilStopped => u64::MAX,
    };
    let frames = if let Length::Frames(frames) = load.length { frames } else { u64::MAX };
    let (mut looked, mut gap, mut round) = (start, 0, 0_u32);
    let (mut now, mut stopped) = (start, false);
    loop {
        gap = gap.max(now - looked);
        looked = now;
        let mut worked = trial.receive(wire, observer);
        let mut busy = false;
        for sender in &mut senders {
            let most = BURST.min(usize::try_from(frames - sender.count).unwrap_or(BURST));
            busy |= most > 0;
            worked |= trial.send(wire, sender, now, most);
        }
        if let Some(rest) = load.rest
            && !worked
        {
            std::thread::sleep(rest);
        }
        now = wire.now();
        round = round.wrapping_add(1);
        if round.is_multiple_of(1024) || load.rest.is_some() {
            live.sent.store(senders.iter().map(|s| s.count).sum(), Ordering::Relaxed);
            live.received.store(trial.received, Ordering::Relaxed);
            stopped = stop.load(Ordering::Relaxed);
        }
        if now >= end || !busy || stopped {
            break;
        }
    }
    let sent_until = now.min(end);
    let until = now + ticks(load.drain, hz);
    while now < until && trial.received < trial.expected() {
        trial.receive(wire, observer);
        for sender in &senders {
            wire.room(sender.port, 0);
        }
        now = wire.now();
    }
    live.sent.store(senders.iter().map(|s| s.count).sum(), Ordering::Relaxed);
    live.received.store(trial.received, Ordering::Relaxed);
    let missed =
        if frames == u64::MAX { senders.iter().map(|s| s.pacer.missed(sent_until)).sum() } else { 0 };
    trial.outcome(sent_until - start, gap, missed, stopped)
}

/// What a trial keeps book of.
struct Trial<'a> {
    traffic: &'a Traffic,
    number: u16,
    receive: u32,
    checker: Checker,
    /// Frames of each flow so far: the next one's sequence number.
    sent: Vec<u64>,
    sent_in_all: u64,
    received: u64,
    refused: u64,
    latency: Option<Histogram<u64>>,
    every: u32,
    countdown: u32,
    hz: u64,
}

impl<'a> Trial<'a> {
    fn new(traffic: &'a Traffic, number: u16, load: &Load, hz: u64) -> Self {
        let every = load.latency_every.unwrap_or(1).max(1);
        // Up to a minute. The bounds are constants that `new_with_bounds` takes.
        let histogram = || Histogram::new_with_bounds(1, 60 * hz.max(1), 3).ok();
        Self {
            traffic,
            number,
            receive: load.receive,
            checker: Checker::new(traffic.flows(), number, load.hops),
            sent: vec![0; traffic.flows().len()],
            sent_in_all: 0,
            received: 0,
            refused: 0,
            latency: load.latency_every.and_then(|_| histogram()),
            every,
            countdown: every,
            hz,
        }
    }

    /// Frames after which there is nothing left to wait for.
    fn expected(&self) -> u64 {
        self.sent_in_all - self.refused
    }

    /// Whether anything came.
    #[inline]
    fn receive<W: Wire, O: Observer>(&mut self, wire: &mut W, observer: &mut O) -> bool {
        let mut ports = self.receive;
        let mut came = 0;
        while ports != 0 {
            let port = ports.trailing_zeros() as usize;
            ports &= ports - 1;
            came += wire.receive(port, |frame, now| {
                let template = |flow, len| self.traffic.incoming(flow, len);
                let (verdict, ticks) = self.checker.judge(frame, port, now, template, observer);
                if !matches!(verdict, Verdict::Good(_)) {
                    return;
                }
                self.received += 1;
                if let Some(latency) = &mut self.latency {
                    self.countdown -= 1;
                    if self.countdown == 0 {
                        self.countdown = self.every;
                        latency.saturating_record(ticks);
                    }
                }
            });
        }
        came > 0
    }

    /// Whether anything was sent.
    #[inline]
    fn send<W: Wire>(&mut self, wire: &mut W, sender: &mut Sender<'_>, now: u64, most: usize) -> bool {
        let due = sender.pacer.due(now, most);
        if due == 0 {
            return false;
        }
        let n = wire.room(sender.port, due);
        if n == 0 {
            return false;
        }
        let (mut picks, mut lens) = ([0_u32; BURST], [0_u16; BURST]);
        for (i, (pick, len)) in picks.iter_mut().zip(&mut lens).take(n).enumerate() {
            *pick = sender.flows[sender.at];
            sender.at = if sender.at + 1 == sender.flows.len() { 0 } else { sender.at + 1 };
            *len = self.traffic.outgoing(*pick, sender.count + i as u64).len;
        }
        let (traffic, sent, trial, count) = (self.traffic, &mut self.sent, self.number, sender.count);
        self.refused += wire.send(sender.port, &lens[..n], |i, frame| {
            let flow = picks[i];
            let seq = &mut sent[flow as usize];
            let stamp = Stamp { trial, flow, seq: *seq, time: now };
            *seq += 1;
            traffic.outgoing(flow, count + i as u64).write(stamp, frame);
        }) as u64;
        sender.count += n as u64;
        self.sent_in_all += n as u64;
        sender.pacer.gave(n);
        true
    }

    fn outcome(self, ticks: u64, gap: u64, missed: u64, stopped: bool) -> Outcome {
        let flows: Vec<_> =
            self.sent.iter().enumerate().map(|(i, &sent)| self.checker.flow(i, sent)).collect();
        let mut total = Counts { corrupt: self.checker.corrupt_of_no_flow(), ..Counts::default() };
        for flow in &flows {
            total += *flow;
        }
        Outcome {
            total,
            flows,
            refused: self.refused,
            missed,
            seconds: ticks as f64 / self.hz as f64,
            longest_gap: gap as f64 / self.hz as f64,
            foreign: self.checker.foreign(),
            stragglers: self.checker.stragglers(),
            latency: self.latency,
            hz: self.hz,
            stopped,
        }
    }
}

fn ticks(time: Duration, hz: u64) -> u64 {
    (time.as_secs_f64() * hz as f64) as u64
}
