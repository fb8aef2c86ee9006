//! A client's thread while it traces or captures: empties the workers' records and writes them to the client, until it
//! has seen enough, is too slow, or goes.
//!
//! After the reply, each line is a JSON object: `{"packet":…}` with a packet of a trace; `{"bytes":N}`, which N bytes of
//! a pcapng file follow; and last `{"end":…}`. The client ends by sending anything, or by closing its sending side.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dataplane::ids::PortId;
use dataplane::verdict::Verdict;
use dataplane::watch::{Kind, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::pcapng::{self, Statistics, Way};
use super::view::{End, Member, Message, Route, Traced};
use super::{Question, Watching};

/// How long a client may take for what it is sent at a time.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the thread waits when there was nothing.
const NAP: Duration = Duration::from_millis(1);
/// Most records of a worker that are taken at a time.
const TURN: usize = 64;
/// Bytes of a file that are sent at a time, about.
const CHUNK: usize = 64 * 1024;
/// How long workers may take until none uses a session that was closed.
const GRACE: Duration = Duration::from_secs(2);

/// Asks the RIB what lies behind workers' decisions: an answer for each question, or none if it is stopping.
pub type Explain<'a> = &'a mut dyn FnMut(Vec<Question>) -> Option<Vec<(Route, Option<Member>)>>;

/// Serves one session until its end.
///
/// # Errors
/// The client is gone, or too slow.
pub fn serve(
    stream: &UnixStream,
    watching: &Watching,
    limit: Option<u64>,
    comment: &str,
    explain: Option<Explain>,
) -> Result<()> {
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let format = if let Some(explain) = explain {
        Format::Trace { explain, traced: Vec::new(), questions: Vec::new() }
    } else {
        let written = vec![0; watching.names.ports.len()];
        Format::Capture { file: Vec::new(), started: now(), written }
    };
    let mut served = Served { stream, watching, format, left: limit.unwrap_or(u64::MAX), captured: 0 };
    served.begin(comment)?;
    let result = served.until_end();
    watching.session.close();
    result?;
    served.finish()
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

enum Format<'a> {
    Trace {
        explain: Explain<'a>,
        traced: Vec<(Traced, bool)>,
        questions: Vec<Question>,
    },
    Capture {
        file: Vec<u8>,
        started: u64,
        /// Frames of each port.
        written: Vec<u64>,
    },
}

struct Served<'a> {
    stream: &'a UnixStream,
    watching: &'a Watching,
    format: Format<'a>,
    /// Records that the client still wants.
    left: u64,
    captured: u64,
}

