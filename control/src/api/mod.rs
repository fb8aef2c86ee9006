//! The API: one JSON request a line over a unix socket, one JSON reply a line. `turnpike show` is its client.

pub mod client;
pub mod server;
pub mod view;

use serde::{Deserialize, Serialize};

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
    /// BGP sessions.
    Bgp,
    /// Route sources.
    Sources,
    /// All that the live table of `make run` needs, in one go.
    Summary,
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
        assert_eq!(routes, Ok(Request::Routes { vrf: Some("private".into()), target: None, after: None }));
        assert!(parse(r#"{"show":"everything"}"#).unwrap_err().contains("unknown variant"));
        assert!(parse("ports").is_err());
    }
}
