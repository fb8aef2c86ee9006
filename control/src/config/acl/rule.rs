//! One rule as text: `permit tcp from 10.0.0.0/8 to any port 443, 8000-8100 established`.
//!
//! ```text
//! rule      = action [family] [protocol, …] clause …
//! action    = permit | deny | count
//! family    = any | ipv4 | ipv6
//! clause    = from ADDRESS, … [port PORT, …] | to ADDRESS, … [port PORT, …] | established | fragments
//!           | type NUMBER, … [code NUMBER, …] | dscp DSCP, … | outer-vlan ID, … | inner-vlan ID, …
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::acl::{Action, Addresses, Family, HAS_PORTS, ICMP, ICMPV6, Rule, TCP};
use ipnetwork::IpNetwork;

use super::super::suggest::hint;
use super::words;

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Where, in bytes from the beginning of the text.
    pub at: usize,
    /// What, and the way out.
    pub message: String,
}

/// The words that begin a clause.
const CLAUSES: [&str; 8] =
    ["from", "to", "established", "fragments", "type", "dscp", "outer-vlan", "inner-vlan"];
const ACTIONS: [(&str, Action); 3] =
    [("permit", Action::Permit), ("deny", Action::Deny), ("count", Action::Count)];

/// Reads a rule.
///
/// # Errors
/// What is wrong with it, at its place.
pub fn parse_rule(text: &str) -> Result<Rule, RuleError> {
    let mut words = Words::new(text);
    let mut rule = Rule::any(action(&mut words)?);
    family_and_protocols(&mut words, &mut rule)?;
    let protocols_end = words.last;
    let mut seen: Vec<&str> = Vec::new();
    while let Some(word) = words.next() {
        if seen.contains(&word) {
            return Err(
                words.error(format!("`{word}` stands twice: give all its values after one, with commas"))
            );
        }
        seen.push(word);
        clause(word, &mut words, &mut rule)?;
    }
    checked(rule, protocols_end)
}

fn action(words: &mut Words<'_>) -> Result<Action, RuleError> {
    let word = words.next().unwrap_or_default();
    let action = ACTIONS.iter().find(|(name, _)| *name == word);
    action.map(|(_, action)| *action).ok_or_else(|| {
        let hint = hint(word, ACTIONS.iter().map(|(name, _)| *name));
        words.error(format!("a rule begins with `permit`, `deny` or `count`, not {word:?}{hint}"))
    })
}

fn family_and_protocols(words: &mut Words<'_>, rule: &mut Rule) -> Result<(), RuleError> {
    rule.family = match words.peek() {
        Some("ipv4") => Some(Family::V4),
        Some("ipv6") => Some(Family::V6),
        Some("ip") => {
            words.next();
            return Err(words.error("`ip` may mean either: write `any`, `ipv4` or `ipv6`".to_owned()));
        }
        _ => None,
    };
    if rule.family.is_some() || words.peek() == Some("any") {
        words.next();
    }
    if words.peek().is_none_or(|word| word == "port" || CLAUSES.contains(&word)) {
        return Ok(());
    }
    rule.protocols = words.list("a protocol", protocol)?;
    Ok(())
}

fn protocol(word: &str) -> Result<u8, String> {
    let named = words::PROTOCOLS.iter().find(|(name, _)| *name == word).map(|(_, number)| *number);
    named.or_else(|| number(word, u8::MAX.into()).map(|number| number as u8)).ok_or_else(|| {
        let names = words::PROTOCOLS.iter().map(|(name, _)| *name).chain(CLAUSES);
        format!("{word:?} is no protocol{}; a number from 0 to 255 is taken, too", hint(word, names))
    })
}