impl Served<'_> {
    fn begin(&mut self, comment: &str) -> Result<()> {
        if let Format::Capture { file, .. } = &mut self.format {
            pcapng::section(file, concat!("turnpike ", env!("CARGO_PKG_VERSION")), comment);
            for name in &self.watching.names.ports {
                pcapng::interface(file, name, self.watching.snaplen as u32);
            }
        }
        self.flush()
    }

    fn until_end(&mut self) -> Result<()> {
        while self.left > 0 && !self.asked_to_end(Duration::ZERO)? {
            if self.drain()? == 0 && self.asked_to_end(NAP)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the client has sent something, or closed, within so long.
    fn asked_to_end(&self, wait: Duration) -> Result<bool> {
        let mut fds = [PollFd::new(self.stream, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        match poll(&mut fds, Some(&wait)) {
            // DPDK's `net_tap` has the process signalled for each packet.
            Ok(0) | Err(Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let _ = (&mut &*self.stream).read(&mut [0; 64])?;
        Ok(true)
    }

    /// Takes some records of each worker, and sends them. Returns how many there were.
    fn drain(&mut self) -> Result<usize> {
        let clock = Clock::now(self.watching.hz);
        let mut count = 0;
        for worker in 0..self.watching.session.workers() {
            let (format, watching) = (&mut self.format, self.watching);
            let most = self.left.min(TURN as u64) as usize;
            let taken = watching.session.drain(worker, most, |record| {
                format.take(record, worker, clock.time(record.cycles), watching);
            });
            self.left -= taken as u64;
            count += taken;
        }
        self.captured += count as u64;
        if count > 0 {
            self.flush()?;
        }
        Ok(count)
    }

    /// Sends what has been put together.
    fn flush(&mut self) -> Result<()> {
        let mut out = Vec::new();
        match &mut self.format {
            Format::Trace { explain, traced, questions } => {
                let answers = match std::mem::take(questions) {
                    none if none.is_empty() => Some(Vec::new()),
                    questions => explain(questions),
                };
                let stopping = || Error::new(ErrorKind::ConnectionAborted, "turnpike is stopping");
                let mut answers = answers.ok_or_else(stopping)?.into_iter();
                for (mut packet, asked) in traced.drain(..) {
                    if asked && let Some((route, member)) = answers.next() {
                        packet.route = Some(route);
                        packet.member = member;
                    }
                    line(&mut out, &Message::Packet(Box::new(packet)))?;
                }
            }
            Format::Capture { file, .. } => {
                for part in file.chunks(CHUNK) {
                    line(&mut out, &Message::Bytes(part.len()))?;
                    out.extend(part);
                }
                file.clear();
            }
        }
        write_within(self.stream, &out, PATIENCE)
    }

    /// Takes what workers still had under way, and tells the sums.
    fn finish(&mut self) -> Result<()> {
        // Once ours is the last reference, control has taken the session back from the workers.
        let end = Instant::now() + GRACE;
        while Arc::strong_count(&self.watching.session) > 1 && Instant::now() < end {
            std::thread::sleep(NAP);
        }
        while self.left > 0 && self.drain()? > 0 {}
        let mut missed = 0;
        for port in 0..self.watching.names.ports.len() {
            let counts = self.watching.session.counts(PortId(port as u16));
            missed += counts.missed;
            if let Format::Capture { file, started, written } = &mut self.format {
                let (started, ended) = (*started, now());
                let missed = counts.missed;
                // Those that matched after the last one that was wanted are of no capture.
                let matched = if self.left == 0 { written[port] + missed } else { counts.matched };
                pcapng::statistics(file, port as u32, &Statistics { started, ended, matched, missed });
            }
        }
        self.flush()?;
        let mut out = Vec::new();
        line(&mut out, &Message::End(End { captured: self.captured, missed }))?;
        write_within(self.stream, &out, PATIENCE)
    }
}

fn line(out: &mut Vec<u8>, message: &Message) -> Result<()> {
    serde_json::to_writer(&mut *out, message)?;
    out.push(b'\n');
    Ok(())
}

impl Format<'_> {
    fn take(&mut self, record: &Record, worker: usize, time: u64, watching: &Watching) {
        match self {
            Self::Trace { traced, questions, .. } => {
                let question = Traced::question(record);
                traced.push((Traced::new(record, worker, time, &watching.names), question.is_some()));
                questions.extend(question);
            }
            Self::Capture { file, written, .. } => {
                if let Some(written) = written.get_mut(usize::from(record.port.0)) {
                    *written += 1;
                }
                let way = if record.kind == Kind::Received { Way::Inbound } else { Way::Outbound };
                let comment = comment(record);
                let (bytes, len) = (record.bytes(), record.frame_len);
                let interface = u32::from(record.port.0);
                pcapng::frame(file, &pcapng::Frame { interface, time, bytes, len, way, comment: &comment });
            }
        }
    }
}

/// What there is to say of a frame.
fn comment(record: &Record) -> String {
    let end = match record.verdict {
        Verdict::Forward => String::new(),
        Verdict::Drop(reason) | Verdict::Refuse(reason) => format!("dropped: {}", reason.name()),
        Verdict::Punt(reason) => format!("punted: {}", reason.name()),
    };
    match (record.kind, end.is_empty()) {
        (Kind::Injected, true) => "from control".into(),
        (Kind::Injected, false) => format!("from control, {end}"),
        _ => end,
    }
}

/// Turns the workers' clock into the time of day.
struct Clock {
    hz: u64,
    cycles: u64,
    time: u64,
}

impl Clock {
    fn now(hz: u64) -> Self {
        Self { hz: hz.max(1), cycles: dpdk_sys::cycles(), time: now() }
    }

    /// The time, in nanoseconds since 1970, of a moment not long ago.
    fn time(&self, cycles: u64) -> u64 {
        let ago = u128::from(self.cycles.saturating_sub(cycles)) * 1_000_000_000 / u128::from(self.hz);
        self.time.saturating_sub(ago as u64)
    }
}

/// Writes all of it, in so long at most. The stream's write timeout is shorter.
fn write_within(mut stream: &UnixStream, mut bytes: &[u8], limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if !bytes.is_empty() && Instant::now() >= end {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use dataplane::watch::{Place, Program, What};
    use rustix::process::{Signal, kill_process};

    use super::*;
    use crate::watch::{Names, WatchPlan};

    #[test]
    fn signals_end_no_session() {
        let handled = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&handled)).unwrap();
        let plan = WatchPlan {
            what: What::Trace,
            place: Place::Anywhere,
            program: Program::default(),
            records: 1,
            snaplen: 14,
            names: Names { cores: vec![0], ..Names::default() },
            hz: 1,
        };
        let watching = plan.watching();
        let (ours, client) = UnixStream::pair().unwrap();
        let (thread, id) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let served = scope.spawn(|| {
                thread.send(rustix::thread::gettid()).unwrap();
                serve(&ours, &watching, None, "", Some(&mut |_| Some(Vec::new())))
            });
            let id = id.recv().unwrap();
            for _ in 0..100 {
                kill_process(id, Signal::USR1).unwrap();
                std::thread::sleep(Duration::from_micros(300));
            }
            client.shutdown(std::net::Shutdown::Write).unwrap();
            served.join().unwrap().unwrap();
        });
        assert!(handled.load(std::sync::atomic::Ordering::Relaxed));
    }
}
