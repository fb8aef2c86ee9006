//! `turnpike show`: asks a running turnpike and prints a table, or its JSON as it came.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::table::{Table, thousands, time};
use super::{Show, What, print};
use crate::api::{Request, client, view};

/// Asks and prints.
///
/// # Errors
/// No turnpike answers, or it refuses.
pub fn show(show: &Show) -> Result<(), String> {
    if show.what == What::Routes && show.target.is_none() {
        return routes(show);
    }
    let value = ask(show, &request(show, None))?;
    if show.json {
        return print_json(&value);
    }
    print(&match show.what {
        What::Ports => ports(&parse::<Vec<_>>(value)?),
        What::Interfaces => interfaces(&parse::<Vec<_>>(value)?),
        What::Routes => outline(&value, 0),
        What::Neighbours => neighbours(&parse::<Vec<_>>(value)?),
        What::Groups => groups(&parse::<Vec<_>>(value)?),
        What::Workers => workers(&parse(value)?),
        What::Drops => drops(&parse(value)?),
        What::Acls => acls(&parse::<Vec<_>>(value)?),
        What::Bgp if value.as_array().is_some_and(Vec::is_empty) => {
            "no `[[bgp.peer]]` is configured\n".into()
        }
        What::Bgp => outline(&value, 0),
        What::Sources => sources(&parse::<Vec<_>>(value)?),
        What::Metrics => crate::metrics::render(&parse(value)?),
    })
}

fn request(show: &Show, after: Option<String>) -> Request {
    match show.what {
        What::Ports => Request::Ports,
        What::Interfaces => Request::Interfaces,
        What::Routes => Request::Routes {
            vrf: show.vrf.clone(),
            target: show.target.clone(),
            source: show.source.clone(),
            after,
        },
        What::Neighbours => Request::Neighbours,
        What::Groups => Request::Groups,
        What::Workers => Request::Workers,
        What::Drops => Request::Drops,
        What::Acls => Request::Acls,
        What::Bgp => Request::Bgp,
        What::Sources => Request::Sources,
        What::Metrics => Request::Metrics,
    }
}

fn ask(show: &Show, request: &Request) -> Result<Value, String> {
    client::ask(&show.socket, request).map_err(|error| error.to_string())
}

fn parse<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value)
        .map_err(|error| format!("the answer cannot be read ({error}): are both of the same version?"))
}

fn print_json(value: &Value) -> Result<(), String> {
    print(&format!("{}\n", serde_json::to_string_pretty(value).map_err(|error| error.to_string())?))
}

