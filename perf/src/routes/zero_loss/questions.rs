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

/// Asks for routes, drops and a summary over the API's socket, and for the metrics over HTTP, until it is done.
pub fn ask(socket: &Path, done: &AtomicBool, answers: &Answers) {
    let all = [r#"{"show":"routes"}"#, r#"{"show":"drops"}"#, r#"{"show":"summary"}"#];
    while !done.load(Ordering::Acquire) {
        let next = Instant::now() + EVERY;
        for question in all {
            if ours::ask(socket, question).is_ok() {
                answers.questions.fetch_add(1, Ordering::Relaxed);
            }
        }
        if scrape().is_ok_and(|text| text.contains("\nturnpike_fib_routes{")) {
            answers.scrapes.fetch_add(1, Ordering::Relaxed);
        }
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
