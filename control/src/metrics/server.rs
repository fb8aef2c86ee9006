//! The metrics over HTTP: one thread that waits for its connections, a bounded number of them, each for a bounded time.
//! It asks the control thread as the API's clients do, and not more often than ten times a second.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::connection::{Connection, Next};
use super::http::{self, Answer, Refusal};
use crate::api::server::Call;
use crate::kernel::wake::Wake;
use crate::source::limit::RateLimit;
use crate::source::threads::Threads;

/// Why the metrics cannot be had over HTTP.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Somebody else listens there.
    #[error("another program listens at {0} (`[api] metrics`): stop it, or choose another port")]
    InUse(SocketAddr),
    /// The address is none of this machine's.
    #[error(
        "{0} (`[api] metrics`) is no address of this machine, in the network namespace that turnpike was started in: \
         choose one that `ip address` shows there, or 0.0.0.0 for all"
    )]
    NoSuchAddress(SocketAddr),
    /// We may not listen there.
    #[error(
        "not permitted to listen at {0} (`[api] metrics`): run as root, or choose a port of 1024 or higher"
    )]
    NotPermitted(SocketAddr),
    /// The system says no.
    #[error("cannot listen at {0} (`[api] metrics`): {1}")]
    Listen(SocketAddr, io::Error),
}

/// Most connections at a time. When one more comes, one that has not asked yet goes, else the oldest.
const MAX_CONNECTIONS: usize = 16;
/// Most that are accepted before those that are there have their turn.
const ACCEPTED_AT_ONCE: usize = 4;
/// How old an answer may be.
const FRESH: Duration = Duration::from_millis(100);

/// What became of connections that got no metrics.
#[derive(Debug, Default)]
pub struct Scrapes {
    refused: AtomicU64,
    closed: AtomicU64,
}

impl Scrapes {
    /// Requests that were no GET or HEAD of the metrics.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections that were too slow, or closed for another one.
    pub fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }
}

/// The listening socket and its thread. Dropping it closes both.
#[derive(Debug)]
pub struct Server {
    _thread: Threads,
}

impl Server {
    /// Listens at `address`.
    ///
    /// # Errors
    /// The address is taken, or the system refuses.
    pub fn start(
        address: SocketAddr,
        calls: Sender<Call>,
        scrapes: Arc<Scrapes>,
    ) -> Result<Self, MetricsError> {
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::AddrInUse => MetricsError::InUse(address),
            ErrorKind::AddrNotAvailable => MetricsError::NoSuchAddress(address),
            ErrorKind::PermissionDenied => MetricsError::NotPermitted(address),
            _ => MetricsError::Listen(address, error),
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let wake = Arc::new(Wake::new().map_err(failed)?);
        let log = RateLimit::new(Instant::now());
        let service = Service {
            listener,
            wake: Arc::clone(&wake),
            connections: Vec::new(),
            source: Source { calls, last: None },
            scrapes,
            log,
        };
        let mut thread = Threads::default();
        thread.spawn("metrics", wake, move || service.run()).map_err(failed)?;
        Ok(Self { _thread: thread })
    }
}

/// Where responses come from.
struct Source {
    calls: Sender<Call>,
    /// The last response, with when it was made, and how long its text is.
    last: Option<(Instant, Arc<Vec<u8>>, usize)>,
}

impl Source {
    fn respond(&mut self, answer: Answer, scrapes: &Scrapes) -> Arc<Vec<u8>> {
        let head = match answer {
            Answer::Metrics { head } => head,
            Answer::Refusal(refusal) => {
                scrapes.refused.fetch_add(1, Ordering::Relaxed);
                return Arc::new(http::refusal(refusal));
            }
        };
        if self.last.as_ref().is_none_or(|(made, ..)| made.elapsed() >= FRESH) {
            match super::gather(&self.calls) {
                Ok(snapshot) => {
                    let text = super::render(&snapshot);
                    self.last = Some((Instant::now(), Arc::new(http::metrics(&text)), text.len()));
                }
                Err(_) => self.last = None,
            }
        }
        match &self.last {
            Some((_, _, length)) if head => Arc::new(http::metrics_head(*length)),
            Some((_, whole, _)) => Arc::clone(whole),
            None => Arc::new(http::refusal(Refusal::Unavailable)),
        }
    }
}

/// What the thread owns.
struct Service {
    listener: TcpListener,
    wake: Arc<Wake>,
    /// The oldest first.
    connections: Vec<Connection>,
    source: Source,
    scrapes: Arc<Scrapes>,
    log: RateLimit,
}

