//! Zero loss: a full table comes, changes its next hop and goes, and the API and the metrics are asked all the time, while
//! workers forward at 80 % of their no-loss rate. Every frame has a sequence number, and none may be lost, come twice or out
//! of order, or go to a next hop that was right neither before nor after. The no-loss rate is found on the same rig, with an
//! idle table and the same questions. Then the same trial again, with the full table and no change: what is lost there is
//! not lost by changes.
//!
//! One worker has a core of its own. The generator has another, and shares it with the rest of turnpike, the sender and
//! whoever asks. Of two workers on two cores one shares its core with the generator, and the other with all the rest; so
//! they sleep when they are idle, and go before all others when something has come. While the generator is off its core it
//! sends nothing, which is told as frames not sent; the ports' queues hold what is under way meanwhile. A frame that the
//! generator's port refused found its ring full: the worker was away for longer than the ring holds.

mod driver;
mod questions;
mod trial;
mod watch;

use std::time::{Duration, Instant};

use super::feed::{Feed, Prefix};
use super::lab::{Lab, Stop};
use super::ours::{Turnpike, bgp_section};
use super::report::Report;
use super::rig::{self, Cables, Cores, Rig, neighbour_mac};
use super::rounds::Rounds;
use super::speaker::Speaker;
use super::subject::Subject as _;
use super::{Args, SENDER};
use crate::traffic::Flow;
use questions::METRICS;
use trial::{Bench, Plan};
use watch::STAGES;

const FLOWS: usize = 1000;
/// The neighbour on the LAN.
const HOST: u8 = 9;

fn configuration(cables: &Cables, cores: &[usize]) -> String {
    let mut text =
        cables.ports(&[("lan", r#""192.0.2.1/24""#), ("wan", r#""198.51.100.1/24", "2001:db8:ffff::1/64""#)]);
    let gateways = [("198.51.100.4", 0), ("198.51.100.2", 1), ("198.51.100.3", 2), ("2001:db8:ffff::2", 1)];
    for (address, number) in gateways {
        text += &rig::neighbour("wan", address, neighbour_mac(number));
    }
    text += &rig::neighbour("lan", "192.0.2.10", neighbour_mac(HOST));
    let idle = if cores.len() > 1 { "sleep" } else { "poll" };
    text += &format!(
        "[[route]]\nprefix = \"0.0.0.0/0\"\nvia = \"{}\"\n[workers]\ncores = {cores:?}\nidle = \"{idle}\"\n\
         [kernel]\ntaps = false\n[memory]\nbuffers = {}\n[api]\nsocket = \"{}\"\nmetrics = \"{METRICS}\"\n{}",
        gateways[0].0,
        131_072 * cores.len(),
        cables.lab.path("turnpike.sock").display(),
        bgp_section(None, &[SENDER]),
    );
    text
}

/// Flows to prefixes all over the table; with two workers the same ones back too, which are the second worker's.
fn flows(feed: &Feed, workers: usize) -> Vec<Flow> {
    let v4: Vec<Prefix> = feed.prefixes.iter().copied().filter(|p| matches!(p, Prefix::V4(..))).collect();
    let step = (v4.len() / FLOWS).max(1);
    let spread = v4.iter().step_by(step).take(FLOWS).enumerate();
    let mut flows: Vec<Flow> = spread.map(|(i, prefix)| rig::flow(i, *prefix, 1 << 1)).collect();
    if workers > 1 {
        let back: Vec<Flow> = flows.iter().map(rig::back).collect();
        flows.extend(back);
    }
    flows
}

/// Runs the case.
pub fn run(args: &Args, feed: &Feed, report: &mut Report, stop: &Stop) -> Result<(), String> {
    let other = usize::from(args.core == 0);
    let cores = &[args.core, other][..usize::from(args.workers)];
    let places = Cores { generator: if cores.len() > 1 { args.core } else { other }, rest: other };
    eprintln!(
        "perf: zero loss: workers on cores {cores:?}; the generator on core {}; control, sender and questions on core \
         {other}",
        places.generator
    );
    crate::lpm::pin(other);
    let lab = Lab::new(900)?;
    let cables = Cables { lab: &lab, ring: 14, workers: cores.len() };
    let station = cables.open(2).map_err(|error| error.to_string())?;
    let mut turnpike = Turnpike::start_with(&lab, &configuration(&cables, cores), Some(other), stop)?;
    let flows = flows(feed, cores.len());
    let watched = flows.len() / cores.len();
    let rig = Rig::new(station, flows, 0b11, Duration::from_millis(500), places)?;
    let _favour = rig.connect(&mut turnpike, stop)?;
    let speaker = Speaker::connect(&lab.sender, turnpike.address(), SENDER, stop)?;
    let patience = Duration::from_secs(args.patience);
    let mut bench = Bench { turnpike, speaker, rig, feed, lab: &lab, stop, patience, watched };
    let rate = bench.no_loss_rate()?;
    eprintln!("perf:   no loss at {rate:.0} frames/s from a port; the trials have 80% of it");
    let routes = feed.prefixes.len();
    let changing = bench.trial(0.8 * rate, Plan::Change)?;
    report.row(&changing.row("zero-loss", routes, rate))?;
    bench.speaker.send(&feed.announce)?;
    let deadline = Instant::now() + patience;
    while bench.turnpike.count(&lab, routes)? < routes && Instant::now() < deadline {
        stop.sleep(Duration::from_millis(20))?;
    }
    let idle = bench.trial(0.8 * rate, Plan::Rest(Duration::from_secs_f64(changing.outcome.seconds)))?;
    report.row(&idle.row("zero-loss-idle", routes, rate))?;
    report.text(&Rounds::table(&[("without changes", &idle.rounds), ("with them", &changing.rounds)]));
    if changing.scrapes == 0 || changing.questions == 0 {
        return Err("zero loss: nobody was answered meanwhile: the trial does not count".into());
    }
    if !changing.is_clean() {
        return Err("zero loss: the trial was not clean; see its row".into());
    }
    let moved = changing.flows.iter().filter(|stage| usize::from(**stage) == STAGES.len() - 1).count();
    if moved < watched {
        return Err(format!(
            "zero loss: only {moved} of {watched} flows went all the way from next hop to next hop"
        ));
    }
    Ok(())
}
