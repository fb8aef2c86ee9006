//! `turnpike trace` and `turnpike capture`: what they show of known frames, read back with tshark; under full load; and
//! clients that go without a word.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::bench::{Bench, their_mac};
use crate::counters::Counters;
use crate::frame::{self, IPV4, Tag};
use crate::lab::Lab;
use crate::pcap;
use crate::process::{self, Daemon};
use crate::router::{self, Router, program};
use crate::settings;
use crate::suite::{SOON, Step};
use crate::wait;
use crate::wire::Way;

/// Those on the bench.
pub const STEPS: &[Step<Bench>] = &[
    ("a_trace_shows_each_stage", a_trace_shows_each_stage),
    ("a_capture_is_what_was_on_the_wires", a_capture_is_what_was_on_the_wires),
    ("a_limit_is_not_counted_as_more", a_limit_is_not_counted_as_more),
    ("errors_show_the_place", errors_show_the_place),
    ("sessions_end_with_their_clients", sessions_end_with_their_clients),
];

/// Those with a turnpike of their own.
pub const ALONE: &[Step<()>] = &[("full_load", full_load)];

/// The kinds of sub-interface of port `a` and `b` that are used here.
const QINQ: usize = 2;
const PLAIN: usize = 0;
/// The MAC address that DPDK gives its first `net_pcap` device.
const PCAP_MAC: frame::Mac = [2, b'p', b'c', b'a', b'p', 0];

/// A frame that is forwarded, one of an unknown tag, and one whose TTL ends here.
fn frames() -> [Vec<u8>; 3] {
    let packet = |ttl| Bench::packet(QINQ, PLAIN, false, ttl, b"look at this");
    let tags = [Tag::new(0x8100, 999)];
    [
        Bench::wrap(QINQ, &packet(64)),
        frame::build(crate::bench::MACS[0], their_mac(0, QINQ), &tags, IPV4, &packet(64)),
        Bench::wrap(QINQ, &packet(1)),
    ]
}

/// Starts `turnpike` with these words against the bench's, and waits until it says that it looks.
#[track_caller]
fn start(bench: &Bench, name: &str, words: &[&str]) -> Daemon {
    let mut command = Command::new(program());
    command.args(words).arg("--socket").arg(bench.router().socket());
    let daemon = Daemon::start(name, &mut command, &bench.lab.path(&format!("{name}.log")));
    wait::until_true(SOON, "the session to begin", || daemon.log().contains("Ctrl-C ends it"));
    daemon
}