fn clause<'t>(word: &'t str, words: &mut Words<'t>, rule: &mut Rule) -> Result<(), RuleError> {
    match word {
        "from" => (rule.source, rule.source_ports) = end(words)?,
        "to" => (rule.destination, rule.destination_ports) = end(words)?,
        "established" => rule.established = true,
        "fragments" => rule.fragments = true,
        "type" => rule.icmp = icmp(words)?,
        "dscp" => rule.dscp = words.list("a DSCP", dscp)?,
        "outer-vlan" => rule.outer_vlans = words.list("a VLAN id", vlans)?,
        "inner-vlan" => rule.inner_vlans = words.list("a VLAN id", vlans)?,
        "port" => {
            return Err(words.error(
                "`port` follows the addresses that it belongs to: `from any port 53`, `to any port 53`"
                    .to_owned(),
            ));
        }
        _ => {
            let hint = hint(word, CLAUSES);
            return Err(words.error(format!("{word:?} is nothing that a rule asks for{hint}")));
        }
    }
    Ok(())
}

/// One end of a rule: addresses, `None` for any, and ports.
type End = (Option<Addresses>, Vec<(u16, u16)>);

/// What follows `from` or `to`.
fn end(words: &mut Words<'_>) -> Result<End, RuleError> {
    let addresses = if words.peek() == Some("any") {
        words.next();
        None
    } else {
        let mut addresses = Addresses::default();
        for prefix in words.list("an address", prefix)? {
            match prefix {
                IpNetwork::V4(prefix) => addresses.v4.push((prefix.ip().to_bits(), prefix.prefix())),
                IpNetwork::V6(prefix) => addresses.v6.push((prefix.ip().to_bits(), prefix.prefix())),
            }
        }
        Some(addresses)
    };
    if words.peek() != Some("port") {
        return Ok((addresses, Vec::new()));
    }
    words.next();
    Ok((addresses, words.list("a port", ports)?))
}

fn prefix(word: &str) -> Result<IpNetwork, String> {
    let wrong = || {
        format!("{word:?} is no address: write for example 192.0.2.1, 192.0.2.0/24, 2001:db8::/32, or `any`")
    };
    let Some((address, length)) = word.split_once('/') else {
        return word.parse::<IpAddr>().map(IpNetwork::from).map_err(|_| wrong());
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let length = number(length, 128).map(|length| length as u8);
    let prefix = length.and_then(|length| IpNetwork::new(address, length).ok());
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.ok_or_else(|| format!("{word:?}: a prefix length goes from 0 to {most}"))?;
    if prefix.ip() != prefix.network() {
        return Err(format!("{word} has host bits: write {}/{}", prefix.network(), prefix.prefix()));
    }
    Ok(prefix)
}

fn ports(word: &str) -> Result<(u16, u16), String> {
    if let Some((_, port)) = words::PORTS.iter().find(|(name, _)| *name == word) {
        return Ok((*port, *port));
    }
    range(word, u16::MAX, "a port").map_err(|message| {
        let looks_named = word.starts_with(|c: char| c.is_ascii_alphabetic());
        let hint =
            if looks_named { hint(word, words::PORTS.iter().map(|(name, _)| *name)) } else { String::new() };
        message + &hint
    })
}

fn vlans(word: &str) -> Result<(u16, u16), String> {
    if word == "none" { Ok((0, 0)) } else { range(word, 4094, "a VLAN id").map_err(|m| m + ", or `none`") }
}

fn dscp(word: &str) -> Result<u8, String> {
    let number = number(word, 63).map(|number| number as u8);
    number.or_else(|| words::dscp(word)).ok_or_else(|| {
        format!("{word:?} is no DSCP: write a number from 0 to 63, or a name such as ef, af41, cs6")
    })
}

/// What follows `type`: types, and their codes.
fn icmp(words: &mut Words<'_>) -> Result<Vec<(u16, u16)>, RuleError> {
    let byte = |word: &str| range(word, 255, "a type or code");
    let types = words.list("a type", byte)?;
    let mut codes = vec![(0, 255)];
    if words.peek() == Some("code") {
        words.next();
        codes = words.list("a code", byte)?;
    }
    if codes == [(0, 255)] {
        return Ok(types.into_iter().map(|(first, last)| (first << 8, last << 8 | 255)).collect());
    }
    // Each type once, however often it was written: 256 of them, with at most 128 ranges of codes.
    let each: BTreeSet<u16> = types.into_iter().flat_map(|(first, last)| first..=last).collect();
    codes.sort_unstable();
    codes.dedup_by(|next, before| {
        let joins = next.0 <= before.1 + 1;
        before.1 = if joins { before.1.max(next.1) } else { before.1 };
        joins
    });
    Ok(each
        .into_iter()
        .flat_map(|kind| codes.iter().map(move |(first, last)| (kind << 8 | first, kind << 8 | last)))
        .collect())
}

/// `a` or `a-b`.
fn range(word: &str, most: u16, what: &str) -> Result<(u16, u16), String> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    match (number(first, most), number(last, most)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(first), Some(last)) => Err(format!("{word}: a range rises, write {last}-{first}")),
        _ => Err(format!("{word:?} is not {what} nor a range of them, from 0 to {most}")),
    }
}

