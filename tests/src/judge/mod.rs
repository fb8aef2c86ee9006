//! The differential suite: the same frames through the Linux kernel's router and through turnpike, with the same
//! sub-interfaces, neighbours and routes. What comes out, ICMP errors included, must be the same byte for byte, but for
//! the short list in [`intended`].
//!
//! | variable | meaning |
//! |---|---|
//! | `JUDGE_FRAMES` | how many frames; 100,000 unless told otherwise |
//! | `JUDGE_SEED` | the seed; the same each time unless told otherwise, a new one with `random` |
//! | `JUDGE_FIRST` | the number of the first frame, to replay one that failed |

pub mod even;
pub mod generate;
pub mod intended;
pub mod linux;
pub mod ours;
pub mod plan;
pub mod random;
pub mod received;
pub mod tally;

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::counters::{self, Counters};
use crate::lab::Lab;
use crate::suite::{Fixture, Step};
use crate::wait;
use even::even;
use generate::Input;
use intended::Wanted;
use linux::{Linux, Sent};
use ours::Ours;
use received::Received;
use tally::Tally;

/// Frames unless told otherwise.
const FRAMES: u64 = 100_000;
/// The seed unless told otherwise.
const SEED: u64 = 7_112_026;
/// Frames that turnpike gets at once: few enough for all queues on their way.
const BATCH: u64 = 128;
/// Differences that are shown.
const SHOWN: u64 = 5;

/// Both routers, side by side.
#[derive(Debug)]
pub struct Court {
    linux: Option<Linux>,
    ours: Option<Ours>,
    lab: Lab,
}

impl Court {
    /// Neither of them yet.
    #[track_caller]
    pub fn new() -> Self {
        Self { linux: None, ours: None, lab: Lab::new() }
    }

    /// Starts both.
    #[track_caller]
    pub fn start(&mut self) {
        self.linux = Some(Linux::new(&self.lab));
        self.ours = Some(Ours::start(&self.lab));
    }
}

