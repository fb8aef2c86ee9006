//! What the API shows: the router's state, put into the API's views.

use std::collections::BTreeMap;
use std::ops::Range;

use dataplane::counters::{PortCounters, Traffic};
use dataplane::histogram::Histogram;
use dataplane::ids::{PortId, SubIfId, VrfId};
use dataplane::verdict::{DropReason, PuntReason};
use serde_json::Value;

use super::control::Control;
use super::route_views::Question;
use crate::api::{Reply, Request, view};
use crate::config::model::{Encapsulation, SubInterface};
use crate::source::bgp::{BgpSpeaker, State};

impl Control {
    /// Answers a request of the API.
    pub(super) fn answer(&self, request: &Request) -> Reply {
        let value = match request {
            Request::Ports => json(&self.port_views()),
            Request::Interfaces => json(&self.interface_views(0..usize::MAX)),
            Request::Routes { vrf, target, source, after } => self.route_views(&Question {
                vrf: vrf.as_deref(),
                target: target.as_deref(),
                source: source.as_deref(),
                after: after.as_deref(),
            }),
            Request::Neighbours => json(&self.neighbour_views()),
            Request::Groups => json(&self.group_views()),
            Request::Workers => json(&self.worker_views()),
            Request::Drops => json(&self.drop_report()),
            Request::Acls => json(&self.acl_views()),
            Request::Bgp => self.bgp_views(),
            Request::Sources => json(&self.source_views()),
            Request::Summary => json(&self.summary()),
            Request::Metrics | Request::Do(_) | Request::Watch(_) => Err("that is no question".into()),
        };
        match value {
            Ok(value) => Reply::Ok(value),
            Err(why) => Reply::Error(why),
        }
    }

    /// A sum over all workers' counters of a port.
    fn sum(&self, port: usize, of: impl Fn(&PortCounters) -> u64) -> u64 {
        self.workers.counters.iter().map(|worker| of(worker.port(PortId(port as u16)))).sum()
    }

    pub(super) fn port_views(&self) -> Vec<view::Port> {
        let ports = self.config.ports.iter().zip(&self.hardware.ports).enumerate();
        ports
            .map(|(i, (configured, open))| {
                let sum = |of: &dyn Fn(&PortCounters) -> u64| self.sum(i, of);
                let all = |counters: &[dataplane::counters::Counter]| {
                    counters.iter().map(dataplane::counters::Counter::get).sum()
                };
                let stats = open.port.stats().unwrap_or_default();
                view::Port {
                    name: configured.name.clone(),
                    device: configured.device.clone(),
                    driver: open.info.driver.clone(),
                    mac: mac(open.info.mac),
                    link_up: self.links[i],
                    speed_mbps: open.port.link().ok().and_then(|link| link.speed_mbps).unwrap_or(0),
                    mtu: configured.mtu,
                    rx_queues: open.rx_queues,
                    received: sum(&|c| c.received.get()),
                    received_bytes: sum(&|c| c.received_bytes.get()),
                    forwarded: sum(&|c| c.forwarded.get()),
                    punted: sum(&|c| all(&c.punted)),
                    dropped: sum(&|c| all(&c.dropped)),
                    sent: sum(&|c| c.sent.get()),
                    sent_bytes: sum(&|c| c.sent_bytes.get()),
                    inject_dropped: sum(&|c| c.inject_dropped.get()),
                    missed: stats.rx_missed + stats.rx_no_buffer,
                    receive_errors: stats.rx_errors,
                    transmit_errors: stats.tx_errors,
                    offloads: self.offload_views(i),
                }
            })
            .collect()
    }

