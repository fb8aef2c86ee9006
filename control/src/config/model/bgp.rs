//! `[bgp]` as the speaker sees it: who may connect or is called, what is taken from them, what they are told.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dataplane::ids::VrfId;
use ipnetwork::IpNetwork;

/// `[bgp]`: the native speaker.
#[derive(Clone, Debug, PartialEq)]
pub struct Bgp {
    /// Where to listen, e.g. `127.0.0.1:1790`; empty: nowhere.
    pub listen: Vec<SocketAddr>,
    /// Our AS.
    pub asn: u32,
    /// Our router id.
    pub router_id: Ipv4Addr,
    /// How long a lost session's routes stay, counted from the loss.
    pub retain: Duration,
    /// Hold time we propose.
    pub hold_time: Duration,
    /// With whom we speak; others are refused.
    pub peers: Vec<BgpPeer>,
}

/// `[[bgp.peer]]`: one external speaker that may push routes.
#[derive(Clone, Debug, PartialEq)]
pub struct BgpPeer {
    /// Its name in output; defaults to its address.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its AS; equal to ours for iBGP.
    pub asn: u32,
    /// The VRF its routes go to.
    pub vrf: VrfId,
    /// Whether we offer to receive several paths for a prefix (RFC 7911).
    pub add_path: bool,
    /// The namespace to meet it in, by name; `None`: the one turnpike started in.
    pub namespace: Option<String>,
    /// Who connects.
    pub mode: BgpMode,
    /// The port we call it on.
    pub port: u16,
    /// The address we call it from; `None`: the system chooses.
    pub local_address: Option<IpAddr>,
    /// How long to wait between two calls.
    pub connect_retry: Duration,
    /// TCP MD5 signatures (RFC 2385).
    pub password: Option<Password>,
    /// GTSM (RFC 5082): how many hops away it is at most; `None`: no check.
    pub ttl_security: Option<u8>,
    /// How much it may announce.
    pub max_prefix: MaxPrefix,
    /// What is taken from it; `None`: everything.
    pub import: Option<Arc<Filter>>,
    /// What it is told.
    pub announce: Vec<Announcement>,
    /// How much it may be told.
    pub announce_limits: Option<AnnounceLimits>,
}

impl BgpPeer {
    /// A passive peer with the defaults of the configuration.
    pub fn new(name: String, address: IpAddr, asn: u32, vrf: VrfId) -> Self {
        Self {
            name,
            address,
            asn,
            vrf,
            add_path: true,
            namespace: None,
            mode: BgpMode::Passive,
            port: 179,
            local_address: None,
            connect_retry: Duration::from_secs(10),
            password: None,
            ttl_security: None,
            max_prefix: MaxPrefix::default(),
            import: None,
            announce: Vec::new(),
            announce_limits: None,
        }
    }
}

/// Who makes the TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BgpMode {
    /// The peer.
    Passive,
    /// We.
    Active,
    /// Whoever is first; of two connections one is kept (RFC 4271, section 6.8).
    Both,
}

/// A password, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Most bytes that the kernel takes.
    pub const LONGEST: usize = 80;

    /// `None` if it is empty or too long.
    pub fn new(text: String) -> Option<Self> {
        (1..=Self::LONGEST).contains(&text.len()).then_some(Self(text))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(password)")
    }
}

/// How many prefixes a peer may announce (with add-path: paths), before filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxPrefix {
    /// Of IPv4; `None`: as many as the speaker bears.
    pub ipv4: Option<u32>,
    /// Of IPv6.
    pub ipv6: Option<u32>,
    /// The share in percent from which on it is warned.
    pub warning: u8,
    /// What happens beyond the limit.
    pub action: MaxPrefixAction,
}

impl Default for MaxPrefix {
    fn default() -> Self {
        Self { ipv4: None, ipv6: None, warning: 75, action: MaxPrefixAction::Shut }
    }
}

/// What happens to a session that goes beyond its limit of prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxPrefixAction {
    /// A line in the log; the session stays.
    Warn,
    /// Cease / Maximum Number of Prefixes Reached; the peer stays out until it is reset by hand.
    Shut,
    /// As `Shut`, but it may come back after this time.
    Restart(Duration),
}

/// `[[bgp.filter]]`: ordered rules, the first that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its name.
    pub name: String,
    /// The rules.
    pub rules: Vec<Rule>,
    /// Whether what no rule matches is permitted.
    pub permit_rest: bool,
}

/// One rule: all kinds of condition that it has must hold, of each kind one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rule {
    /// Prefixes with ranges of length; empty: any.
    pub prefixes: Vec<PrefixMatch>,
    /// Communities, standard and large; empty: any.
    pub communities: Vec<CommunityMatch>,
    /// ASs that the path goes through; empty: any.
    pub as_path: Vec<u32>,
    /// ASs that the path starts in; empty: any.
    pub origin_as: Vec<u32>,
    /// Whether the route is taken.
    pub permit: bool,
    /// `LOCAL_PREF` to give it.
    pub local_pref: Option<u32>,
    /// Weight to give it.
    pub weight: Option<u32>,
    /// Administrative distance to give it.
    pub distance: Option<u8>,
}

/// Prefixes within `prefix` with a length of `ge` to `le`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixMatch {
    /// What they are within.
    pub prefix: IpNetwork,
    /// Shortest length.
    pub ge: u8,
    /// Longest length.
    pub le: u8,
}

/// A community, or all that agree in some of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommunityMatch {
    /// `AS:value` (RFC 1997); `None` stands for any.
    Standard([Option<u16>; 2]),
    /// `AS:value:value` (RFC 8092); `None` stands for any.
    Large([Option<u32>; 3]),
}

/// `[[bgp.announce]]`, one prefix of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What is announced.
    pub prefix: IpNetwork,
    /// Next hop; `None`: our address of the session.
    pub next_hop: Option<IpAddr>,
    /// COMMUNITIES.
    pub communities: Vec<u32>,
}

/// How many prefixes a circuit's far side takes before it drops the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AnnounceLimits {
    /// Of IPv4.
    pub ipv4: usize,
    /// Of IPv6.
    pub ipv6: usize,
}

impl AnnounceLimits {
    /// Private peering.
    pub const PRIVATE: Self = Self { ipv4: 4000, ipv6: 100 };
    /// Private peering with the premium add-on.
    pub const PRIVATE_PREMIUM: Self = Self { ipv4: 10_000, ipv6: 100 };
    /// Microsoft peering.
    pub const MICROSOFT: Self = Self { ipv4: 200, ipv6: 200 };
}
