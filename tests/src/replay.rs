//! Frames from a capture file through DPDK's `net_pcap`: the only way in for frames shorter than an Ethernet header,
//! which no packet socket sends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;

use crate::counters::{self, Counters, Port};
use crate::frame::{self, Tag};
use crate::lab::{Lab, Netns};
use crate::pcap;
use crate::router::Router;
use crate::settings;
use crate::suite::{Fixture, SOON, Step};
use crate::wait;

/// A namespace in which each step runs a turnpike of its own.
#[derive(Debug)]
pub struct Replay {
    netns: Netns,
    lab: Lab,
}

impl Replay {
    /// Makes it.
    #[track_caller]
    pub fn new() -> Self {
        let lab = Lab::new();
        let netns = lab.netns("R");
        Self { netns, lab }
    }

    /// Runs turnpike on these frames, on a port with an untagged, a tagged and a double-tagged sub-interface; returns
    /// what it counted and what it sent, once it has ended cleanly with all its buffers free.
    #[track_caller]
    fn run(&self, frames: &[Vec<u8>]) -> (Port, Vec<Vec<u8>>) {
        let (counted, mut sent, _) = self.run_on(1, frames);
        (counted, sent.remove(0))
    }

    /// The same on so many workers, of which only the first has an RX queue; returns also what `turnpike show workers`
    /// says. What each worker sent is apart.
    #[track_caller]
    fn run_on(&self, workers: usize, frames: &[Vec<u8>]) -> (Port, Vec<Vec<Vec<u8>>>, Value) {
        let rx = self.lab.path("rx.pcap");
        let tx: Vec<_> = (0..workers).map(|n| self.lab.path(&format!("tx{n}.pcap"))).collect();
        let socket: PathBuf = self.lab.path("turnpike.sock");
        pcap::write(&rx, frames.iter().map(|f| (0, f.as_slice()))).expect("a capture file");
        let mut config =
            format!("[[port]]\nname = \"p\"\nqueues = 1\ndevice = \"net_pcap0,rx_pcap={}", rx.display());
        for tx in &tx {
            config += &format!(",tx_pcap={}", tx.display());
        }
        config += "\"\n\n[kernel]\ntaps = false\n\n";
        for (n, keys) in ["", "vlan = 30\n", "s_tag = 100\nc_tag = 10\n"].iter().enumerate() {
            config += &format!(
                "[[interface]]\nname = \"i{n}\"\nport = \"p\"\n{keys}addresses = [\"10.0.{n}.1/24\", \"fd00:{n}::1/64\"]\n\n\
                 [[neighbour]]\ninterface = \"i{n}\"\naddress = \"10.0.{n}.2\"\nmac = \"02:00:00:00:00:0{n}\"\n\n"
            );
        }
        let mut common = settings::common(&socket);
        if workers > 1 {
            let cores: Vec<_> = (0..workers).map(|core| core.to_string()).collect();
            let several = format!("[workers]\ncores = [{}]\nhand_over = true", cores.join(", "));
            common = common.replace("[workers]", &several);
        }
        config += &common;
        let mut router = Router::start(&self.lab, &self.netns, &config, &socket);
        let received = || Counters::read(&router).0["p"].received;
        wait::until_true(SOON, "all frames of the file", || received() >= frames.len() as u64);
        let counted = Counters::settled(&router).0["p"].clone();
        assert_eq!(counted.received, frames.len() as u64, "{counted:?}");
        let (size, _) = counters::pool(&router);
        counters::assert_pool_refills(&router, (size, size));
        let full = counted.drops.get("hand_over_full").copied().unwrap_or(0);
        let by_worker = wait::until(SOON, "the workers' counts", || {
            let workers = router.show("workers")["workers"].take();
            let seen = workers.as_array()?.iter().filter_map(|worker| worker["packets"].as_u64());
            (seen.sum::<u64>() + full >= counted.received).then_some(workers)
        });
        let status = router.stop(libc::SIGTERM);
        let log = router.daemon().log();
        assert!(status.success() && !log.contains("panicked"), "{status}\n{log}");
        (counted, tx.iter().map(|tx| pcap::read(tx).unwrap_or_default()).collect(), by_worker)
    }
}