/// Routes come in pages, so that a million of them are nowhere gathered.
fn routes(show: &Show) -> Result<(), String> {
    let mut client = client::Client::connect(&show.socket).map_err(|error| error.to_string())?;
    let mut after = None;
    let mut shown = 0;
    loop {
        let page = client.ask(&request(show, after)).map_err(|error| error.to_string())?;
        let page: view::Routes = parse(page)?;
        if show.json {
            for route in &page.routes {
                print(&format!("{}\n", serde_json::to_string(route).map_err(|error| error.to_string())?))?;
            }
        } else if !page.routes.is_empty() {
            let mut table =
                Table::new(&["vrf", "prefix", "source", "via", "interfaces", ">group", "AS path"]);
            for route in &page.routes {
                let group =
                    if route.installed { route.group.to_string() } else { "not installed".to_string() };
                let as_path: Vec<_> = route.as_path.iter().map(u32::to_string).collect();
                table.row([
                    route.vrf.clone(),
                    route.prefix.clone(),
                    route.source.clone(),
                    route.via.join(" "),
                    route.interfaces.join(" "),
                    group,
                    as_path.join(" "),
                ]);
            }
            print(&table.to_string())?;
        }
        shown += page.routes.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if show.json { Ok(()) } else { print(&format!("{} routes\n", thousands(shown as u64))) }
}

fn ports(ports: &[view::Port]) -> String {
    let mut table = Table::new(&[
        "port",
        "device",
        "driver",
        "link",
        ">mtu",
        ">rxq",
        ">received",
        ">forwarded",
        ">punted",
        ">dropped",
        ">missed",
        ">sent",
    ]);
    for port in ports {
        let link = match (port.link_up, port.speed_mbps) {
            (false, _) => "down".to_string(),
            (true, 0) => "up".to_string(),
            (true, mbps) => format!("up {}G", f64::from(mbps) / 1000.0),
        };
        table.row([
            port.name.clone(),
            port.device.clone(),
            port.driver.clone(),
            link,
            port.mtu.to_string(),
            port.rx_queues.to_string(),
            thousands(port.received),
            thousands(port.forwarded),
            thousands(port.punted),
            thousands(port.dropped),
            thousands(port.missed),
            thousands(port.sent),
        ]);
    }
    format!("{table}\n{}", offloads(ports))
}

/// What the NICs do of the work, and why not.
fn offloads(ports: &[view::Port]) -> String {
    let names: Vec<_> = ports.first().into_iter().flat_map(|port| port.offloads.keys()).collect();
    let header: Vec<_> = std::iter::once("port").chain(names.iter().map(|name| name.as_str())).collect();
    let mut table = Table::new(&header);
    for port in ports {
        let states = names.iter().map(|name| port.offloads.get(*name).cloned().unwrap_or_default());
        table.row(std::iter::once(port.name.clone()).chain(states));
    }
    table.to_string()
}

fn interfaces(interfaces: &[view::Interface]) -> String {
    let mut table = Table::new(&[
        "interface",
        "port",
        "tags",
        "vrf",
        "tap",
        "link",
        ">mtu",
        ">rx packets",
        ">rx L3 bytes",
        ">tx packets",
        ">tx L3 bytes",
        "addresses",
    ]);
    for interface in interfaces {
        table.row([
            interface.name.clone(),
            interface.port.clone(),
            interface.tags.clone(),
            interface.vrf.clone(),
            if interface.tap.is_empty() { "-".to_string() } else { interface.tap.clone() },
            if interface.up { "up" } else { "down" }.to_string(),
            interface.mtu.to_string(),
            thousands(interface.received.packets),
            thousands(interface.received.l3_bytes),
            thousands(interface.sent.packets),
            thousands(interface.sent.l3_bytes),
            interface.addresses.join(" "),
        ]);
    }
    table.to_string()
}

fn neighbours(neighbours: &[view::Neighbour]) -> String {
    let mut table = Table::new(&["interface", "address", "mac", "state", ">held", "seen instead"]);
    for neighbour in neighbours {
        let mac = if neighbour.mac.is_empty() { "-" } else { &neighbour.mac };
        table.row([
            neighbour.interface.clone(),
            neighbour.address.clone(),
            mac.to_string(),
            neighbour.state.clone(),
            neighbour.held.to_string(),
            neighbour.seen.clone(),
        ]);
    }
    table.to_string()
}

fn groups(groups: &[view::Group]) -> String {
    let mut table = Table::new(&[
        ">group",
        "kind",
        ">references",
        "gateway",
        "interface",
        "mac",
        ">weight",
        ">buckets",
        "state",
    ]);
    for group in groups {
        let first = [group.id.to_string(), group.kind.clone(), thousands(u64::from(group.references))];
        if group.members.is_empty() {
            table.row(first.clone());
        }
        for (i, member) in group.members.iter().enumerate() {
            let lead = if i == 0 { first.clone() } else { [const { String::new() }; 3] };
            let rest = [
                member.gateway.clone(),
                member.interface.clone(),
                if member.mac.is_empty() { "-".to_string() } else { member.mac.clone() },
                member.weight.to_string(),
                member.buckets.to_string(),
                member.state.clone(),
            ];
            table.row(lead.into_iter().chain(rest));
        }
    }
    table.to_string()
}

fn sources(sources: &[view::Source]) -> String {
    let mut table = Table::new(&[
        "source",
        "kind",
        "vrf",
        "state",
        ">distance",
        ">routes",
        ">stale",
        ">changes/s",
        ">announced",
        ">withdrawn",
        ">waiting",
        ">lag ms",
        ">refused",
        ">malformed",
        ">starts",
        "last error",
    ]);
    for source in sources {
        table.row([
            source.name.clone(),
            source.kind.clone(),
            source.vrf.clone(),
            if source.up { "up" } else { "down" }.to_string(),
            source.distance.to_string(),
            thousands(source.routes),
            thousands(source.stale),
            format!("{:.0}", source.changes_per_second),
            thousands(source.announced),
            thousands(source.withdrawn),
            thousands(source.waiting),
            source.lag_ms.map_or_else(|| "-".to_string(), |lag| format!("{lag:.1}")),
            thousands(source.refused),
            thousands(source.malformed),
            thousands(source.starts),
            source.last_error.clone().unwrap_or_else(|| "-".to_string()),
        ]);
    }
    table.to_string()
}

fn workers(workers: &view::Workers) -> String {
    let mut table = Table::new(&[
        ">core",
        ">packets",
        ">handed on",
        ">taken over",
        ">cycles/packet",
        ">packets/burst",
        ">empty polls",
        ">busy",
        ">round p99.9",
        ">longest",
    ]);
    for worker in &workers.workers {
        table.row([
            worker.core.to_string(),
            thousands(worker.packets),
            thousands(worker.handed),
            thousands(worker.taken),
            format!("{:.1}", worker.cycles_per_packet),
            format!("{:.1}", worker.packets_per_burst),
            format!("{:.1}%", worker.empty_percent),
            format!("{:.1}%", worker.busy_percent),
            time(worker.rounds.p999_ns),
            time(worker.rounds.max_ns),
        ]);
    }
    let turns = &workers.control_turns;
    let control = format!(
        "control thread: a turn takes {}, 99.9% no more than {}, the longest {}\n",
        time(turns.p50_ns),
        time(turns.p999_ns),
        time(turns.max_ns)
    );
    let pages = if workers.huge_pages { "huge pages" } else { "ordinary pages" };
    let (free, size) = (u64::from(workers.pool_available), u64::from(workers.pool_size));
    format!("{table}{control}packet buffers: {} of {} free, on {pages}\n", thousands(free), thousands(size))
}

fn drops(report: &view::DropReport) -> String {
    let mut table = Table::new(&["port", "what", "reason", ">packets"]);
    for port in &report.ports {
        for (what, counts) in [("dropped", &port.dropped), ("punted", &port.punted)] {
            for (reason, count) in counts {
                table.row([port.port.clone(), what.to_string(), reason.clone(), thousands(*count)]);
            }
        }
    }
    for (outcome, count) in &report.control.outcomes {
        table.row(["(control)".to_string(), "ended".to_string(), outcome.clone(), thousands(*count)]);
    }
    if table.is_empty() { "nothing was dropped or punted\n".into() } else { table.to_string() }
}

fn acls(acls: &[view::Acl]) -> String {
    if acls.is_empty() {
        return "no `[[acl]]` is in force\n".into();
    }
    let names = |names: &[String]| if names.is_empty() { "-".to_string() } else { names.join(" ") };
    let mut out = String::new();
    for acl in acls {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("{}: in {}, out {}\n", acl.name, names(&acl.inbound), names(&acl.outbound)));
        let mut table = Table::new(&[">", "rule", ">packets", ">bytes"]);
        for (at, rule) in acl.rules.iter().enumerate() {
            let number = if at + 1 == acl.rules.len() { String::new() } else { (at + 1).to_string() };
            table.row([number, rule.rule.clone(), thousands(rule.packets), thousands(rule.bytes)]);
        }
        out.push_str(&table.to_string());
    }
    out
}