impl Default for Court {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture for Court {
    fn diagnose(&mut self) -> String {
        let Some(ours) = &mut self.ours else { return String::new() };
        let drops = ours.router.try_show("drops").map_or_else(|| "no answer".to_owned(), |v| v.to_string());
        format!("-- turnpike show drops: {drops}\n-- turnpike:\n{}\n", ours.router.daemon().log_tail(30))
    }
}

/// All steps.
pub const STEPS: &[Step<Court>] = &[("both_routers_do_the_same", both_routers_do_the_same)];

/// What a router made of a frame: each frame that came out, evened out, with how often it did.
type Result = BTreeMap<(usize, Vec<u8>), usize>;

fn both_routers_do_the_same(court: &mut Court) {
    let Court { linux: Some(linux), ours: Some(ours), .. } = court else { panic!("both have been started") };
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
    };
    let seed = if std::env::var("JUDGE_SEED").is_ok_and(|seed| seed == "random") {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        now % 1_000_000_000
    } else {
        number("JUDGE_SEED").unwrap_or(SEED)
    };
    let (first, count) = (number("JUDGE_FIRST").unwrap_or(0), number("JUDGE_FRAMES").unwrap_or(FRAMES));
    println!("    JUDGE_SEED={seed} JUDGE_FIRST={first} JUDGE_FRAMES={count}");
    let pool = counters::pool(&ours.router);
    let before = Counters::settled(&ours.router);
    let start = Instant::now();
    let (mut different, mut tally) = (0, Tally::default());
    let mut at = first;
    while at < first + count {
        wait::check_interrupt();
        let end = (at / BATCH * BATCH + BATCH).min(first + count);
        let port = (at / BATCH % 2) as usize;
        let inputs: Vec<Input> = (at..end).map(|n| generate::frame(seed, n, port)).collect();
        let wanted: Vec<Result> = inputs.iter().map(|input| expected(linux, input, &mut tally)).collect();
        let frames: Vec<_> = inputs.iter().map(|i| i.frame.clone()).collect();
        if evened(ours.forward(port, &frames)) != merge(wanted.iter().cloned()) {
            // One by one, to find out which.
            let before = different;
            for ((input, want), number) in inputs.iter().zip(&wanted).zip(at..) {
                let got = evened(ours.forward(port, std::slice::from_ref(&input.frame)));
                if got != *want {
                    different += 1;
                    println!("{}", describe(seed, number, input, want, &got));
                    assert!(
                        different < SHOWN,
                        "{different} frames and maybe more end differently, see above"
                    );
                }
            }
            if different == before {
                println!("    frames {at} to {end}: different together, the same one by one");
                different += 1;
            }
        }
        at = end;
    }
    tally.print();
    println!("    {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(different, 0, "frames that end differently, see above");
    tally.assert_complete();
    counters::assert_pool_refills(&ours.router, pool);
    let counted = Counters::settled(&ours.router);
    let received: u64 = ["a", "b"].iter().map(|port| counted.since(&before, port).received).sum();
    assert!(received >= count, "turnpike received {received} of {count} frames");
    ours.router.daemon().assert_alive();
}

/// What turnpike must send for a frame, evened out.
fn expected(linux: &Linux, input: &Input, tally: &mut Tally) -> Result {
    tally.frame(input);
    let mut all = Result::new();
    let Some(received) = Received::of(input) else { return all };
    let Wanted { sent, differences, linux_did } = intended::wanted(linux, &received);
    tally.end(linux_did, &differences);
    for sent in sent {
        // The router's own packets have the lowest priority; others keep theirs.
        let priority = if intended::is_own(&received, &sent) { 0 } else { linux::priority(&input.frame) };
        let own = linux::is_own(&sent);
        let evened = Sent { place: sent.place, frame: even(sent.frame, own) };
        let frame = linux::tag(&evened, priority);
        *all.entry((sent.place.port, frame)).or_default() += 1;
    }
    all
}

/// What turnpike sent, evened out.
fn evened(frames: Vec<(usize, Vec<u8>)>) -> Result {
    let mut all = Result::new();
    for (port, frame) in frames {
        let frame = match linux::untag(port, &frame) {
            None => frame,
            Some((place, untagged)) => {
                let tags = frame[12..12 + frame.len() - untagged.len()].to_vec();
                let sent = Sent { place, frame: untagged };
                let own = linux::is_own(&sent);
                let mut evened = even(sent.frame, own);
                evened.splice(12..12, tags);
                evened
            }
        };
        *all.entry((port, frame)).or_default() += 1;
    }
    all
}

fn merge(parts: impl Iterator<Item = Result>) -> Result {
    let mut all = Result::new();
    for (key, count) in parts.flatten() {
        *all.entry(key).or_default() += count;
    }
    all
}

fn describe(seed: u64, number: u64, input: &Input, want: &Result, got: &Result) -> String {
    let hex = |bytes: &[u8]| {
        let text = bytes.iter().take(200).map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
        format!("{} bytes: {text}{}", bytes.len(), if bytes.len() > 200 { "..." } else { "" })
    };
    let mut text = format!(
        "different: frame {number} for port {}: {}\n  again: JUDGE_SEED={seed} JUDGE_FIRST={number} JUDGE_FRAMES=1\n",
        input.port,
        hex(&input.frame)
    );
    for (who, sent, other) in [("Linux   ", want, got), ("turnpike", got, want)] {
        let only: Vec<_> = sent.iter().filter(|(key, count)| other.get(*key) != Some(*count)).collect();
        text +=
            &format!("  {who} sent {} frames, {} of them alone\n", sent.values().sum::<usize>(), only.len());
        for ((port, frame), _) in only.iter().take(3) {
            text += &format!("    port {port}, {}\n", hex(frame));
        }
    }
    text
}