impl Service {
    /// Until told to stop.
    fn run(mut self) {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "the metrics are not to be had over HTTP any more");
                    return;
                }
            };
            if self.wake.stopping() {
                return;
            }
            self.go_on(&ready);
            if ready.first() == Some(&true) {
                self.accept();
            }
        }
    }

    /// Waits until something can be done, or a connection's time is over. The listener comes first.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        fds.extend(self.connections.iter().map(|c| PollFd::from_borrowed_fd(c.as_fd(), c.awaits())));
        let timeout = self.connections.iter().map(Connection::deadline).min().map(|deadline| {
            // Not a moment too early, or it would be in vain.
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect())
    }

    /// Serves the connections that something came from, and ends those whose time is over.
    fn go_on(&mut self, ready: &[bool]) {
        let (source, scrapes) = (&mut self.source, &self.scrapes);
        let mut ready = ready.iter().skip(1);
        let mut late = 0;
        self.connections.retain_mut(|connection| {
            let now = Instant::now();
            if ready.next() == Some(&true) {
                return connection.go_on(now, |answer| source.respond(answer, scrapes)) == Next::Wait;
            }
            let in_time = now < connection.deadline();
            late += u64::from(!in_time && !connection.is_served());
            in_time
        });
        self.closed(late, "too slow");
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTED_AT_ONCE {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock && error.kind() != ErrorKind::ConnectionAborted {
                        // No descriptor is free, or no memory.
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    return;
                }
            };
            let now = Instant::now();
            let Ok(mut connection) = Connection::new(stream, now) else { continue };
            // Most have asked already.
            let (source, scrapes) = (&mut self.source, &self.scrapes);
            if connection.go_on(now, |answer| source.respond(answer, scrapes)) == Next::End {
                continue;
            }
            if self.connections.len() >= MAX_CONNECTIONS {
                let idle = self.connections.iter().position(Connection::is_asking);
                self.connections.remove(idle.unwrap_or(0));
                self.closed(1, "closed for others: there were too many");
            }
            self.connections.push(connection);
        }
    }

    /// Counts and tells that connections were closed.
    fn closed(&mut self, count: u64, why: &str) {
        if count == 0 {
            return;
        }
        self.scrapes.closed.fetch_add(count, Ordering::Relaxed);
        if let Some(suppressed) = self.log.pass(Instant::now()) {
            tracing::warn!(count, suppressed, "connections for metrics were {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use crossbeam::channel::bounded;

    use super::*;
    use crate::api::view::Interface;
    use crate::metrics::Snapshot;

    const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    /// Sub-interfaces of the stand-in for the control thread, and how many it tells at a time.
    const INTERFACES: usize = 4000;
    const PAGE: usize = 256;

    /// A server at a free port, with a stand-in for the control thread.
    fn start() -> (Server, SocketAddr, Arc<Scrapes>) {
        let (calls, received) = bounded::<Call>(4);
        std::thread::spawn(move || {
            for call in received {
                match call {
                    Call::Metrics { reply } => drop(reply.send(Box::new(Snapshot::default()))),
                    Call::Interfaces { from, reply } => {
                        let name = |i: usize| Interface { name: format!("vlan{i}"), ..Interface::default() };
                        drop(reply.send((from..INTERFACES.min(from + PAGE)).map(name).collect()));
                    }
                    _ => {}
                }
            }
        });
        let scrapes = Arc::new(Scrapes::default());
        loop {
            let probe = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = probe.local_addr().unwrap();
            drop(probe);
            // Another test may be faster.
            match Server::start(address, calls.clone(), Arc::clone(&scrapes)) {
                Ok(server) => return (server, address, scrapes),
                Err(error) => assert!(matches!(error, MetricsError::InUse(_)), "{error}"),
            }
        }
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = connect(address);
        // It may be refused before all of it went.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn all_sub_interfaces_are_told() {
        let (_server, address, _) = start();
        let answer = ask(address, GET);
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", text.len())), "{head}");
        let lines = text.lines().filter(|line| line.starts_with("turnpike_interface_sent_packets_total{"));
        assert_eq!(lines.count(), INTERFACES);
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn wrong_requests_are_refused_and_counted() {
        let (_server, address, scrapes) = start();
        let long = [b"GET /metrics HTTP/1.1\r\nHost: ", &vec![b'a'; 100_000][..]].concat();
        let requests: [(&[u8], &str); 4] = [
            (b"nonsense\r\n\r\n", "400"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
            (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "405"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
        ];
        for (i, (request, status)) in requests.iter().enumerate() {
            let answer = ask(address, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert_eq!(scrapes.refused(), i as u64 + 1);
        }
        // What is far too long is refused too, but its sender may lose the answer.
        ask(address, &long);
        assert_eq!(scrapes.refused(), 5);
        let pipelined = ask(address, &GET.repeat(100));
        assert_eq!(pipelined.matches("HTTP/1.1 200").count(), 1, "one request for each connection");
        assert!(ask(address, GET).starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn those_who_say_nothing_keep_nobody_out() {
        let (_server, address, scrapes) = start();
        let crowd: Vec<_> = (0..100)
            .map(|i| {
                let mut stream = connect(address);
                stream.write_all(&GET[..i % GET.len()]).unwrap();
                stream
            })
            .collect();
        for _ in 0..5 {
            assert!(ask(address, GET).starts_with("HTTP/1.1 200"));
        }
        assert!(scrapes.closed() >= 100 - MAX_CONNECTIONS as u64, "{}", scrapes.closed());
        drop(crowd);
    }

    #[test]
    fn those_who_do_not_read_keep_nobody_out() {
        let (_server, address, _) = start();
        let ask_only = |_| {
            let mut stream = connect(address);
            stream.write_all(GET).unwrap();
            stream
        };
        let crowd: Vec<_> = (0..40).map(ask_only).collect();
        for _ in 0..5 {
            assert!(ask(address, GET).starts_with("HTTP/1.1 200"));
        }
        drop(crowd);
    }

    #[test]
    fn an_address_that_cannot_be_is_told_with_the_way_out() {
        let (_server, address, scrapes) = start();
        let (calls, _received) = bounded(1);
        let start = |address: &str| {
            let started = Server::start(address.parse().unwrap(), calls.clone(), Arc::clone(&scrapes));
            started.unwrap_err().to_string()
        };
        let taken = start(&address.to_string());
        assert!(taken.contains(&address.to_string()) && taken.contains("another program"), "{taken}");
        let strange = start("203.0.113.77:9477");
        assert!(strange.contains("`[api] metrics`) is no address of this machine"), "{strange}");
    }

    #[test]
    fn without_an_answer_from_control_there_is_an_error() {
        let (calls, received) = bounded::<Call>(1);
        drop(received);
        let mut source = Source { calls, last: None };
        let response = source.respond(Answer::Metrics { head: false }, &Scrapes::default());
        assert!(response.starts_with(b"HTTP/1.1 503 "));
    }
}
