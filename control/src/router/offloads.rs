//! The ports' offloads: which are asked for and granted, what became of their checks, and who is told.

use std::collections::BTreeMap;

use dataplane::offload::{Offload, PortOffloads, State};
use dpdk_sys::PortInfo;

use super::control::Control;
use crate::config::model::Port;

/// The offloads of a port as they start.
pub fn of_port(configured: &Port, info: &PortInfo, rx_queues: u16) -> PortOffloads {
    let granted = info.offloads();
    PortOffloads::new(Offload::ALL.map(|offload| {
        let (asked, granted) = match offload {
            Offload::RxChecksum => (configured.offloads.rx_checksum, granted.rx_checksum),
            // Who has several queues wants flows dealt out to them.
            Offload::Rss => (rx_queues > 1, info.hashes_flows),
            Offload::VlanStrip => (configured.offloads.vlan_strip, granted.vlan_strip),
        };
        match (asked, granted) {
            (false, _) => State::NotAsked,
            (true, false) => State::NotGranted,
            (true, true) => State::Checking,
        }
    }))
}

impl Control {
    /// What `turnpike show ports` says of a port's offloads: by name, `in use`, or `software` and why.
    pub(super) fn offload_views(&self, port: usize) -> BTreeMap<String, String> {
        let Some(port) = self.hardware.ports.get(port) else { return BTreeMap::new() };
        let one = |offload: &Offload| {
            let text = match port.offloads.state(*offload).why_not() {
                None => "in use".to_string(),
                Some(why) => format!("software ({why})"),
            };
            (offload.name().to_string(), text)
        };
        Offload::ALL.iter().map(one).collect()
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
                let told = &mut port.told[offload as usize];
                if std::mem::replace(told, state) == state {
                    continue;
                }
                let (port, offload) = (&configured.name, offload.name());
                match state.why_not() {
                    None => tracing::info!("port `{port}`: {offload} was seen to work, and is in use"),
                    Some(why) if state.failed() => {
                        tracing::warn!("port `{port}`: {offload} is not used any more; its check {why}");
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