/// A decimal number up to `most`.
fn number(word: &str, most: u16) -> Option<u16> {
    let digits = !word.is_empty() && word.len() <= 5 && word.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| word.parse().ok()).flatten().filter(|number| *number <= most)
}

/// What spans several parts of a rule. `at`: where its protocols end.
fn checked(mut rule: Rule, at: usize) -> Result<Rule, RuleError> {
    let error = |message: &str| Err(RuleError { at, message: message.to_owned() });
    let only = |allowed: &[u8]| {
        !rule.protocols.is_empty() && rule.protocols.iter().all(|protocol| allowed.contains(protocol))
    };
    let ports = !rule.source_ports.is_empty() || !rule.destination_ports.is_empty();
    if ports && !only(&HAS_PORTS) {
        return error("ports need protocols that have them: write `tcp`, `udp`, `tcp, udp` or `sctp`");
    }
    if !rule.icmp.is_empty() && !only(&[ICMP, ICMPV6]) {
        return error("`type` needs `icmp` or `icmpv6`");
    }
    if rule.established && !only(&[TCP]) {
        return error("`established` needs `tcp`, and no other protocol");
    }
    if rule.fragments && (ports || rule.established || !rule.icmp.is_empty()) {
        return error(
            "`fragments` are those without ports, types and flags: leave these out, or write two rules",
        );
    }
    if rule.protocols == [ICMP] && rule.family.is_none() {
        rule.family = Some(Family::V4);
    } else if rule.protocols == [ICMPV6] && rule.family.is_none() {
        rule.family = Some(Family::V6);
    }
    if !rule.is_for(Family::V4) && !rule.is_for(Family::V6) {
        return error("matches nothing: its addresses and its protocol are of different families");
    }
    match without_effect(&rule) {
        Some(message) => Err(RuleError { at, message }),
        None => Ok(rule),
    }
}

/// Protocols that are one family's alone: ICMP and IGMP, and `ICMPv6`.
const OF_ONE_FAMILY: [(u8, Family); 3] = [(ICMP, Family::V4), (2, Family::V4), (ICMPV6, Family::V6)];

/// What is wrong with a rule for one family that names a protocol or addresses of the other: that part of it would never
/// match, and whoever wrote it believes that it does.
fn without_effect(rule: &Rule) -> Option<String> {
    let (only, other) = match (rule.is_for(Family::V4), rule.is_for(Family::V6)) {
        (true, false) => (Family::V4, Family::V6),
        (false, true) => (Family::V6, Family::V4),
        _ => return None,
    };
    let name = |family| if family == Family::V4 { "IPv4" } else { "IPv6" };
    let way_out =
        format!("the rule is for {} only: leave it out, or write a rule for each family", name(only));
    let protocol = OF_ONE_FAMILY.iter().find(|(number, of)| *of == other && rule.protocols.contains(number));
    if let Some((number, _)) = protocol {
        let named = words::PROTOCOLS.iter().find(|(_, named)| named == number);
        let protocol = named.map_or_else(|| number.to_string(), |(named, _)| format!("`{named}`"));
        return Some(format!("{protocol} is a protocol of {}, and {way_out}", name(other)));
    }
    let lost = [&rule.source, &rule.destination].into_iter().flatten().find_map(|addresses| match other {
        Family::V4 => addresses.v4.first().map(|(first, len)| format!("{}/{len}", Ipv4Addr::from(*first))),
        Family::V6 => addresses.v6.first().map(|(first, len)| format!("{}/{len}", Ipv6Addr::from(*first))),
    });
    lost.map(|prefix| format!("{prefix} matches nothing, and {way_out}"))
}

