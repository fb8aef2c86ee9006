//! `turnpike trace`: prints packets' ways through the stages, live.

use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;

use super::print;
use super::run::stop_on_signals;
use super::table::thousands;
use crate::api::client::{Client, Part, Watched};
use crate::watch::view::{End, Frame, Member, Packet, Route, Traced};
use crate::watch::{Kind, WatchRequest};

/// The language of `--match`, for `--help`.
const EXPRESSIONS: &str = "\
Match expressions (as far as they go, like tcpdump's):
  host A, net P, port N or N-M   of source or destination; `src` or `dst` before them for one of the two
  tcp, udp, sctp, icmp, icmp6, arp, ip, ip6
  vlan, vlan N, vlan N M         any tag; the outermost tag; S-tag N and C-tag M
  svlan N, cvlan N               outer, inner of two tags
  drop, punt, reason NAME        what became of the packet; the names are those of `turnpike show drops`
  and, or, not, ( )              `tcp port 179` is `tcp and port 179`

Examples:
  'host 10.1.2.3 and not tcp port 22'
  'svlan 10 and cvlan 100 and drop'
  'reason ttl_expired or reason no_route'";

/// What to look at, and whom to ask.
#[derive(Debug, Args)]
pub struct Look {
    /// On this sub-interface only, by its name; or on a port, with all its tags.
    #[arg(long, short, value_name = "NAME")]
    interface: Option<String>,
    /// Only packets that match: see below.
    #[arg(long = "match", short = 'm', value_name = "EXPR")]
    expression: Option<String>,
    /// End after so many.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<Duration>,
    /// The socket of the turnpike to ask.
    #[arg(long, default_value = crate::config::DEFAULT_SOCKET)]
    socket: PathBuf,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wanted = || Duration::try_from_secs_f64(text.parse().ok()?).ok();
    wanted().ok_or_else(|| "not a number of seconds".into())
}

/// A trace.
#[derive(Debug, Args)]
#[command(after_help = EXPRESSIONS)]
pub struct Trace {
    #[command(flatten)]
    look: Look,
    /// Print a JSON object a line for each packet.
    #[arg(long)]
    json: bool,
}

impl Look {
    /// The request for it.
    pub(super) fn request(&self, watch: Kind) -> WatchRequest {
        WatchRequest {
            watch,
            interface: self.interface.clone(),
            expression: self.expression.clone(),
            limit: self.count,
            directions: Vec::new(),
            snaplen: None,
        }
    }

    /// Starts it. It ends on Ctrl-C as well, and after the time that was given.
    pub(super) fn start(&self, request: &WatchRequest) -> Result<Watched, String> {
        let watched = Client::connect(&self.socket).and_then(|client| client.watch(request));
        let watched = watched.map_err(|error| error.to_string())?;
        let connection = watched.connection().map_err(|error| error.to_string())?;
        let stop = stop_on_signals()?;
        let end = self.seconds.map(|seconds| Instant::now() + seconds);
        let wait = move || {
            while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
                std::thread::sleep(Duration::from_millis(20));
            }
            // If turnpike is gone, that is seen where its answers are read.
            let _ = connection.shutdown(Shutdown::Write);
        };
        std::thread::Builder::new().spawn(wait).map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(watched)
    }
}

/// Traces.
///
/// # Errors
/// turnpike refuses, or is not to be reached.
pub fn trace(trace: &Trace) -> Result<(), String> {
    let mut watched = trace.look.start(&trace.look.request(Kind::Trace))?;
    eprintln!("tracing; Ctrl-C ends it");
    loop {
        match watched.wait().map_err(|error| error.to_string())? {
            Part::Packet(packet) if trace.json => {
                print(&format!("{}\n", serde_json::to_string(&packet).map_err(|error| error.to_string())?))?;
            }
            Part::Packet(packet) => print(&text(&packet))?,
            Part::Bytes(_) => {}
            Part::End(end) => {
                eprintln!("{}", summary("packet", "traced", end));
                return Ok(());
            }
        }
    }
}

/// What it comes to in the end.
pub(super) fn summary(what: &str, done: &str, end: End) -> String {
    let s = if end.captured == 1 { "" } else { "s" };
    let missed = match end.missed {
        0 => "none missed".to_string(),
        missed => format!(
            "{} more matched and were missed: there were too many at once. Ask for fewer with --match or --interface",
            thousands(missed)
        ),
    };
    format!("{} {what}{s} {done}, {missed}", thousands(end.captured))
}

