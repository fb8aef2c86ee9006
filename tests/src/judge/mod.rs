//! The differential suite: the same frames through the Linux kernel's router and through turnpike, with the same
//! sub-interfaces, neighbours and routes. What comes out, ICMP errors included, must be the same byte for byte, but for
//! the short list in [`compare`].
//!
//! | variable | meaning |
//! |---|---|
//! | `JUDGE_FRAMES` | how many frames; 100,000 unless told otherwise |
//! | `JUDGE_SEED` | the seed; a new one each time unless told otherwise |
//! | `JUDGE_FIRST` | the number of the first frame, to replay one that failed |

pub mod compare;
pub mod generate;
pub mod linux;
pub mod ours;
pub mod plan;
pub mod random;

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::counters::{self, Counters};
use crate::lab::Lab;
use crate::suite::{Fixture, Step};
use crate::wait;
use generate::Input;
use linux::{Linux, Sent};
use ours::Ours;

/// Frames unless told otherwise.
const FRAMES: u64 = 100_000;
/// Frames that turnpike gets at once: few enough for all queues on their way.
const BATCH: u64 = 128;
/// Differences that are shown.
const SHOWN: usize = 5;

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
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let seed: u64 = number("JUDGE_SEED").unwrap_or(now % 1_000_000_000);
    let (first, count) = (number("JUDGE_FIRST").unwrap_or(0), number("JUDGE_FRAMES").unwrap_or(FRAMES));
    println!("    JUDGE_SEED={seed} JUDGE_FIRST={first} JUDGE_FRAMES={count}");
    let pool = counters::pool(&ours.router);
    let before = Counters::settled(&ours.router);
    let start = Instant::now();
    let (mut different, mut shown) = (0, 0);
    let (mut forwarded, mut errors, mut nothing) = (0_u64, 0_u64, 0_u64);
    let mut at = first;
    while at < first + count {
        wait::check_interrupt();
        let end = (at / BATCH * BATCH + BATCH).min(first + count);
        let port = (at / BATCH % 2) as usize;
        let inputs: Vec<Input> = (at..end).map(|n| generate::frame(seed, n, port)).collect();
        let sent: Vec<Vec<Sent>> = inputs.iter().map(|i| linux.forward(port, &i.frame)).collect();
        for sent in &sent {
            match sent.first() {
                None => nothing += 1,
                Some(sent) if linux::is_own(sent) => errors += 1,
                Some(_) => forwarded += 1,
            }
        }
        let frames: Vec<_> = inputs.iter().map(|i| i.frame.clone()).collect();
        let want = merge(inputs.iter().zip(&sent).map(|(input, sent)| expected(input, sent)));
        if evened(ours.forward(port, &frames)) != want {
            // One by one, to find out which.
            let mut explained = false;
            for ((input, sent), number) in inputs.iter().zip(&sent).zip(at..) {
                let got = evened(ours.forward(port, std::slice::from_ref(&input.frame)));
                let want = expected(input, sent);
                explained |= got != want && is_excused(input, &want, &got);
                if got != want && !is_excused(input, &want, &got) {
                    different += 1;
                    if shown < SHOWN {
                        shown += 1;
                        println!("{}", describe(seed, number, input, &want, &got));
                    }
                }
            }
            assert!(shown < SHOWN, "{different} frames and more end differently, see above");
            if different == 0 && !explained {
                println!("    frames {at} to {end}: different together, the same one by one");
                different += 1;
            }
        }
        at = end;
    }
    println!(
        "    Linux forwarded {forwarded}, answered {errors} with errors and dropped {nothing}; {:.1} s",
        start.elapsed().as_secs_f64()
    );
    assert_eq!(different, 0, "frames that end differently, see above");
    let (forwarded, errors, nothing) = (forwarded * 20 / count, errors * 20 / count, nothing * 20 / count);
    assert!(count < 1000 || forwarded.min(errors).min(nothing) > 0, "each sort makes up a twentieth");
    counters::assert_pool_refills(&ours.router, pool);
    let counted = Counters::settled(&ours.router);
    let received: u64 = ["a", "b"].iter().map(|port| counted.since(&before, port).received).sum();
    assert!(received >= count, "turnpike received {received} of {count} frames");
    ours.router.daemon().assert_alive();
}

/// Whether the two may differ in this frame: see [`compare`].
fn is_excused(input: &Input, want: &Result, got: &Result) -> bool {
    let is_own = |(port, frame): &(usize, Vec<u8>)| {
        linux::untag(*port, frame).is_some_and(|(place, frame)| linux::is_own(&Sent { place, frame }))
    };
    let no_echo = want.is_empty() && compare::may_lack_echo(&input.frame);
    let routed = (want.len(), got.len()) == (1, 1) && compare::has_source_route(&input.frame);
    let broadcast = got.is_empty() && compare::is_group(&input.frame);
    (no_echo || (routed || broadcast) && want.keys().all(is_own)) && got.keys().all(is_own)
}

/// What turnpike must send for a frame, by what Linux sent.
fn expected(input: &Input, sent: &[Sent]) -> Result {
    let received = linux::priority(&input.frame);
    let mut all = Result::new();
    for sent in sent {
        let own = linux::is_own(sent);
        let untagged = compare::even(sent.frame.clone(), own);
        let evened = Sent { place: sent.place, frame: untagged };
        let frame = linux::tag(&evened, if own { 0 } else { received });
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
                let mut evened = compare::even(sent.frame, own);
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
