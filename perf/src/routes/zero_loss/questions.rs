//! Those who ask while a trial is under way: ten times a second each, as people and monitoring do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::routes::ours;

/// Where the metrics are, in turnpike's namespace.
pub const METRICS: &str = "127.0.0.1:9477";
/// How often each is asked.
const EVERY: Duration = Duration::from_millis(100);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many answers there were.
#[derive(Debug, Default)]
pub struct Answers {
    questions: AtomicU64,
    scrapes: AtomicU64,
}

impl Answers {
    /// Questions to the API that were answered.
    pub fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }

    /// Times that the metrics were read, whole.
    pub fn scrapes(&self) -> u64 {
        self.scrapes.load(Ordering::Relaxed)
    }
}

/// Asks for routes, drops and a summary over the API's socket, and for the metrics over HTTP, until it is done: each at
/// its own pace, so that a slow answer to one does not keep the others from being asked.
pub fn ask(socket: &Path, done: &AtomicBool, answers: &Answers) {
    std::thread::scope(|scope| {
        for question in [r#"{"show":"routes"}"#, r#"{"show":"drops"}"#, r#"{"show":"summary"}"#] {
            scope.spawn(move || repeat(done, &answers.questions, || ours::ask(socket, question).is_ok()));
        }
        let scraped = || scrape().is_ok_and(|text| text.contains("\nturnpike_fib_routes{"));
        repeat(done, &answers.scrapes, scraped);
    });
}

/// Asks ten times a second, and counts the answers.
fn repeat(done: &AtomicBool, answered: &AtomicU64, ask: impl Fn() -> bool) {
    while !done.load(Ordering::Acquire) {
        let next = Instant::now() + EVERY;
        answered.fetch_add(u64::from(ask()), Ordering::Relaxed);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Reads the metrics as Prometheus does.
fn scrape() -> std::io::Result<String> {
    let mut stream = TcpStream::connect(METRICS)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {METRICS}\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
