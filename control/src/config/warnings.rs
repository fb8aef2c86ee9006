//! What is allowed but seldom meant.

use super::model::{Config, LinkRole, Target};
use super::session_warnings;

/// One line for each thing in `config` that works but is seldom meant.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    unused_ports(config, &mut found);
    lone_links(config, &mut found);
    far_gateways(config, &mut found);
    if !config.kernel.taps && config.neighbours.is_empty() {
        found.push(
            "[kernel] taps = false and no [[neighbour]]: no next hop gets a MAC address, so nothing is forwarded"
                .to_owned(),
        );
    }
    bgp(config, &mut found);
    session_warnings::sessions(config, &mut found);
    found
}

fn unused_ports(config: &Config, found: &mut Vec<String>) {
    for (index, port) in config.ports.iter().enumerate() {
        if !config.sub_interfaces.iter().any(|sub| usize::from(sub.port.0) == index) {
            found.push(format!("port {:?} has no interface: all that it receives is dropped", port.name));
        }
    }
}

fn lone_links(config: &Config, found: &mut Vec<String>) {
    for sub in &config.sub_interfaces {
        let Some(link) = sub.link else { continue };
        let other = config.sub_interfaces.iter().filter_map(|s| s.link).any(|other| {
            other.circuit == link.circuit && other.peering == link.peering && other.role != link.role
        });
        if !other {
            let missing = match link.role {
                LinkRole::Primary => "secondary",
                LinkRole::Secondary => "primary",
            };
            found.push(format!(
                "{:?} has no {missing} link beside it: a circuit's availability is promised for both",
                sub.name
            ));
        }
    }
}

fn far_gateways(config: &Config, found: &mut Vec<String>) {
    for route in &config.routes {
        let Target::Via(gateways) = &route.target else { continue };
        for gateway in
            gateways.iter().filter(|g| config.addresses_in(route.vrf).all(|own| !own.contains(**g)))
        {
            let vrf = config.vrfs.get(usize::from(route.vrf.0)).map_or("", |v| v.name.as_str());
            found.push(format!(
                "route {} via {gateway}: no interface in VRF {vrf:?} has a prefix with that gateway; the route \
                 counts only while another route leads to it",
                route.prefix
            ));
        }
    }
}

fn bgp(config: &Config, found: &mut Vec<String>) {
    let Some(bgp) = &config.bgp else { return };
    if bgp.peers.is_empty() {
        found.push("[bgp] has no [[bgp.peer]]: every connection is refused".to_owned());
    }
    for peer in &bgp.peers {
        if !bgp.listen.iter().any(|listen| listen.is_ipv4() == peer.address.is_ipv4()) {
            found.push(format!(
                "BGP peer {:?}: [bgp] listen has no address of its family, so it cannot connect",
                peer.name
            ));
        }
    }
}
