//! The API: one JSON request a line over a unix socket, one JSON reply a line. `turnpike show` is its client.

pub mod client;
pub mod server;
pub mod view;

use serde::{Deserialize, Serialize};

use crate::watch::WatchRequest;

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "show", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Ports with their counters.
    Ports,
    /// Sub-interfaces with their counters.
    Interfaces,
    /// Routes, or how one address is routed.
    Routes {
        /// Of this VRF only.
        #[serde(default)]
        vrf: Option<String>,
        /// The route for this address, or of this prefix, with its whole chain.
        #[serde(default)]
        target: Option<String>,
        /// Of this source only, by its name or kind.
        #[serde(default)]
        source: Option<String>,
        /// The page after this cursor, as the last page gave it.
        #[serde(default)]
        after: Option<String>,
    },
    /// Neighbours.
    Neighbours,
    /// Next-hop groups.
    Groups,
    /// Workers and how they spend their time.
    Workers,
    /// Drops and punts by port and reason.
    Drops,
    /// Access lists, and what each rule matched.
    Acls,
    /// BGP sessions.
    Bgp,
    /// Route sources.
    Sources,
    /// All numbers of the others, and of what they do not show: as monitoring wants them.
    Metrics,
    /// Not a question.
    #[serde(skip)]
    Do(Order),
    /// To look at packets.
    #[serde(skip)]
    Watch(WatchRequest),
    /// All that the live table of `make run` needs, in one go.
    Summary,
}

/// What can be done with a BGP session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BgpOrder {
    /// Ask the peer for all its routes again (RFC 2918).
    Refresh,
    /// End the session with Cease / Administrative Reset, and let the peer in again if it was kept out.
    Reset,
}

/// What a client may have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Takes a neighbour for dead, or leaves it to the kernel again: for who knows sooner, such as BFD.
    Neighbour {
        /// Its address.
        address: std::net::IpAddr,
        /// The sub-interface it is on; without one, each in whose prefixes it is.
        #[serde(default)]
        interface: Option<String>,
        /// Whether it is dead.
        down: bool,
    },
    /// Something with a BGP session.
    Bgp {
        /// The peer's name.
        peer: String,
        /// What.
        order: BgpOrder,
    },
    /// Reads the access lists of the configuration file anew, and puts them in force all together or not at all.
    ReloadAcls {
        /// The file, by its full path; without one, that which the router was started with.
        #[serde(default)]
        file: Option<std::path::PathBuf>,
    },
}

/// Reads a question, an order, or what to look at.
///
/// # Errors
/// It is none of them.
pub fn parse(line: &str) -> Result<Request, serde_json::Error> {
    let has = |value: &serde_json::Value, key| value.get(key).is_some();
    match serde_json::from_str(line) {
        Ok(value) if has(&value, "do") => serde_json::from_value(value).map(Request::Do),
        Ok(value) if has(&value, "watch") => serde_json::from_value(value).map(Request::Watch),
        _ => serde_json::from_str(line),
    }
}

/// The reply: a value, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why it cannot be given, for people.
    Error(String),
}

/// Longest request, in bytes.
pub const MAX_REQUEST: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_plain_json() {
        let parse = |text| serde_json::from_str::<Request>(text).map_err(|error| error.to_string());
        assert_eq!(parse(r#"{"show":"ports"}"#), Ok(Request::Ports));
        let routes = parse(r#"{"show":"routes","vrf":"private"}"#);
        assert_eq!(
            routes,
            Ok(Request::Routes { vrf: Some("private".into()), target: None, source: None, after: None })
        );
        let order = super::parse(r#"{"do":"neighbour","address":"192.0.2.1","down":true}"#).unwrap();
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(order, Request::Do(Order::Neighbour { address, interface: None, down: true }));
        let order = super::parse(r#"{"do":"bgp","peer":"frr","order":"refresh"}"#).unwrap();
        assert_eq!(order, Request::Do(Order::Bgp { peer: "frr".into(), order: BgpOrder::Refresh }));
        assert!(super::parse(r#"{"do":"everything"}"#).unwrap_err().to_string().contains("unknown variant"));
        assert!(super::parse(r#"{"show":"do"}"#).is_err());
        assert!(parse(r#"{"show":"everything"}"#).unwrap_err().contains("unknown variant"));
        assert!(parse("ports").is_err());
    }
}