    /// Those sub-interfaces whose numbers are in the range.
    pub(super) fn interface_views(&self, numbers: Range<usize>) -> Vec<view::Interface> {
        let one = |(i, sub_if): (usize, &SubInterface)| {
            let traffic = |received: bool| {
                let mut sum = view::Traffic::default();
                for worker in &self.workers.counters {
                    let counters = worker.sub_interface(SubIfId(i as u16));
                    let part: &Traffic = if received { &counters.received } else { &counters.sent };
                    sum.packets += part.packets.get();
                    sum.l2_bytes += part.l2_bytes.get();
                    sum.l3_bytes += part.l3_bytes.get();
                }
                sum
            };
            view::Interface {
                name: sub_if.name.clone(),
                port: self.config.ports[usize::from(sub_if.port.0)].name.clone(),
                tags: tags(sub_if.encapsulation),
                vrf: self.vrf_name(sub_if.vrf),
                circuit: sub_if
                    .link
                    .map_or(String::new(), |link| self.config.circuits[link.circuit].name.clone()),
                tap: if self.config.kernel.taps { sub_if.tap.clone() } else { String::new() },
                addresses: sub_if.addresses.iter().map(ToString::to_string).collect(),
                mtu: sub_if.mtu,
                up: self.links[usize::from(sub_if.port.0)],
                received: traffic(true),
                sent: traffic(false),
            }
        };
        let all = self.config.sub_interfaces.iter().enumerate();
        all.skip(numbers.start).take(numbers.len()).map(one).collect()
    }

    pub(super) fn worker_views(&self) -> view::Workers {
        let one = |(core, counters): (&usize, &std::sync::Arc<dataplane::counters::WorkerCounters>)| {
            let work = &counters.work;
            let (polls, empty) = (work.polls.get(), work.empty_polls.get());
            let (packets, busy, cycles) = (work.packets.get(), work.busy_cycles.get(), work.cycles.get());
            view::Worker {
                core: *core,
                packets,
                handed: work.handed.get(),
                taken: work.taken.get(),
                polls,
                empty_polls: empty,
                empty_percent: 100.0 * ratio(empty, polls),
                packets_per_burst: ratio(packets, polls.saturating_sub(empty)),
                cycles_per_packet: ratio(busy, packets),
                busy_percent: 100.0 * ratio(busy, cycles),
                busy_cycles: busy,
                cycles,
                rounds: times(&work.rounds, 1e9 / self.hardware.eal.tsc_hz() as f64),
            }
        };
        view::Workers {
            workers: self.workers.cores.iter().zip(&self.workers.counters).map(one).collect(),
            control_turns: times(&self.turns, 1.0),
            tsc_hz: self.hardware.eal.tsc_hz(),
            pool_size: self.hardware.pool.size(),
            pool_available: self.hardware.pool.available(),
            huge_pages: self.hardware.eal.huge_pages(),
        }
    }

    pub(super) fn drop_report(&self) -> view::DropReport {
        let one = |(i, port): (usize, &crate::config::model::Port)| {
            let dropped = DropReason::ALL
                .iter()
                .map(|r| (r.name().to_string(), self.sum(i, |c| c.dropped[r.index()].get())));
            let punted = PuntReason::ALL
                .iter()
                .map(|r| (r.name().to_string(), self.sum(i, |c| c.punted[r.index()].get())));
            view::Drops {
                port: port.name.clone(),
                dropped: dropped.filter(|(_, count)| *count > 0).collect(),
                punted: punted.filter(|(_, count)| *count > 0).collect(),
            }
        };
        let mut outcomes = self.punts.outcomes.all();
        let [fpm_refused, fpm_silent] = self.tables.fpm_closed();
        let connections = [
            ("bgp_connection_refused", self.bgp.as_ref().map_or(0, BgpSpeaker::refused)),
            ("fpm_connection_refused", fpm_refused),
            ("fpm_connection_silent", fpm_silent),
            ("metrics_request_refused", self.scrapes.refused()),
            ("metrics_connection_closed", self.scrapes.closed()),
        ];
        let counted = connections.into_iter().filter(|(_, count)| *count > 0);
        outcomes.extend(counted.map(|(name, count)| (name.to_owned(), count)));
        view::DropReport {
            ports: self.config.ports.iter().enumerate().map(one).collect(),
            control: view::Control { outcomes },
        }
    }

    fn neighbour_views(&self) -> Vec<view::Neighbour> {
        let one = |neighbour: super::neighbours::View| view::Neighbour {
            interface: self.sub_if_name(neighbour.sub_if),
            address: neighbour.address.to_string(),
            mac: neighbour.mac.map(mac).unwrap_or_default(),
            state: self.neighbour_state(&neighbour).to_string(),
            held: neighbour.held,
            seen: neighbour.seen.map(|s| format!("{} at {}", s.address, mac(s.mac))).unwrap_or_default(),
        };
        self.neighbours.views().map(one).collect()
    }

