//! The ports' offloads: which are asked for and granted, what became of their checks, and who is told.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use dataplane::header::ethernet;
use dataplane::ids::{PortId, SubIfId};
use dataplane::offload::{Kinds, Offload, PortOffloads, State};
use dataplane::sub_interface::{SubInterface, Tags};
use dpdk_sys::PortInfo;

use super::control::Control;
use super::hardware::OpenPort;
use super::tag_checks::{Neighbour, TagCheck};
use crate::config::model as config;

/// The offloads of a port as they start.
pub fn of_port(configured: &config::Port, info: &PortInfo, rx_queues: u16) -> PortOffloads {
    let granted = info.offloads();
    PortOffloads::new(Offload::ALL.map(|offload| {
        let (asked, granted) = match offload {
            Offload::RxChecksum => (configured.offloads.rx_checksum, granted.rx_checksum),
            // Who has several queues wants flows dealt out to them.
            Offload::Rss => (rx_queues > 1, info.hashes_flows),
            Offload::VlanStrip => (configured.offloads.vlan_strip, granted.vlan_strip),
            Offload::VlanInsert => (configured.offloads.vlan_insert, granted.vlan_insert),
        };
        match (asked, granted) {
            (false, _) => State::NotAsked,
            (true, false) => State::NotGranted,
            (true, true) => State::Checking,
        }
    }))
}

/// The checks of ports that were asked to put tags on, and can.
pub fn tag_checks(ports: &[OpenPort]) -> Vec<TagCheck> {
    let asked = |port: &OpenPort| port.offloads.state(Offload::VlanInsert) == State::Checking;
    let asked = ports.iter().enumerate().filter(|(_, port)| asked(port));
    asked.map(|(number, _)| TagCheck::new(PortId(number as u16), Instant::now())).collect()
}

/// The kinds of frames for which an offload is not in use, when it is.
fn exception(offloads: &PortOffloads, offload: Offload) -> Kinds {
    if offload == Offload::Rss { offloads.not_dealt_out() } else { Kinds::NONE }
}

/// Whether a port may put on the tag of what leaves by a sub-interface.
fn may_have_its_tag_put_on(sub_if: &SubInterface) -> bool {
    matches!(sub_if.tags, Tags::One(tag) if tag.tpid == ethernet::TPID_8021Q)
}

/// An IPv6 address of ours on a sub-interface, as configured: its link-local one is the kernel's.
fn own_v6(sub_if: &config::SubInterface) -> Option<Ipv6Addr> {
    sub_if.addresses.iter().find_map(|address| match address.ip() {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    })
}

impl Control {
    /// What `turnpike show ports` says of a port's offloads: by name, `in use`, and for what not, or `software` and why.
    pub(super) fn offload_views(&self, port: usize) -> BTreeMap<String, String> {
        let Some(port) = self.hardware.ports.get(port) else { return BTreeMap::new() };
        let one = |offload: &Offload| {
            let text = match port.offloads.state(*offload).why_not() {
                None => match exception(&port.offloads, *offload).names() {
                    None => "in use".to_string(),
                    Some(names) => format!("in use, except for frames with {names}"),
                },
                Some(why) => format!("software ({why})"),
            };
            (offload.name().to_string(), text)
        };
        Offload::ALL.iter().map(one).collect()
    }

    /// Asks neighbours whether ports put tags on, as their checks want it.
    pub(super) fn check_tags(&mut self, now: Instant) {
        let sub_interfaces = &self.publisher.tables.sub_interfaces;
        for check in &mut self.punts.tag_checks {
            let Some(port) = self.hardware.ports.get(usize::from(check.port().0)) else { continue };
            // Some NICs (82574) put tags on only while they take them off, so it must be clear first whether they do.
            let failed = port.offloads.state(Offload::VlanInsert).failed();
            if failed || port.offloads.state(Offload::VlanStrip) == State::Checking {
                continue;
            }
            let number = check.port();
            let ours = |id: SubIfId| own_v6(self.config.sub_interfaces.get(usize::from(id.0))?);
            let wanted = |id: SubIfId, address: IpAddr| {
                sub_interfaces
                    .get(id)
                    .is_some_and(|sub_if| sub_if.port == number && may_have_its_tag_put_on(sub_if))
                    && (address.is_ipv4() || ours(id).is_some())
            };
            let (question, found) = check.step(now, |last| {
                let next = self.neighbours.after(last.map(|last| (last.sub_if, last.address)), wanted);
                next.map(|(sub_if, address, mac)| {
                    let ours = ours(sub_if).unwrap_or(Ipv6Addr::UNSPECIFIED);
                    Neighbour { sub_if, address, ours, mac }
                })
            });
            if let Some(found) = found {
                port.offloads.found_tags_put_on(found);
            }
            let Some(question) = question else { continue };
            let id = question.whom.sub_if;
            if let Some(sub_if) = sub_interfaces.get(id) {
                let frame = question.frame(sub_if.mac);
                self.punts.forwarder.send_with_tags(&frame, id, sub_if, question.by_nic);
            }
        }
    }

    /// Has ports take tags off, or leave them on, as their checks want it, and tells of offloads whose checks have
    /// ended.
    pub(super) fn see_to_offloads(&mut self) {
        for port in &mut self.hardware.ports {
            let wanted = port.offloads.wants_tags_off();
            if wanted != port.takes_tags_off {
                port.takes_tags_off = wanted;
                let done = port.port.set_vlan_strip(wanted);
                if let Err(error) = &done {
                    tracing::warn!("{error}");
                }
                if wanted {
                    port.offloads.takes_tags_off(done.is_ok());
                }
            }
        }
        for (configured, port) in self.config.ports.iter().zip(&mut self.hardware.ports) {
            for offload in Offload::ALL {
                let state = port.offloads.state(offload);
                let exception = exception(&port.offloads, offload);
                let told = &mut port.told[offload as usize];
                if std::mem::replace(told, (state, exception)) == (state, exception) {
                    continue;
                }
                let (port, offload) = (&configured.name, offload.name());
                match state.why_not() {
                    None => match exception.names() {
                        None => tracing::info!("port `{port}`: {offload} was seen to work, and is in use"),
                        Some(names) => tracing::warn!(
                            "port `{port}`: {offload} is in use, but gives all frames with {names} to one queue; with \
                             `hand_over` in [workers] the other workers get their share"
                        ),
                    },
                    Some(why) if state.failed() => {
                        tracing::warn!("port `{port}`: {offload} is not used any more; its check {why}");
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
