//! The metrics over HTTP: what they say is what `show` says, read by Prometheus' own parser for Python while frames pass;
//! and clients that misbehave.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::bench::{Bench, PORTS};
use crate::counters::Port;
use crate::hostile::floods::Random;
use crate::lab::Netns;
use crate::process;
use crate::settings::METRICS;
use crate::suite::SOON;
use crate::wait;

/// Frames that pass meanwhile.
const FRAMES: usize = 10_000;
/// Connections that say nothing, or hardly anything.
const CROWD: usize = 100;
/// Prints an object with the value of each sample, by its name and its labels in order.
const PARSER: &str = r#"
import json, sys
from prometheus_client.parser import text_string_to_metric_families
samples = {}
for family in text_string_to_metric_families(open(sys.argv[1], encoding="utf-8").read()):
    assert family.type != "unknown" and family.documentation, family.name
    for sample in family.samples:
        key = " ".join([sample.name] + sorted(f"{name}={value}" for name, value in sample.labels.items()))
        assert key not in samples, key
        samples[key] = sample.value
json.dump(samples, sys.stdout)
"#;

/// The samples, by name and labels.
type Samples = BTreeMap<String, f64>;

/// A request of any bytes, and all that comes for it.
fn exchange(netns: &Netns, request: &[u8]) -> String {
    let mut stream = connect(netns);
    // It may be refused before all of it went.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
fn connect(netns: &Netns) -> TcpStream {
    let address: SocketAddr = METRICS.parse().expect("an address with a port");
    let stream = netns.enter(|| TcpStream::connect(address)).unwrap_or_else(|e| panic!("{METRICS}: {e}"));
    stream.set_read_timeout(Some(SOON)).expect("a time limit");
    stream.set_write_timeout(Some(SOON)).expect("a time limit");
    stream
}

/// The text of the metrics.
#[track_caller]
fn scrape(netns: &Netns) -> String {
    let answer = exchange(netns, format!("GET /metrics HTTP/1.1\r\nHost: {METRICS}\r\n\r\n").as_bytes());
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {answer:?}"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", text.len())), "{head}");
    text.to_owned()
}

/// What Prometheus' own parser makes of a text. Debian's Python has it, whatever other one is there.
#[track_caller]
fn parse(bench: &Bench, text: &str) -> Samples {
    let path = bench.lab.path("metrics.txt");
    std::fs::write(&path, text).expect("a file");
    let printed = process::run(Command::new("/usr/bin/python3").args(["-c", PARSER]).arg(&path));
    serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed}"))
}

/// All frames went on, but for those that the wire was too slow for.
#[track_caller]
fn assert_passed(counted: &Port) {
    let full = counted.drops.get("tx_queue_full").copied().unwrap_or(0);
    assert_eq!(counted.forwarded + full, FRAMES as u64, "{counted:?}");
    assert!(counted.forwarded > full, "{counted:?}");
}

/// What `show` says that the metrics say too.
fn shown(bench: &Bench) -> [Value; 6] {
    let routes = bench.router().ask([serde_json::json!({"show": "routes"})]).remove(0).expect("an answer");
    let [ports, drops, interfaces, neighbours, bgp] =
        ["ports", "drops", "interfaces", "neighbours", "bgp"].map(|what| bench.router().show(what));
    [ports, drops, interfaces, neighbours, routes["total"].clone(), bgp]
}

