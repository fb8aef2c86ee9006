//! What a client of the API may have done.

use std::net::IpAddr;

use dataplane::ids::SubIfId;

use super::control::Control;
use super::sub_if_ids;
use crate::api::{BgpOrder, Order, Reply};

impl Control {
    /// Carries out an order. What it changes of next-hop groups reaches the workers in the same turn.
    pub(super) fn obey(&mut self, order: &Order) -> Reply {
        let done = match order {
            Order::Neighbour { address, interface, down } => self
                .hold_neighbour(*address, interface.as_deref(), *down)
                .map(|names| serde_json::json!({ "interfaces": names })),
            Order::Bgp { peer, order } => self.bgp_order(peer, *order).map(|()| serde_json::Value::Null),
            // It takes its time, and has an answer when it is done.
            Order::ReloadAcls { .. } => Err("a reload is no order for this turn".into()),
        };
        done.map_or_else(Reply::Error, Reply::Ok)
    }

    fn bgp_order(&self, peer: &str, order: BgpOrder) -> Result<(), String> {
        let speaker = self.bgp.as_ref().ok_or("there is no [bgp] in the configuration")?;
        match order {
            BgpOrder::Refresh => speaker.refresh(peer)?,
            BgpOrder::Reset => speaker.reset(peer)?,
        }
        Ok(())
    }

    fn hold_neighbour(
        &mut self,
        address: IpAddr,
        interface: Option<&str>,
        down: bool,
    ) -> Result<Vec<String>, String> {
        let on: Vec<SubIfId> = match interface {
            Some(name) => {
                let named = sub_if_ids(&self.config).find(|(_, sub_if)| sub_if.name == name);
                vec![named.map(|(id, _)| id).ok_or_else(|| format!("there is no sub-interface `{name}`"))?]
            }
            None => self.rib.on_links(address),
        };
        if on.is_empty() {
            return Err(format!("{address} is in no sub-interface's prefix; name the one that it is on"));
        }
        let mut names = Vec::new();
        for id in on {
            self.rib.hold_down(id, address, down).map_err(|error| match &names[..] {
                [] => error.to_string(),
                done => format!("{error}; done on `{}` only", done.join("`, `")),
            })?;
            let name = self.sub_if_name(id);
            let what = if down { "is taken for dead" } else { "is left to the kernel again" };
            tracing::warn!("neighbour {address} on `{name}` {what}, by order");
            names.push(name);
        }
        Ok(names)
    }
}