    pub(super) fn neighbour_state(&self, neighbour: &super::neighbours::View) -> &'static str {
        if self.rib.is_held_down(neighbour.sub_if, neighbour.address) {
            "held_down"
        } else {
            neighbour.state.name()
        }
    }

    fn group_views(&self) -> Vec<view::Group> {
        let macs: BTreeMap<_, _> =
            (self.neighbours.views()).filter_map(|n| Some(((n.sub_if.0, n.address), mac(n.mac?)))).collect();
        let member = |member: &crate::rib::MemberView| view::Member {
            interface: self.sub_if_name(SubIfId(member.subif)),
            gateway: member.gateway.map(|g| g.to_string()).unwrap_or_default(),
            mac: member.gateway.and_then(|g| macs.get(&(member.subif, g)).cloned()).unwrap_or_default(),
            weight: member.weight,
            buckets: member.buckets,
            state: member.state.to_string(),
        };
        let one = |group: crate::rib::GroupView| view::Group {
            id: group.id,
            kind: group.kind.to_string(),
            references: group.references,
            members: group.members.iter().map(member).collect(),
        };
        self.rib.groups().map(one).collect()
    }

    fn bgp_views(&self) -> Result<Value, String> {
        let mut value = json(&self.bgp.as_ref().map(BgpSpeaker::status).unwrap_or_default())?;
        self.put_names(&mut value);
        Ok(value)
    }

    /// Puts names in the place of the numbers of VRFs, sub-interfaces and sources, wherever they are in a value.
    pub(super) fn put_names(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    let number = value.as_u64();
                    match (key.as_str(), number) {
                        ("vrf", Some(n)) => *value = self.vrf_name(VrfId(n as u16)).into(),
                        ("subif", Some(n)) => *value = self.sub_if_name(SubIfId(n as u16)).into(),
                        ("source", Some(n)) => *value = self.source_name(n as u32).into(),
                        _ => self.put_names(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.put_names(item)),
            _ => {}
        }
    }

    pub(super) fn summary(&self) -> view::Summary {
        let mut paths = BTreeMap::new();
        for source in self.rib.sources() {
            *paths.entry(self.source_name(source.source)).or_default() += source.ipv4 + source.ipv6;
        }
        let status = self.bgp.as_ref().map(BgpSpeaker::status).unwrap_or_default();
        view::Summary {
            ports: self.port_views(),
            interfaces: self.interface_views(0..usize::MAX),
            workers: self.worker_views(),
            drops: self.drop_report(),
            paths,
            routes: self.fibs.len(),
            bgp_established: status.iter().filter(|peer| peer.state == State::Established).count(),
        }
    }

    pub(super) fn vrf_name(&self, vrf: VrfId) -> String {
        self.config.vrfs.get(usize::from(vrf.0)).map_or_else(|| vrf.0.to_string(), |vrf| vrf.name.clone())
    }

    pub(super) fn vrf_by_name(&self, name: &str) -> Result<VrfId, String> {
        let found = self.config.vrfs.iter().position(|vrf| vrf.name == name);
        found.map(|i| VrfId(i as u16)).ok_or_else(|| {
            let names: Vec<_> = self.config.vrfs.iter().map(|vrf| vrf.name.as_str()).collect();
            format!("there is no VRF `{name}`; there are {}", names.join(", "))
        })
    }

    pub(super) fn sub_if_name(&self, id: SubIfId) -> String {
        let sub_if = self.config.sub_interfaces.get(usize::from(id.0));
        sub_if.map_or_else(|| id.0.to_string(), |sub_if| sub_if.name.clone())
    }
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}

/// What a histogram shows, its units being so many nanoseconds.
fn times(histogram: &Histogram, unit: f64) -> view::Times {
    let ns = |value: u64| (value as f64 * unit) as u64;
    view::Times {
        p50_ns: ns(histogram.quantile(0.5)),
        p999_ns: ns(histogram.quantile(0.999)),
        max_ns: ns(histogram.largest()),
        histogram: histogram.buckets().map(|(value, count)| (ns(value), count)).collect(),
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

pub(super) fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn tags(encapsulation: Encapsulation) -> String {
    match encapsulation {
        Encapsulation::Untagged => "-".into(),
        Encapsulation::Dot1q(tag) => tag.vid.to_string(),
        Encapsulation::QinQ { outer, inner } => format!("{}.{}", outer.vid, inner.vid),
    }
}
