//! A rule as it is given: what it asks of a packet's fields, and what it then does.

/// Protocol numbers (RFC 5237) that rules treat specially.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// `ICMPv6`.
pub const ICMPV6: u8 = 58;
/// SCTP.
pub const SCTP: u8 = 132;

/// Protocols that begin with a source and a destination port: TCP, UDP, DCCP, SCTP, UDP-Lite.
pub const HAS_PORTS: [u8; 5] = [TCP, UDP, 33, SCTP, 136];

/// What a rule does with a packet that it is the first to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Lets it pass.
    Permit,
    /// Ends it.
    Deny,
    /// Counts it, and leaves it to the rules that follow.
    Count,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Addresses by prefix: the first address, host byte order, and the prefix length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// IPv4 prefixes.
    pub v4: Vec<(u32, u8)>,
    /// IPv6 prefixes.
    pub v6: Vec<(u128, u8)>,
}

/// One rule. It matches a packet that has, in each field, one of the values listed; an empty list asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// Only packets of this family.
    pub family: Option<Family>,
    /// Where the packet comes from; `None`: anywhere. A family without a prefix in it does not match.
    pub source: Option<Addresses>,
    /// Where the packet goes; as for the source.
    pub destination: Option<Addresses>,
    /// Protocols above IP; in IPv6, the one behind the extension headers.
    pub protocols: Vec<u8>,
    /// Source ports, first and last of each range. Only with protocols of [`HAS_PORTS`].
    pub source_ports: Vec<(u16, u16)>,
    /// Destination ports, as the source's.
    pub destination_ports: Vec<(u16, u16)>,
    /// Type and code of ICMP or `ICMPv6`, as ranges of `type << 8 | code`. Only with these protocols.
    pub icmp: Vec<(u16, u16)>,
    /// DSCP values, 0 to 63.
    pub dscp: Vec<u8>,
    /// VLAN ids of the outer tag that the packet came with, as ranges; 0: without a tag.
    pub outer_vlans: Vec<(u16, u16)>,
    /// The same for the inner tag.
    pub inner_vlans: Vec<(u16, u16)>,
    /// Only TCP with ACK or RST.
    pub established: bool,
    /// Only fragments other than the first.
    pub fragments: bool,
}

impl Rule {
    /// The rule that matches every packet.
    pub fn any(action: Action) -> Self {
        Self {
            action,
            family: None,
            source: None,
            destination: None,
            protocols: Vec::new(),
            source_ports: Vec::new(),
            destination_ports: Vec::new(),
            icmp: Vec::new(),
            dscp: Vec::new(),
            outer_vlans: Vec::new(),
            inner_vlans: Vec::new(),
            established: false,
            fragments: false,
        }
    }

    /// Whether it asks for what only a packet with its transport header has.
    pub(super) fn needs_transport(&self) -> bool {
        !self.source_ports.is_empty() || !self.destination_ports.is_empty() || !self.icmp.is_empty()
    }

    /// Whether it can match packets of a family at all.
    pub fn is_for(&self, family: Family) -> bool {
        let some = |addresses: &Option<Addresses>| match (addresses, family) {
            (None, _) => true,
            (Some(some), Family::V4) => !some.v4.is_empty(),
            (Some(some), Family::V6) => !some.v6.is_empty(),
        };
        self.family.is_none_or(|only| only == family) && some(&self.source) && some(&self.destination)
    }
}