/// The words of a text, with their places. A comma is a word of its own.
struct Words<'t> {
    text: &'t str,
    /// Where the rest begins.
    rest: usize,
    /// Where the word that was taken last begins.
    last: usize,
}

impl<'t> Words<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, rest: 0, last: 0 }
    }

    /// The next word, and where it begins.
    fn look(&self) -> Option<(usize, &'t str)> {
        let rest = self.text.get(self.rest..)?;
        let trimmed = rest.trim_start();
        let start = self.text.len() - trimmed.len();
        let len = match trimmed.chars().next()? {
            ',' => 1,
            _ => trimmed.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(trimmed.len()),
        };
        Some((start, &trimmed[..len]))
    }

    fn peek(&self) -> Option<&'t str> {
        self.look().map(|(_, word)| word)
    }

    /// Takes the next word.
    fn next(&mut self) -> Option<&'t str> {
        let Some((start, word)) = self.look() else {
            self.last = self.text.trim_end().len();
            return None;
        };
        (self.last, self.rest) = (start, start + word.len());
        Some(word)
    }

    /// An error at the word that was taken last.
    fn error(&self, message: String) -> RuleError {
        RuleError { at: self.last, message }
    }

    /// One or more values with commas between them.
    fn list<T>(
        &mut self,
        what: &str,
        convert: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, RuleError> {
        let mut list = Vec::new();
        loop {
            match self.next() {
                Some(word) if word != "," => list.push(convert(word).map_err(|message| self.error(message))?),
                _ => return Err(self.error(format!("{what} is missing here"))),
            }
            if self.peek() != Some(",") {
                return Ok(list);
            }
            self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use dataplane::acl::UDP;

    use super::*;

    fn rule(text: &str) -> Rule {
        parse_rule(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    #[test]
    fn rules_say_what_they_say() {
        let any = |action| Rule::any(action);
        assert_eq!(rule("deny any"), any(Action::Deny));
        assert_eq!(rule("  count  "), any(Action::Count));
        let web =
            rule("permit tcp from 10.0.0.0/8,192.0.2.1 port 1024-65535 to any port 80, https established");
        let source = Addresses { v4: vec![(0x0a00_0000, 8), (0xc000_0201, 32)], v6: vec![] };
        let expected = Rule {
            source: Some(source),
            protocols: vec![TCP],
            source_ports: vec![(1024, 65535)],
            destination_ports: vec![(80, 80), (443, 443)],
            established: true,
            ..any(Action::Permit)
        };
        assert_eq!(web, expected);
        let marked =
            rule("deny ipv6 tcp,udp,47 to 2001:db8::/32 dscp ef,af41,0 outer-vlan 10-20 inner-vlan none");
        let destination = Addresses { v4: vec![], v6: vec![(0x2001_0db8 << 96, 32)] };
        let expected = Rule {
            family: Some(Family::V6),
            destination: Some(destination),
            protocols: vec![TCP, UDP, 47],
            dscp: vec![46, 34, 0],
            outer_vlans: vec![(10, 20)],
            inner_vlans: vec![(0, 0)],
            ..any(Action::Deny)
        };
        assert_eq!(marked, expected);
        let icmp = rule("permit icmp type 3 code 4,13");
        assert_eq!((icmp.icmp, icmp.family), (vec![(0x0304, 0x0304), (0x030d, 0x030d)], Some(Family::V4)));
        assert_eq!(rule("permit icmpv6 type 128-129").icmp, [(0x8000, 0x81ff)]);
        assert!(rule("permit udp from any to 192.0.2.0/24 fragments").fragments);
        for both in
            ["permit icmp, icmpv6", "permit any 1, 58 type 3 to 192.0.2.0/24, fd00::/8", "permit ipv6 4, 41"]
        {
            assert!(rule(both).is_for(Family::V6), "{both}");
        }
    }

    #[test]
    fn mistakes_are_named_at_their_place() {
        for (text, at, part) in [
            ("", 0, "begins with"),
            ("allow tcp", 0, "begins with"),
            ("permt tcp", 0, "did you mean \"permit\"?"),
            ("permit tcpp from any", 7, "did you mean \"tcp\"?"),
            ("permit ip from any", 7, "`any`, `ipv4` or `ipv6`"),
            ("permit 256", 7, "no protocol"),
            ("permit tcp from 10.0.0.1/8 to any", 16, "write 10.0.0.0/8"),
            ("permit tcp from 10.0.0.0/33", 16, "0 to 32"),
            ("permit tcp from 10.0.0.0/8, to any", 28, "no address"),
            ("permit tcp from", 15, "an address is missing"),
            ("permit tcp to any port", 22, "a port is missing"),
            ("permit tcp to any port 80,", 26, "a port is missing"),
            ("permit tcp to any port 70000", 23, "from 0 to 65535"),
            ("permit tcp to any port 90-80", 23, "write 80-90"),
            ("permit tcp to any port htps", 23, "did you mean \"https\"?"),
            ("permit tcp port 80", 11, "follows the addresses"),
            ("permit any port 80", 11, "follows the addresses"),
            ("permit tcp to any to any", 18, "stands twice"),
            ("permit tcp to any estblished", 18, "did you mean \"established\"?"),
            ("permit gre to any port 80", 7, "ports need protocols"),
            ("permit any to any port 80", 7, "ports need protocols"),
            ("permit tcp type 3", 7, "needs `icmp`"),
            ("permit udp established", 7, "needs `tcp`"),
            ("permit established", 0, "needs `tcp`"),
            ("permit udp to any port 53 fragments", 7, "without ports"),
            ("permit any dscp 64", 16, "no DSCP"),
            ("permit any outer-vlan 4095", 22, "or `none`"),
            ("permit any from 10.0.0.0/8 to 2001:db8::/32", 7, "different families"),
            ("permit icmp to 2001:db8::/32", 7, "different families"),
            ("permit ipv4 from 2001:db8::/32", 7, "different families"),
            ("permit ipv6 to 192.0.2.1", 7, "different families"),
            ("permit ipv4 icmpv6", 12, "`icmpv6` is a protocol of IPv6, and the rule is for IPv4 only"),
            ("deny ipv4 58 type 3", 10, "`icmpv6` is a protocol of IPv6"),
            ("permit ipv6 icmp", 12, "`icmp` is a protocol of IPv4, and the rule is for IPv6 only"),
            ("permit ipv6 tcp, 1", 17, "`icmp` is a protocol of IPv4"),
            ("permit ipv6 igmp", 12, "`igmp` is a protocol of IPv4"),
            ("permit icmp, icmpv6 to 192.0.2.0/24", 13, "`icmpv6` is a protocol of IPv6"),
            ("permit ipv4 from 10.0.0.0/8, 2001:db8::/32", 7, "2001:db8::/32 matches nothing, and the rule"),
            ("permit icmpv6 to 10.0.0.0/8, 2001:db8::1", 7, "10.0.0.0/8 matches nothing"),
            ("permit tcp from 10.0.0.0/8 to 192.0.2.1, fd00::/8", 7, "fd00::/8 matches nothing"),
        ] {
            let error = parse_rule(text).expect_err(text);
            assert_eq!(error.at, at, "{text}: {error:?}");
            assert!(error.message.contains(part), "{text}: {error:?}");
        }
    }

    #[test]
    fn names_of_dscp_values_are_the_rfcs() {
        for (name, value) in
            [("be", 0), ("cs1", 8), ("cs7", 56), ("af11", 10), ("af23", 22), ("af43", 38), ("ef", 46)]
        {
            assert_eq!(dscp(name), Ok(value));
        }
        for name in ["cs8", "af44", "af10", "af50", "af1", "xx"] {
            assert!(dscp(name).is_err(), "{name}");
        }
    }
}