/// Any value as an indented outline: for what is a tree and not a table.
fn outline(value: &Value, depth: usize) -> String {
    let pad = "  ".repeat(depth);
    let mut out = String::new();
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('_', " ");
                match flat(value) {
                    Some(text) => out.push_str(&format!("{pad}{key}: {text}\n")),
                    None => out.push_str(&format!("{pad}{key}:\n{}", outline(value, depth + 1))),
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 && item.is_object() {
                    out.push('\n');
                }
                out.push_str(&outline(item, depth));
            }
        }
        other => out.push_str(&format!("{pad}{}\n", flat(other).unwrap_or_default())),
    }
    out
}

/// A value that fits on one line, as text.
fn flat(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("-".into()),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.into()),
        Value::Number(n) => Some(n.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if items.iter().all(|i| !i.is_object() && !i.is_array()) => {
            let items: Vec<_> = items.iter().filter_map(flat).collect();
            Some(if items.is_empty() { "-".into() } else { items.join(" ") })
        }
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_becomes_an_outline() {
        let value = serde_json::json!({"prefix": "10.0.0.0/8", "path": [1, 2], "members": [{"mac": null}]});
        assert_eq!(outline(&value, 0), "prefix: 10.0.0.0/8\npath: 1 2\nmembers:\n  mac: -\n");
    }
}