/// A packet's way, a line for each stage that it came to.
fn text(packet: &Traced) -> String {
    let of_day = packet.time_ns % 86_400_000_000_000;
    let (seconds, micros) = (of_day / 1_000_000_000, of_day / 1000 % 1_000_000);
    let time = format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut out = format!("{time} UTC, core {}\n", packet.core);
    let mut line = |stage: &str, what: String| out.push_str(&format!("  {stage:<9} {what}\n"));
    let from_control = packet.from == "control";
    if from_control {
        let interface = packet.interface.as_deref().unwrap_or("-");
        line("control", format!("for {} ({interface}), {}", packet.port, frame(&packet.frame)));
    } else {
        line("received", format!("{}, {}", packet.port, frame(&packet.frame)));
    }
    if let Some(packet) = &packet.packet {
        line("", ip(packet));
    }
    if !from_control {
        line(
            "classify",
            match (&packet.interface, &packet.vrf) {
                (Some(interface), Some(vrf)) => format!("sub-interface {interface}, VRF {vrf}"),
                _ => "no sub-interface".into(),
            },
        );
    }
    if let Some(found) = &packet.route {
        line("lookup", route(found));
    }
    if let Some(chosen) = &packet.member {
        line("select", member(chosen));
    }
    if let Some(sent) = &packet.sent {
        let changed = |name, value: Option<u8>| value.map_or(String::new(), |n| format!(", {name} {n}"));
        let dscp = packet.packet.as_ref().and_then(|packet| packet.dscp) != sent.dscp;
        let dscp = changed("dscp", sent.dscp.filter(|_| dscp));
        line("rewrite", format!("{}{}{dscp}", frame(&sent.frame), changed("ttl", sent.ttl)));
    }
    let reason = || match (&packet.reason, &packet.meaning) {
        (Some(reason), Some(meaning)) => format!("{reason}: {meaning}"),
        _ => String::new(),
    };
    match (packet.end.as_str(), &packet.sent) {
        ("forwarded", Some(sent)) => line("transmit", format!("{} ({})", sent.port, sent.interface)),
        ("sent", _) => line("transmit", packet.port.clone()),
        (end, _) => line(end, reason()),
    }
    out
}

fn frame(frame: &Frame) -> String {
    let tag = |tag: &crate::watch::view::Tag| match tag.tpid.as_str() {
        "0x8100" => tag.vid.to_string(),
        tpid => format!("{tpid}:{}", tag.vid),
    };
    let tags: Vec<_> = frame.tags.iter().map(tag).collect();
    let tags = match frame.tags.first() {
        None => "untagged".to_string(),
        Some(outer) => format!("tags {} priority {}", tags.join("."), outer.pcp),
    };
    let (length, from, to) = (frame.length, &frame.source_mac, &frame.destination_mac);
    format!("{length} bytes, {tags}, {from} > {to}, {}", frame.ethertype)
}

fn ip(packet: &Packet) -> String {
    let end = |address: IpAddr, port: Option<u16>| match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    let mut out = packet.protocol.as_ref().map_or(String::new(), |protocol| format!("{protocol} "));
    out.push_str(&end(packet.source, packet.source_port));
    out.push_str(" > ");
    out.push_str(&end(packet.destination, packet.destination_port));
    if let Some(ttl) = packet.ttl {
        out.push_str(&format!(", ttl {ttl}"));
    }
    if let Some(dscp) = packet.dscp.filter(|dscp| *dscp != 0) {
        out.push_str(&format!(", dscp {dscp}"));
    }
    if packet.fragment {
        out.push_str(", a fragment");
    }
    out
}

fn route(route: &Route) -> String {
    let group = match route.group {
        0 => "no route".to_string(),
        group => format!("group {group}"),
    };
    let from = route.source.as_ref().map_or(String::new(), |source| format!(" from {source}"));
    match &route.prefix {
        Some(prefix) if route.changed => {
            format!("{group}; {prefix}{from} leads to another group now: the route changed meanwhile")
        }
        Some(prefix) => format!("{prefix}{from}, {group}"),
        None if route.changed => format!("{group}; there is no route any more"),
        None => group,
    }
}

fn member(member: &Member) -> String {
    let place = match member.number {
        Some(number) => format!("member {number} of {}, ", member.of),
        None => String::new(),
    };
    let whom = match (&member.next_hop, &member.interface) {
        (Some(next_hop), Some(interface)) => format!(", {next_hop} on {interface}"),
        (None, Some(interface)) => format!(", on {interface}"),
        _ => String::new(),
    };
    format!("{place}adjacency {} ({}){whom}", member.adjacency, member.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_told() {
        assert_eq!(
            summary("packet", "traced", End { captured: 1, missed: 0 }),
            "1 packet traced, none missed"
        );
        let text = summary("frame", "written", End { captured: 2000, missed: 1 });
        assert!(text.starts_with("2,000 frames written, 1 more matched and were missed"), "{text}");
    }

    #[test]
    fn a_route_that_changed_is_told() {
        let mut found =
            Route { group: 5, prefix: Some("10.0.0.0/8".into()), source: Some("frr".into()), changed: false };
        assert_eq!(route(&found), "10.0.0.0/8 from frr, group 5");
        found.changed = true;
        assert_eq!(
            route(&found),
            "group 5; 10.0.0.0/8 from frr leads to another group now: the route changed meanwhile"
        );
        assert_eq!(route(&Route::default()), "no route");
    }
}
