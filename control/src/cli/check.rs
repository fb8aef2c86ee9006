//! `turnpike check`: every error of a configuration file, or what it describes.

use std::path::Path;

use super::print;
use crate::config::{self, model::Config};

/// Checks `file`.
///
/// # Errors
/// All that is wrong with it, a line each.
pub fn check(file: &Path) -> Result<(), String> {
    let config = config::load(file).map_err(|errors| errors.to_string())?;
    let mut out = String::new();
    for warning in config::warnings(&config) {
        out.push_str(&format!("{}: warning: {warning}\n", file.display()));
    }
    out.push_str(&format!("{}: no errors; {}\n", file.display(), describe(&config)));
    print(&out)
}

/// What a configuration has, in one line.
pub fn describe(config: &Config) -> String {
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let peers = config.bgp.as_ref().map_or(0, |bgp| bgp.peers.len());
    [
        count(config.ports.len(), "port", "ports"),
        count(config.circuits.len(), "circuit", "circuits"),
        count(config.sub_interfaces.len(), "sub-interface", "sub-interfaces"),
        count(config.vrfs.len(), "VRF", "VRFs"),
        count(config.routes.len(), "static route", "static routes"),
        count(peers, "BGP peer", "BGP peers"),
    ]
    .join(", ")
}
