//! The words of rules: protocols, ports and DSCP values by name.

use dataplane::acl::{ICMP, ICMPV6, SCTP, TCP, UDP};

/// Protocols (IANA's list), those that people filter by.
pub(super) const PROTOCOLS: [(&str, u8); 14] = [
    ("icmp", ICMP),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", TCP),
    ("udp", UDP),
    ("ipv6-in-ip", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", ICMPV6),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("sctp", SCTP),
];

/// Ports (IANA's list), those that people know by name.
pub(super) const PORTS: [(&str, u16); 18] = [
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("dns", 53),
    ("http", 80),
    ("kerberos", 88),
    ("ntp", 123),
    ("snmp", 161),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("smb", 445),
    ("isakmp", 500),
    ("syslog", 514),
    ("ldaps", 636),
    ("rdp", 3389),
    ("bfd", 3784),
    ("ipsec-nat", 4500),
];

/// A DSCP value by name: `cs0` to `cs7` (RFC 2474), `af11` to `af43` (RFC 2597), `ef` (RFC 3246), `va` (RFC 5865).
pub(super) fn dscp(word: &str) -> Option<u8> {
    let digit = |at: usize| word.as_bytes().get(at).map(|digit| digit.wrapping_sub(b'0'));
    match (word, word.len()) {
        ("ef", _) => Some(46),
        ("va", _) => Some(44),
        ("be", _) => Some(0),
        (_, 3) if word.starts_with("cs") => digit(2).filter(|class| *class < 8).map(|class| class * 8),
        (_, 4) if word.starts_with("af") => {
            let class = digit(2).filter(|class| (1..=4).contains(class))?;
            let drop = digit(3).filter(|drop| (1..=3).contains(drop))?;
            Some(class * 8 + drop * 2)
        }
        _ => None,
    }
}
