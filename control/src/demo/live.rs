//! The live table: asks the router once a second over its API, as `turnpike show` does, and shows rates; a summary
//! in the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::api::view::{DropReport, Summary};
use crate::api::{Request, client};
use crate::cli::table::{Table, scaled, thousands};

/// What was seen of a router.
pub struct Watched {
    /// What it said first.
    first: Summary,
    /// When that was.
    start: Instant,
    /// BGP sessions that were up when it was asked last.
    sessions: usize,
}

/// Shows the router at `socket` until `end` or `stop`.
///
/// # Errors
/// The router does not answer.
pub fn watch(socket: &Path, end: Option<Instant>, stop: &AtomicBool) -> Result<Watched, String> {
    let terminal = std::io::stdout().is_terminal();
    let start = Instant::now();
    let first = ask(socket)?;
    let mut last = (start, first.clone());
    while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        let next = last.0 + Duration::from_secs(1);
        while Instant::now() < next && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let now = match ask(socket) {
            Ok(summary) => (Instant::now(), summary),
            Err(_) if stop.load(Ordering::Relaxed) => break,
            Err(error) => return Err(error),
        };
        let text = if terminal {
            // Home, and clear to the end of each line and of the screen: no flicker.
            let page = page(&last.1, &now.1, now.0 - last.0, start.elapsed());
            format!("\x1b[H{}\x1b[J", page.replace('\n', "\x1b[K\n"))
        } else {
            line(&last.1, &now.1, now.0 - last.0, start.elapsed())
        };
        super::say(&text);
        last = now;
    }
    Ok(Watched { first, start, sessions: last.1.bgp_established })
}

fn ask(socket: &Path) -> Result<Summary, String> {
    let value = client::ask(socket, &Request::Summary).map_err(|error| error.to_string())?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Rate by second of a counter.
fn rate(old: u64, new: u64, passed: Duration) -> f64 {
    new.saturating_sub(old) as f64 / passed.as_secs_f64()
}

/// Bits on the wire: each frame has 24 bytes of preamble, FCS and gap around it.
fn bits(packets: f64, bytes: f64) -> f64 {
    8.0 * (bytes + 24.0 * packets)
}

/// Cycles for each packet since `old`, over all workers.
fn cycles(old: &Summary, new: &Summary) -> f64 {
    let sum = |s: &Summary, of: fn(&crate::api::view::Worker) -> u64| -> u64 {
        s.workers.workers.iter().map(of).sum()
    };
    let packets = sum(new, |w| w.packets).saturating_sub(sum(old, |w| w.packets));
    let busy = sum(new, |w| w.busy_cycles).saturating_sub(sum(old, |w| w.busy_cycles));
    if packets == 0 { 0.0 } else { busy as f64 / packets as f64 }
}

/// Drops and punts of all ports by reason.
fn reasons(report: &DropReport) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for port in &report.ports {
        for (reason, count) in &port.dropped {
            *all.entry(format!("dropped {reason}")).or_default() += count;
        }
        for (reason, count) in &port.punted {
            *all.entry(format!("punted {reason}")).or_default() += count;
        }
    }
    all
}