fn a_trace_shows_each_stage(bench: &mut Bench) {
    let looked = &["-m", "udp port 5000", "-c", "3"];
    let mut text = start(bench, "trace", &[&["trace"], &looked[..]].concat());
    let mut json = start(bench, "trace-json", &[&["trace", "--json"], &looked[..]].concat());
    for frame in frames() {
        bench.send([&frame]);
    }
    let ended = |daemon: &mut Daemon| daemon.wait(SOON).success();
    assert!(ended(&mut text) && ended(&mut json));
    let log = json.log();
    let packets: Vec<Value> =
        log.lines().filter(|line| line.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect();
    let [went, unknown, expired] = &packets[..] else { panic!("{log}") };
    assert_eq!((&went["end"], &went["interface"]), (&"forwarded".into(), &"a-qinq".into()), "{log}");
    assert_eq!(went["frame"]["tags"][0], serde_json::json!({"tpid": "0x8100", "vid": 100, "pcp": 0}));
    assert_eq!(went["frame"]["tags"][1]["vid"], 10);
    assert_eq!(went["packet"]["destination"], "10.2.0.2");
    assert_eq!((&went["vrf"], &went["route"]["prefix"]), (&"bench".into(), &"10.2.0.2/32".into()), "{log}");
    assert_eq!(went["route"]["changed"], false, "{log}");
    assert_eq!((&went["member"]["next_hop"], &went["member"]["number"]), (&"10.2.0.2".into(), &1.into()));
    assert_eq!((&went["sent"]["port"], &went["sent"]["interface"]), (&"b".into(), &"b-plain".into()));
    assert_eq!((&went["sent"]["ttl"], &went["sent"]["frame"]["tags"]), (&63.into(), &serde_json::json!([])));
    assert_eq!(went["sent"]["frame"]["destination_mac"], "02:00:00:01:00:02");
    assert_eq!((&unknown["end"], &unknown["reason"]), (&"dropped".into(), &"unknown_tag".into()), "{log}");
    assert_eq!(
        (&unknown["interface"], &unknown["route"], &unknown["sent"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!((&expired["end"], &expired["reason"]), (&"punted".into(), &"ttl_expired".into()), "{log}");
    assert_eq!((&expired["route"]["prefix"], &expired["sent"]), (&"10.2.0.2/32".into(), &Value::Null));

    let text = text.log();
    let stages = |from: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| !line.contains(from)).skip(1);
        let stage = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
        lines.take_while(|line| line.starts_with("  ")).map(stage).collect()
    };
    assert_eq!(
        stages("bytes, tags 100.10"),
        ["udp", "classify", "lookup", "select", "rewrite", "transmit"],
        "{text}"
    );
    assert_eq!(stages("bytes, tags 999"), ["udp", "classify", "dropped"], "{text}");
    assert!(text.contains("3 packets traced, none missed"), "{text}");
    bench.assert_unharmed();
}

/// What tshark says of each frame of a capture.
fn tshark(path: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(path).args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let text = process::run(&mut command);
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn a_capture_is_what_was_on_the_wires(bench: &mut Bench) {
    let path = bench.lab.path("frames.pcapng");
    let file = path.display().to_string();
    let mut capture = start(bench, "capture", &["capture", "-w", &file, "-m", "udp port 5000 or icmp"]);
    let record = bench.wires[1].record();
    let answer = bench.wires[0].record();
    let frames = frames();
    for frame in &frames {
        bench.send([frame]);
    }
    let is_error = |f: &[u8]| frame::ip(f).is_some_and(|ip| ip.protocol == 1);
    wait::until_true(SOON, "the ICMP error", || answer.count(Way::FromRouter, is_error) > 0);
    wait::pause(Duration::from_millis(100));
    capture.signal(libc::SIGINT);
    assert!(capture.wait(SOON).success());
    let shown = tshark(&path, &["frame.interface_name", "frame.packet_flags_direction", "frame.comment"]);
    let shown: Vec<Vec<&str>> = shown.iter().map(|row| row.iter().map(String::as_str).collect()).collect();
    let (inbound, outbound) = ("0x00000001", "0x00000002");
    let want = [
        ["a", inbound, ""],
        ["b", outbound, ""],
        ["a", inbound, "dropped: unknown_tag"],
        ["a", inbound, "punted: ttl_expired"],
        ["a", outbound, "from control"],
    ];
    assert_eq!(shown, want);
    // Byte for byte what was on the wires.
    let classic = bench.lab.path("frames.pcap");
    let mut convert = Command::new("tshark");
    process::run(convert.args(["-r", &file, "-F", "pcap", "-w"]).arg(&classic));
    let captured = pcap::read(&classic).expect("a capture file");
    assert_eq!([&captured[0], &captured[2], &captured[3]], [&frames[0], &frames[1], &frames[2]]);
    let left =
        record.frames(Way::FromRouter, |f| frame::ip(f).is_some_and(|ip| ip.ports() == Some((4000, 5000))));
    assert_eq!(captured[1], left[0].frame);
    drop((record, answer));
    assert!(capture.log().contains("5 frames written, none missed"), "{}", capture.log());

    // Only what was dropped, from standard output.
    let socket = bench.router().socket().display().to_string();
    let piped = bench.lab.path("drops.pcapng");
    let mut command = Command::new("sh");
    let line = format!(
        "'{}' capture -w - --direction drop -m 'reason unknown_tag' -c 2 --snaplen 20 --socket {socket} > '{}'",
        program().display(),
        piped.display()
    );
    let mut drops = Daemon::start("drops", command.args(["-c", &line]), &bench.lab.path("drops.log"));
    wait::until_true(SOON, "the session to begin", || drops.log().contains("Ctrl-C ends it"));
    bench.send([&frames[0], &frames[1], &frames[2], &frames[1]]);
    assert!(drops.wait(SOON).success());
    let shown = tshark(&piped, &["frame.comment", "frame.cap_len", "frame.len"]);
    let row = ["dropped: unknown_tag".to_owned(), "20".into(), frames[1].len().to_string()];
    assert_eq!(shown, [row.to_vec(), row.to_vec()]);
    bench.assert_unharmed();
}

/// A frame that is forwarded matches twice, as received and as sent; who wants one gets one, and the file says so.
fn a_limit_is_not_counted_as_more(bench: &mut Bench) {
    let path = bench.lab.path("one.pcapng");
    let words = ["capture", "-w", &path.display().to_string(), "-m", "udp port 5000", "-c", "1"];
    let mut capture = start(bench, "one", &words);
    bench.send([&frames()[0]]);
    assert!(capture.wait(SOON).success());
    let bytes = std::fs::read(&path).expect("the capture");
    let blocks = blocks(&bytes);
    assert_eq!(blocks.iter().filter(|(kind, _)| *kind == 6).count(), 1);
    // Missed, matched, in the file.
    assert_eq!([5, 6, 8].map(|code| sum_of(&blocks, code)), [0, 1, 1]);
    bench.assert_unharmed();
}

fn errors_show_the_place(bench: &mut Bench) {
    let socket = bench.router().socket().display().to_string();
    let refused = |words: &[&str]| {
        let output = router::run(&[words, &["--socket", &socket]].concat());
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = refused(&["trace", "--match", "tcp and host nowhere"]);
    assert!(text.contains("expected an IPv4 or IPv6 address, found `nowhere`"), "{text}");
    assert!(text.ends_with("  tcp and host nowhere\n               ^^^^^^^\n"), "{text}");
    let text = refused(&["trace", "--interface", "a-qinc"]);
    assert!(text.contains("did you mean \"a-qinq\"?"), "{text}");
    // A refused capture leaves a file alone.
    let path = bench.lab.path("precious");
    std::fs::write(&path, "precious").expect("a file");
    refused(&["capture", "-w", &path.display().to_string(), "--match", "("]);
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "precious");
}

/// Four at once and no more; clients that are killed leave nothing behind.
fn sessions_end_with_their_clients(bench: &mut Bench) {
    let mut clients: Vec<_> =
        (0..4).map(|n| start(bench, &format!("client-{n}"), &["trace", "-m", "drop"])).collect();
    let socket = bench.router().socket().display().to_string();
    let output = router::run(&["trace", "--socket", &socket]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("4 traces and captures run already"), "{text}");
    for client in &mut clients {
        client.signal(libc::SIGKILL);
        client.wait(SOON);
    }
    wait::until_true(SOON, "room for another", || {
        router::run(&["trace", "--seconds", "0.1", "--socket", &socket]).status.success()
    });
    bench.assert_unharmed();
}

/// The blocks of a pcapng file: type and body.
fn blocks(bytes: &[u8]) -> Vec<(u32, &[u8])> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut blocks) = (0, Vec::new());
    while at < bytes.len() {
        let length = word(at + 4) as usize;
        blocks.push((word(at), &bytes[at + 8..at + length - 4]));
        at += length;
    }
    blocks
}

/// A number of an interface statistics block, by its option's code.
fn statistic(body: &[u8], wanted: u16) -> u64 {
    let mut options = &body[12..];
    while options.len() >= 4 {
        let code = u16::from_le_bytes([options[0], options[1]]);
        let length = usize::from(u16::from_le_bytes([options[2], options[3]]));
        if code == wanted {
            return u64::from_le_bytes(options[4..12].try_into().unwrap());
        }
        options = &options[4 + length.next_multiple_of(4)..];
    }
    panic!("no option {wanted}");
}

/// The sum of this number over all interfaces.
fn sum_of(blocks: &[(u32, &[u8])], wanted: u16) -> u64 {
    blocks.iter().filter(|(kind, _)| *kind == 5).map(|(_, body)| statistic(body, wanted)).sum()
}

/// A worker that is busy all the time forwards all, whatever a capture asks of it; the capture says what it missed.
fn full_load(_: &mut ()) {
    let lab = Lab::new();
    let netns = lab.netns("R");
    let (rx, socket): (PathBuf, PathBuf) = (lab.path("rx.pcap"), lab.path("turnpike.sock"));
    let packet = frame::udp(([10, 0, 0, 2].into(), 4000), ([10, 0, 1, 2].into(), 5000), 64, &[0x55; 100]);
    let frame = frame::build(PCAP_MAC, [2; 6], &[], IPV4, &packet);
    pcap::write(&rx, (0..512).map(|_| (0, frame.as_slice()))).expect("a capture file");
    let mut config = format!(
        "[[port]]\nname = \"in\"\ndevice = \"net_pcap0,rx_pcap={},infinite_rx=1\"\n\n\
         [[port]]\nname = \"out\"\ndevice = \"net_null0,no-rx=1\"\n\n[kernel]\ntaps = false\n\n",
        rx.display()
    );
    for (n, port) in ["in", "out"].iter().enumerate() {
        config += &format!(
            "[[interface]]\nname = \"{port}\"\nport = \"{port}\"\naddresses = [\"10.0.{n}.1/24\"]\n\n\
             [[neighbour]]\ninterface = \"{port}\"\naddress = \"10.0.{n}.2\"\nmac = \"02:00:00:00:00:0{n}\"\n\n"
        );
    }
    config += &settings::common(&socket);
    let mut router = Router::start(&lab, &netns, &config, &socket);
    let path = lab.path("load.pcapng");
    let before = Counters::adding_up(&router);
    // Its reader takes nothing for a second, so that there is something to miss on any machine.
    let line = format!(
        "'{}' capture -w - --seconds 2 --snaplen 64 --socket '{}' | (sleep 1; cat > '{}')",
        program().display(),
        socket.display(),
        path.display()
    );
    let output = process::output(Command::new("sh").args(["-c", &line]));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let counted = Counters::adding_up(&router).since(&before, "in");
    println!("    {} forwarded meanwhile; {}", counted.forwarded, text.lines().last().unwrap_or_default());
    assert!(counted.drops.is_empty() && counted.forwarded > 0, "{counted:?}");
    let bytes = std::fs::read(&path).expect("the capture");
    let blocks = blocks(&bytes);
    let frames = blocks.iter().filter(|(kind, _)| *kind == 6).count() as u64;
    let [missed, matched, delivered] = [5, 6, 8].map(|code| sum_of(&blocks, code));
    assert_eq!((frames, frames + missed), (delivered, matched), "{text}");
    assert!(missed > 0 && text.contains("more matched and were missed"), "{text}");
    assert!(matched <= 2 * counted.forwarded, "{matched} of {counted:?}");
    let status = router.stop(libc::SIGTERM);
    assert!(status.success(), "{}", router.daemon().log());
}