impl Default for Replay {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture for Replay {}

/// All of them.
pub const STEPS: &[Step<Replay>] = &[
    ("every_length_from_0", every_length_from_0),
    ("nothing_but_ones_and_zeros", nothing_but_ones_and_zeros),
    ("frames_in_several_buffers", frames_in_several_buffers),
    ("flows_handed_over", flows_handed_over),
];

/// Frames of every length from 0 bytes on, with no, one and two tags: each dropped, none forgotten.
fn every_length_from_0(replay: &mut Replay) {
    let mut frames = Vec::new();
    let (mut short, mut header, mut length) = (0, 0, 0);
    for tags in tags() {
        let (from, to) = ([10, 0, 0, 2].into(), [10, 0, 1, 2].into());
        let packet = frame::udp((from, 4000), (to, 5000), 64, &[0x55; 40]);
        let whole = frame::build([0xff; 6], [2; 6], &tags, frame::IPV4, &packet);
        let l3 = 14 + 4 * tags.len();
        for n in 0..=64.min(whole.len() - 1) {
            frames.push(whole[..n].to_vec());
            match n {
                _ if n < l3 => short += 1,
                _ if n < l3 + 20 => header += 1,
                _ => length += 1,
            }
        }
    }
    let (counted, sent) = replay.run(&frames);
    let want = [("frame_too_short", short), ("ipv4_header", header), ("ipv4_length", length)];
    let want = want.map(|(reason, count)| (reason.to_owned(), count)).into();
    assert_eq!(counted.drops, want);
    assert!(sent.is_empty(), "{} frames were sent", sent.len());
}

/// Frames of one byte value only, of every length up to the largest.
fn nothing_but_ones_and_zeros(replay: &mut Replay) {
    let frames: Vec<_> = [0x00, 0xff].iter().flat_map(|byte| (0..1522).map(|n| vec![*byte; n])).collect();
    let (counted, sent) = replay.run(&frames);
    assert_eq!((counted.forwarded, counted.punted), (0, 0), "{counted:?}");
    assert!(sent.is_empty(), "{} frames were sent", sent.len());
}

/// Frames that are larger than a buffer, which this driver spreads over several whatever the port's MTU: each dropped
/// for that reason, none in part, with all its buffers back; those between them are taken as ever.
fn frames_in_several_buffers(replay: &mut Replay) {
    let (from, to) = ([10, 0, 0, 2].into(), [10, 0, 1, 2].into());
    let mut frames = Vec::new();
    for tags in tags() {
        for payload in [64, 3000, 1400, 8900] {
            let packet = frame::udp((from, 4000), (to, 5000), 64, &vec![0x55; payload]);
            // Our MAC address, whatever the port has.
            frames.push(frame::build([2, 0x70, 0x63, 0x61, 0x70, 0], [2; 6], &tags, frame::IPV4, &packet));
        }
    }
    let (counted, _) = replay.run(&frames);
    assert_eq!(counted.drops, [("multi_segment".to_owned(), 6)].into());
    // The routes are there before the first frame is read.
    assert_eq!((counted.forwarded, counted.punted), (6, 0), "{counted:?}");
}

/// Many flows on the only queue of two workers: both forward, and each flow leaves by one of them, in order.
fn flows_handed_over(replay: &mut Replay) {
    const FLOWS: u16 = 100;
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        return;
    }
    let (from, to) = (IpAddr::from([10, 0, 0, 2]), [10, 0, 1, 2].into());
    let mut frames = Vec::new();
    for number in 0..1000_u32 {
        for flow in 0..FLOWS {
            let packet = frame::udp((from, flow), (to, 5000), 64, &number.to_be_bytes());
            frames.push(frame::build([2, 0x70, 0x63, 0x61, 0x70, 0], [2; 6], &[], frame::IPV4, &packet));
        }
    }
    let (counted, sent, workers) = replay.run_on(2, &frames);
    let get = |worker: usize, what: &str| workers[worker][what].as_u64().expect("a number");
    let (first, second) = (get(0, "packets"), get(1, "packets"));
    // The file is read faster than the second worker works.
    let full = counted.drops.get("hand_over_full").copied().unwrap_or(0);
    assert_eq!(first + second + full, frames.len() as u64, "{workers}");
    assert_eq!((get(0, "handed"), get(1, "taken"), get(1, "handed")), (second, second, 0), "{workers}");
    assert!(first.min(second) > 2000, "{workers}");
    // The routes are there before the first frame is read; what control forwards may leave by the other worker.
    assert_eq!((counted.forwarded, counted.punted), (first + second, 0), "{counted:?}");
    assert_eq!(sent.iter().map(Vec::len).sum::<usize>() as u64, counted.sent, "{counted:?}");
    assert!(sent.iter().all(|sent| sent.len() > 1000), "{counted:?}");
    let mut last: HashMap<u16, (usize, u32)> = HashMap::new();
    for (worker, frame) in sent.iter().enumerate().flat_map(|(n, sent)| sent.iter().map(move |f| (n, f))) {
        let ip = frame::ip(frame).expect("an IP packet");
        let (flow, _) = ip.ports().expect("one of ours");
        let number = frame.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        if let Some((by, before)) = last.insert(flow, (worker, number)) {
            assert!(by == worker && before < number, "flow {flow}: {number} after {before}");
        }
    }
    assert_eq!(last.len(), usize::from(FLOWS));
}

fn tags() -> [Vec<Tag>; 3] {
    [vec![], vec![Tag::new(0x8100, 30)], vec![Tag::new(0x8100, 100), Tag::new(0x8100, 10)]]
}