fn page(old: &Summary, new: &Summary, passed: Duration, elapsed: Duration) -> String {
    let mut out = format!("turnpike, {} s; Ctrl-C ends it\n\n", elapsed.as_secs());
    let mut table = Table::new(&["port", ">in packets/s", ">in bit/s", ">out packets/s", ">out bit/s"]);
    for (old, new) in old.ports.iter().zip(&new.ports) {
        let (rx, tx) = (rate(old.received, new.received, passed), rate(old.sent, new.sent, passed));
        let rx_bits = bits(rx, rate(old.received_bytes, new.received_bytes, passed));
        let tx_bits = bits(tx, rate(old.sent_bytes, new.sent_bytes, passed));
        table.row([new.name.clone(), scaled(rx), scaled(rx_bits), scaled(tx), scaled(tx_bits)]);
    }
    let _ = writeln!(out, "{table}");
    let mut table = Table::new(&["interface", "vrf", "tags", ">in packets/s", ">out packets/s"]);
    for (old, new) in old.interfaces.iter().zip(&new.interfaces) {
        let rx = rate(old.received.packets, new.received.packets, passed);
        let tx = rate(old.sent.packets, new.sent.packets, passed);
        table.row([new.name.clone(), new.vrf.clone(), new.tags.clone(), scaled(rx), scaled(tx)]);
    }
    let _ = writeln!(out, "{table}");
    let cores: Vec<_> = new.workers.workers.iter().map(|w| w.core.to_string()).collect();
    let _ = writeln!(
        out,
        "workers on core {}: {:.0} cycles/packet (replaying the frames included)",
        cores.join(", "),
        cycles(old, new)
    );
    let paths: Vec<_> =
        new.paths.iter().map(|(source, n)| format!("{source} {}", thousands(*n as u64))).collect();
    let _ = writeln!(
        out,
        "{} routes from {} BGP sessions and our own prefixes; paths: {}",
        thousands(new.routes as u64),
        new.bgp_established,
        paths.join(", ")
    );
    let before = reasons(&old.drops);
    let mut table = Table::new(&["ended", ">packets/s", ">in all"]);
    for (reason, count) in reasons(&new.drops) {
        let rate = rate(before.get(&reason).copied().unwrap_or(0), count, passed);
        table.row([reason, scaled(rate), thousands(count)]);
    }
    let _ = writeln!(out, "\n{table}");
    out
}

/// What a log shows in the place of a page.
fn line(old: &Summary, new: &Summary, passed: Duration, elapsed: Duration) -> String {
    let sum = |s: &Summary, of: fn(&crate::api::view::Port) -> u64| -> u64 { s.ports.iter().map(of).sum() };
    let of = |of: fn(&crate::api::view::Port) -> u64| rate(sum(old, of), sum(new, of), passed);
    let (forwarded, bytes) = (of(|p| p.forwarded), of(|p| p.sent_bytes));
    format!(
        "{:>4} s: {} packets/s forwarded, {} bit/s, {:.0} cycles/packet, {} dropped/s, {} punted/s, {} routes\n",
        elapsed.as_secs(),
        scaled(forwarded),
        scaled(bits(forwarded, bytes)),
        cycles(old, new),
        scaled(of(|p| p.dropped)),
        scaled(of(|p| p.punted)),
        thousands(new.routes as u64),
    )
}

/// What happened since the router was first asked until it said `last`, just now, in a few lines.
pub fn summary(watched: &Watched, last: &Summary) -> String {
    let Watched { first, start, sessions } = watched;
    let elapsed = start.elapsed();
    let mut out = format!("\nSummary of {:.1} s\n", elapsed.as_secs_f64());
    let mut table = Table::new(&["port", ">received", ">forwarded", ">punted", ">dropped", ">sent"]);
    for port in &last.ports {
        let counts = [port.received, port.forwarded, port.punted, port.dropped, port.sent];
        table.row(std::iter::once(port.name.clone()).chain(counts.map(thousands)));
    }
    let _ = write!(out, "{table}");
    let mut table = Table::new(&["ended", ">packets"]);
    for (reason, count) in reasons(&last.drops) {
        table.row([reason, thousands(count)]);
    }
    let _ = write!(out, "\n{table}");
    let forwarded: u64 = last.ports.iter().map(|p| p.forwarded).sum();
    let before: u64 = first.ports.iter().map(|p| p.forwarded).sum();
    let mean = rate(before, forwarded, elapsed);
    let _ = writeln!(
        out,
        "\n{} packets/s forwarded on average, {:.0} cycles/packet, {} routes from {} BGP sessions",
        scaled(mean),
        cycles(first, last),
        thousands(last.routes as u64),
        sessions
    );
    if !last.workers.huge_pages {
        out.push_str(
            "This ran on ordinary pages. Huge pages bring fewer TLB misses, and NICs without an IOMMU.\n",
        );
    }
    out
}
