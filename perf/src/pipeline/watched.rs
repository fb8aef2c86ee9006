//! `perf pipeline --watched`: what a trace or a capture costs a worker while it runs. The sessions are as `turnpike trace`
//! and `turnpike capture` make them; what they record is taken on another core and thrown away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dataplane::ids::PortId;
use dataplane::watch::{Op, Place, Program, Session, Term, Watch, What};

use super::case::Case;
use super::peer::Ours;
use super::report::{Report, Series};
use super::{Args, write_captures};

/// What runs beside the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Nothing: what the others are held against.
    Off,
    /// A capture whose filter nothing matches.
    NoMatch,
    /// A capture of dropped frames only, where none is dropped.
    Dropped,
    /// A capture of the first 128 bytes of all that is received.
    Headers,
    /// A capture of all that is received and sent, as it is without options.
    All,
    /// A trace without a filter.
    Trace,
}

const NONE: &str = "no session";
/// Bytes of a frame that a capture without `--snaplen` has room for: an Ethernet port's and two tags.
const WHOLE: usize = 1522;

impl Watched {
    pub const ALL: [Self; 6] =
        [Self::Off, Self::NoMatch, Self::Dropped, Self::Headers, Self::All, Self::Trace];

    fn title(self) -> &'static str {
        match self {
            Self::Off => NONE,
            Self::NoMatch => "capture, nothing matches",
            Self::Dropped => "capture --direction drop, nothing is dropped",
            Self::Headers => "capture --direction in --snaplen 128, all matches",
            Self::All => "capture, all matches",
            Self::Trace => "trace, all matches",
        }
    }

    /// Its session for so many workers; none if nothing runs.
    pub fn session(self, workers: usize) -> Result<Option<Arc<Session>>, String> {
        let capture = |received, sent, dropped| What::Capture { received, sent, dropped };
        // No frame of any case has this tag.
        let none: &[Op] = &[Op::Ask(Term::Outer(4000))];
        let (what, ops, records, snaplen) = match self {
            Self::Off => return Ok(None),
            Self::NoMatch => (capture(true, true, true), none, 9436, WHOLE),
            Self::Dropped => (capture(false, false, true), &[][..], 9436, WHOLE),
            Self::Headers => (capture(true, false, false), &[][..], 16 * 1024, 128),
            Self::All => (capture(true, true, true), &[][..], 9436, WHOLE),
            Self::Trace => (What::Trace, &[][..], 4096, 192),
        };
        let program = Program::new(ops).map_err(|error| error.to_string())?;
        let session = Session::new(what, Place::Anywhere, program, workers, 2, records, snaplen);
        Ok(Some(Arc::new(session)))
    }
}

/// The sessions of a snapshot.
pub fn watch(session: Option<&Arc<Session>>) -> Option<Arc<Watch>> {
    session.map(|session| Arc::new(Watch::new(vec![Arc::clone(session)])))
}

/// Takes what workers record until `stop`.
pub fn drain(session: &Session, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let taken: usize = (0..session.workers()).map(|worker| session.drain(worker, 1024, |_| {})).sum();
        if taken == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Frames that matched, and those of them that were missed.
pub fn counts(session: &Session) -> [u64; 2] {
    let ports = [0, 1].map(|port| session.counts(PortId(port)));
    [ports.iter().map(|counts| counts.matched).sum(), ports.iter().map(|counts| counts.missed).sum()]
}

/// All of them, in turns, in each case that was asked for; in `tagged` if none was.
pub fn run(args: &Args, stop: &AtomicBool) -> Result<(), String> {
    let temporary =
        tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let folder = args.captures.as_deref().unwrap_or(temporary.path());
    let cases = if args.case.is_empty() { vec![Case::Tagged] } else { args.case.clone() };
    let report = Report::new(args.json, NONE);
    for case in cases {
        write_captures(args, case, folder)?;
        let mut ours = Ours::start(args, case, folder, &[args.core], false)?;
        let mut rows = Watched::ALL.map(|watched| (watched, Series::default(), Series::default(), 0.0));
        for _ in 0..args.rounds {
            for (watched, mpps, cycles, missed) in &mut rows {
                let figures = ours.measure_watched(args, *watched)?;
                mpps.push(figures.mpps);
                cycles.push(figures.cycles.unwrap_or_default());
                *missed = figures.missed.unwrap_or_default();
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        let [(_, off, ..), ..] = &rows;
        for (watched, mpps, cycles, missed) in &rows {
            let title = match watched {
                Watched::Off => format!("{}: {}", case.name(), watched.title()),
                _ => format!("{}: {}, {:.0}% missed", case.name(), watched.title(), missed * 100.0),
            };
            report.against(&title, mpps, cycles, NONE, off);
        }
    }
    Ok(())
}