/// Read ten times a second while frames pass, they cost no frame; at rest they and `show` agree.
pub fn agree_with_show(bench: &mut Bench) {
    let frames: Vec<_> =
        (0..FRAMES).map(|_| Bench::wrap(1, &Bench::packet(1, 2, false, 64, b"on"))).collect();
    let done = AtomicBool::new(false);
    let (counted, texts) = std::thread::scope(|scope| {
        let (netns, done) = (&bench.outside, &done);
        let scraper = scope.spawn(move || {
            let mut texts = Vec::new();
            // Once at least, however soon the frames are through.
            loop {
                texts.push(scrape(netns));
                if done.load(Ordering::Acquire) {
                    return texts;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let counted = bench.send(&frames);
        done.store(true, Ordering::Release);
        (counted, scraper.join().expect("a scraper that succeeds"))
    });
    assert_passed(&counted);
    println!(
        "    {} scrapes meanwhile, the last of {} bytes",
        texts.len(),
        texts.last().map_or(0, String::len)
    );
    let received = |samples: &Samples| samples["turnpike_port_received_packets_total port=a"];
    let (first, last) = (parse(bench, &texts[0]), parse(bench, texts.last().expect("a scrape")));
    assert!(received(&first) <= received(&last), "a counter went down");

    // The kernel may send something of its own at any time, and neighbours come and go with their routes.
    let (samples, by_hand, [ports, drops, interfaces, neighbours, routes, bgp]) =
        wait::until(SOON, "the counters to stand still for a moment", || {
            let before = shown(bench);
            // An answer may be a tenth of a second old.
            wait::pause(Duration::from_millis(150));
            let text = scrape(&bench.outside);
            let by_hand = bench.router().table("metrics");
            let after = shown(bench);
            let same = |i: usize| before[i] == after[i];
            (0..5).all(same).then(|| (parse(bench, &text), parse(bench, &by_hand), after))
        });
    let items = |list: &Value| list.as_array().expect("a list").clone();
    let expect = |sample: String, want: &Value| {
        let found = samples.get(&sample).unwrap_or_else(|| panic!("no sample {sample}"));
        assert_eq!(Some(*found), want.as_f64(), "{sample}");
    };
    for port in items(&ports) {
        let name = port["name"].as_str().expect("a name");
        for key in ["received", "forwarded", "sent", "missed", "inject_dropped"] {
            expect(format!("turnpike_port_{key}_packets_total port={name}"), &port[key]);
        }
        expect(format!("turnpike_port_received_bytes_total port={name}"), &port["received_bytes"]);
        let sum = |what: &str| -> f64 {
            let start = format!("turnpike_port_{what}_packets_total port={name} reason=");
            samples
                .range(start.clone()..)
                .take_while(|(key, _)| key.starts_with(&start))
                .map(|(_, n)| n)
                .sum()
        };
        let parts = sum("dropped") + sum("punted") + port["forwarded"].as_f64().expect("a number");
        assert_eq!(port["received"].as_f64(), Some(parts), "{name}: received, and what became of it");
    }
    assert_eq!(items(&drops["ports"]).len(), PORTS.len());
    for port in items(&drops["ports"]) {
        for what in ["dropped", "punted"] {
            for (reason, count) in port[what].as_object().expect("reasons") {
                let name = port["port"].as_str().expect("a name");
                expect(format!("turnpike_port_{what}_packets_total port={name} reason={reason}"), count);
            }
        }
    }
    for interface in items(&interfaces) {
        let (name, port) = (interface["name"].as_str(), interface["port"].as_str());
        let labels = format!("interface={} port={} vrf=bench", name.expect("a name"), port.expect("a port"));
        for way in ["received", "sent"] {
            for (sample, key) in [("packets", "packets"), ("l2_bytes", "l2_bytes"), ("l3_bytes", "l3_bytes")]
            {
                expect(format!("turnpike_interface_{way}_{sample}_total {labels}"), &interface[way][key]);
            }
        }
    }
    let known: f64 =
        samples.iter().filter(|(key, _)| key.starts_with("turnpike_neighbours ")).map(|(_, n)| n).sum();
    assert_eq!(known as usize, items(&neighbours).len());
    for peer in items(&bgp) {
        let up = f64::from(u8::from(peer["state"] == "Established"));
        let name = peer["name"].as_str().expect("a name");
        expect(format!("turnpike_bgp_session_up peer={name} vrf=bench"), &up.into());
    }
    let in_fibs: f64 =
        samples.iter().filter(|(key, _)| key.starts_with("turnpike_fib_routes ")).map(|(_, n)| n).sum();
    assert_eq!(routes.as_f64(), Some(in_fibs));
    assert!(by_hand.keys().eq(samples.keys()), "`show metrics` and HTTP have the same samples");
    bench.assert_unharmed();
}

/// Garbage, endless heads, many requests in one, and a crowd that says hardly anything: each is answered by an error or
/// closed, and scrapes and frames pass all the while.
pub fn hostile_clients(bench: &mut Bench) {
    let mut random = Random::new(0x9477);
    let noise: Vec<u8> = (0..4096).map(|_| random.below(256) as u8).collect();
    let endless = [b"GET /metrics HTTP/1.1\r\nX: ", &vec![b'x'; 1 << 20][..]].concat();
    let get = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    for request in [&noise[..], &endless, b"\r\nnonsense\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n"] {
        let answer = exchange(&bench.outside, request);
        // What is far too long may lose its answer.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert!(exchange(&bench.outside, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(
        exchange(&bench.outside, b"PUT /metrics HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 405 ")
    );
    let pipelined = exchange(&bench.outside, &get.repeat(1000));
    assert!(pipelined.matches("HTTP/1.1 200 ").count() <= 1, "one answer for each connection");

    let mut crowd: Vec<_> = (0..CROWD).map(|_| connect(&bench.outside)).collect();
    let frames: Vec<_> =
        (0..FRAMES).map(|_| Bench::wrap(1, &Bench::packet(1, 2, false, 64, b"on"))).collect();
    for (i, client) in crowd.iter_mut().enumerate() {
        // Those that were closed for others learn it here.
        let _ = client.write_all(&get[..i % 20]);
    }
    scrape(&bench.outside);
    let counted = bench.send(&frames);
    assert_passed(&counted);
    scrape(&bench.outside);
    let ended = bench.router().show("drops")["control"]["outcomes"].clone();
    println!("    {ended}");
    let count = |name: &str| ended[name].as_u64().unwrap_or(0);
    assert!(count("metrics_request_refused") >= 6 && count("metrics_connection_closed") >= 50, "{ended}");
    drop(crowd);
    bench.assert_unharmed();
}
