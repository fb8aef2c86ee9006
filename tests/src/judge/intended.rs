//! The list of intended differences: where turnpike does not do what Linux does, and why. From a frame and what Linux
//! does with it follows here, byte for byte, what turnpike must send. Everything that is not in this list must be the
//! same.
//!
//! | what | Linux | turnpike | why |
//! |---|---|---|---|
//! | identification of an IPv4 error | one of its own counters | another | any that is unique will do (RFC 6864, section 4.1) |
//! | recorded times | its clock | ours | they were a moment apart |
//! | how many errors are sent | its limits | ours | RFC 1812, section 4.3.2.8, and RFC 4443, section 2.4 (f), ask for limits, not for which: both are told to have none |
//! | [`Martian`](Difference::Martian): IPv4 from or to 0/8 and 240/4, IPv6 from or to `::` and `::1` and `::ffff:0:0/96` | forwarded, or an error | dropped | RFC 1812, sections 5.3.7 and 4.3.2.7; RFC 6890; RFC 4291, sections 2.5.2, 2.5.3 and 2.5.5.2 |
//! | [`LinkLocal`](Difference::LinkLocal): from or to 169.254/16 and fe80::/10 | IPv4 forwarded; an error for IPv6 | dropped | RFC 3927, section 7; RFC 4291, section 2.5.6. An error (SHOULD, RFC 4443, section 3.1) would go to an address that the kernel's side resolves |
//! | [`NetworkAddress`](Difference::NetworkAddress): to, or an error for, the network address of a connected prefix | forwarded | dropped | RFC 1812, section 5.3.5.3: an obsolete form of directed broadcast |
//! | [`ForKernel`](Difference::ForKernel): to our own addresses, and to groups | an answer | none | the kernel's side answers over the TAP, and here there is none; errors about IPv4 options and IPv6 hop-by-hop options that a router owes must be the same, but for groups |
//! | [`BeyondOffset`](Difference::BeyondOffset): IPv4 fragments that, when cut again, reach beyond what the offset can say | sent with an offset that wraps | dropped | RFC 791, section 3.1: no datagram has them |
//! | [`Jumbogram`](Difference::Jumbogram): IPv6 hop-by-hop options in a packet without payload | taken for a jumbogram | dropped | RFC 2675, section 1: for links of more than 65,575 bytes |
//! | [`LinkGroup`](Difference::LinkGroup): errors about a unicast within a link-layer broadcast | some | none | RFC 4443, section 2.4 (e), allows them and does not ask for them; RFC 1812, section 4.3.2.7 |
//! | [`Redirect`](Difference::Redirect): errors about ICMPv6 redirects | sent | none | RFC 4443, section 2.4 (e.2) |
//! | [`NoIpv6`](Difference::NoIpv6): IPv6 that comes in on a link of less than 1280 bytes | dropped: there is no IPv6 | forwarded as from any other, without errors: there is no address to send them from | RFC 8200, section 5, is about what is sent over a link |
//! | [`Options`](Difference::Options): an IPv4 error about a packet with options | echoes routes and times, or is not sent when they have no room; goes along the reversed source route; quotes options as far as it changed them | no options, straight to the source, quotes them as received | RFC 1812, section 4.3.2.6: only source routes are reversed, and those are not followed (RFC 7126, section 4.3); RFC 792: "the Internet header ... of the original datagram" |
//! | [`ErrorSource`](Difference::ErrorSource): source of an IPv6 error | our address on the link that it leaves by | on the link that the packet came in on | RFC 4443, section 2.2 (d): a choice that tells more; the same as in IPv4 (RFC 1812, section 4.3.2.4) |
//! | [`Stamp`](Difference::Stamp): time and address in a timestamp option | our address towards the source; a time at group and broadcast addresses too | our address on the link that the packet came in on; a time at ours alone | RFC 791, section 3.1 |
//! | [`Tail`](Difference::Tail): bytes behind the end of IPv4 options | cleared | kept | RFC 791, section 3.1, does not say; a packet that has nothing to be recorded goes on as it is |
//! | [`Labels`](Difference::Labels): security labels (CIPSO, CALIPSO), and telemetry (IOAM) | checked; telemetry for its place, a multiple of four, even where it is off | passed on as unknown options | turnpike knows neither (RFC 5570, section 5, FIPS 188 and RFC 9486, section 4, are for nodes that do) |

use std::net::IpAddr;

use crate::frame;
use crate::judge::linux::{self, Linux, Sent};
use crate::judge::plan::{self, Place};
use crate::judge::received::{Received, header_len, options, walk, walk6};

/// Record route, timestamp, loose and strict source route: Linux echoes them.
const RECORD_ROUTE: u8 = 7;
const STAMP: u8 = 68;
const SOURCE_ROUTES: [u8; 2] = [131, 137];
/// Security labels of IPv4 and IPv6.
const CIPSO: u8 = 134;
const CALIPSO: u8 = 7;
/// Telemetry of IPv6 (RFC 9486).
const IOAM: u8 = 0x31;
/// Options of the same form that no router knows and that all pass on.
const UNKNOWN: u8 = 0x9e;
const UNKNOWN6: u8 = 0x1e;

/// An intended difference: see the list above.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    Martian,
    LinkLocal,
    NetworkAddress,
    ForKernel,
    BeyondOffset,
    Jumbogram,
    LinkGroup,
    Redirect,
    NoIpv6,
    Options,
    ErrorSource,
    Stamp,
    Tail,
    Labels,
}

/// What turnpike must send for a frame, without tags.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The frames.
    pub sent: Vec<Sent>,
    /// In what this is not what Linux sent.
    pub differences: Vec<Difference>,
    /// What Linux did: forwarded, answered or dropped.
    pub linux_did: &'static str,
}

/// What turnpike must send for a frame that came in, by what Linux sends for it.
pub fn wanted(linux: &Linux, received: &Received) -> Wanted {
    let mut wanted = Wanted::default();
    let unlabelled = without_labels(received);
    if unlabelled.is_some() {
        wanted.differences.push(Difference::Labels);
    }
    let asked = unlabelled.as_ref().unwrap_or(received);
    let without_ipv6 = received.is_v6() && !received.place.kind().v6;
    let place = if without_ipv6 { Place { kind: 0, ..asked.place } } else { asked.place };
    wanted.sent = linux.forward(place, &asked.frame);
    if without_ipv6 {
        wanted.differences.push(Difference::NoIpv6);
        wanted.sent.retain(|sent| !is_own(received, sent));
    }
    let is_answer = |sent: &[Sent]| sent.iter().all(|sent| is_own(received, sent));
    wanted.linux_did = match &wanted.sent[..] {
        [] => "dropped",
        sent if is_answer(sent) => "answered",
        _ => "forwarded",
    };
    if is_answer(&wanted.sent)
        && let Some(straight) = without_echo(linux, asked)
        && straight != wanted.sent
    {
        wanted.sent = straight;
        wanted.differences.push(Difference::Options);
    }
    if wanted.sent.is_empty() {
        return wanted;
    }
    if let Some(why) = silence(received, &wanted.sent, is_answer(&wanted.sent)) {
        return Wanted { sent: Vec::new(), differences: vec![why], ..wanted };
    }
    for sent in &mut wanted.sent {
        let own = is_own(received, sent);
        let changed = match (received.is_v4(), own) {
            (true, true) => quote4(received, &mut sent.frame).then_some(Difference::Options),
            (true, false) => forwarded_options(received, &mut sent.frame),
            (false, true) => quote6(received, sent, unlabelled.is_some()).then_some(Difference::ErrorSource),
            (false, false) => None,
        };
        if !own && unlabelled.is_some() {
            label_again(received, &mut sent.frame);
        }
        wanted.differences.extend(changed);
    }
    wanted.differences.dedup();
    wanted
}

/// Whether a frame that came out for another is the router's own: a packet may only pretend to come from us, but then it
/// goes where it is to go.
pub fn is_own(received: &Received, sent: &Sent) -> bool {
    let goes_to = || Received { place: sent.place, frame: sent.frame.clone() }.addresses().map(|(_, to)| to);
    let forwarded = |from, to| plan::is_ours(from) && goes_to() == Some(to);
    linux::is_own(sent) && received.addresses().is_none_or(|(from, to)| !forwarded(from, to))
}

/// Why turnpike sends nothing where Linux sent something: an answer alone, or other frames.
fn silence(received: &Received, sent: &[Sent], answer: bool) -> Option<Difference> {
    let (from, to) = received.addresses()?;
    let packet = received.packet();
    let message = &sent[0].frame[14..];
    if is_martian(from) || is_martian(to) {
        return Some(Difference::Martian);
    }
    let beyond_link = match to {
        // What is wrong with it is said first: but whether it fits is no matter of a packet that does not leave.
        IpAddr::V4(_) => !answer || message[20..22] == [3, 4],
        IpAddr::V6(_) => true,
    };
    if is_link_local(from) || is_link_local(to) && beyond_link {
        return Some(Difference::LinkLocal);
    }
    if is_edge(to) || answer && is_edge(from) {
        return Some(Difference::NetworkAddress);
    }
    if answer && (plan::is_ours(to) || to.is_multicast()) {
        let owed = match received.hop_by_hop() {
            None => received.is_v4() && message[20] == 12,
            Some(range) => {
                let pointer = u32::from_be_bytes([message[44], message[45], message[46], message[47]]);
                let inside = range.contains(&(pointer as usize)) && message[41] != 1;
                message[40] == 4 && inside && !to.is_multicast()
            }
        };
        if !owed {
            return Some(Difference::ForKernel);
        }
    }
    if received.is_v4() && sent.len() > 1 {
        let first = usize::from(u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff);
        let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        if first + (total - header_len(packet)).div_ceil(8) > 0x2000 {
            return Some(Difference::BeyondOffset);
        }
    }
    if received.is_v6() && packet[6] == 0 && packet[4..6] == [0, 0] {
        return Some(Difference::Jumbogram);
    }
    if answer && received.is_group() {
        return Some(Difference::LinkGroup);
    }
    (answer && received.is_v6() && is_redirect(packet)).then_some(Difference::Redirect)
}

fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 0 | 240..),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_loopback() || v6.to_ipv4_mapped().is_some(),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Whether an address is the first or the last of a connected prefix.
fn is_edge(address: IpAddr) -> bool {
    Place::all().any(|place| [0, 255].map(|host| place.host(false, host)).contains(&address))
}

/// Whether an IPv6 packet is a redirect, behind whatever headers.
fn is_redirect(packet: &[u8]) -> bool {
    let end = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let packet = packet.get(..end).unwrap_or(packet);
    let (mut next, mut at) = (packet[6], 40);
    loop {
        let Some(header) = packet.get(at..) else { return false };
        match (next, header) {
            (58, [kind, ..]) => return *kind == 137,
            (44, [follows, _, high, low, ..]) if u16::from_be_bytes([*high, *low]) >> 3 == 0 => {
                (next, at) = (*follows, at + 8);
            }
            (0 | 43 | 60, [follows, len, ..]) => (next, at) = (*follows, at + (usize::from(*len) + 1) * 8),
            (51, [follows, len, ..]) => (next, at) = (*follows, at + (usize::from(*len) + 2) * 4),
            _ => return false,
        }
    }
}

/// The same without security labels and telemetry: unknown options stand in their place. `None`: there are none.
fn without_labels(received: &Received) -> Option<Received> {
    if let Some(range) = received.hop_by_hop() {
        let labels: Vec<_> = walk6(&received.packet()[range.clone()])
            .into_iter()
            .filter(|(_, kind)| [CALIPSO, IOAM].contains(kind))
            .collect();
        let mut other = received.clone();
        for (at, _) in &labels {
            other.frame[14 + range.start + at] = UNKNOWN6;
        }
        return (!labels.is_empty()).then_some(other);
    }
    if !received.options().contains(&CIPSO) || !received.checksum_is_right() {
        return None;
    }
    let mut all = received.options().to_vec();
    let (found, _) = walk(&all);
    let labels: Vec<_> = found.iter().filter(|option| option.kind == CIPSO).collect();
    for option in &labels {
        all[option.at] = UNKNOWN;
    }
    (!labels.is_empty()).then(|| received.with_options(&all))
}

/// Puts the labels back that [`without_labels`] took out. Both kinds are copied into all fragments.
fn label_again(received: &Received, sent: &mut [u8]) {
    if let Some(range) = received.hop_by_hop() {
        let packet = received.packet();
        sent[14 + range.start..14 + range.end].copy_from_slice(&packet[range]);
        return;
    }
    for option in walk(received.options()).0.iter().filter(|option| option.kind == CIPSO) {
        sent[34 + option.at] = CIPSO;
    }
    frame::renew_checksum(&mut sent[14..]);
}

/// What Linux answers when there is nothing that it would echo: its own errors, or nothing. `None`: there is nothing in
/// this packet that it would.
///
/// It is asked with all such options made unknown ones, and once more for each of them left as it is: so the first
/// that is malformed is found, if any is.
fn without_echo(linux: &Linux, received: &Received) -> Option<Vec<Sent>> {
    let all = received.options();
    let echoed = |kind: u8| kind == RECORD_ROUTE || kind == STAMP || SOURCE_ROUTES.contains(&kind);
    let (found, _) = walk(all);
    let found: Vec<_> = found.into_iter().filter(|option| echoed(option.kind)).collect();
    if found.is_empty() || !received.checksum_is_right() {
        return None;
    }
    let mut none = all.to_vec();
    for option in &found {
        none[option.at] = UNKNOWN;
    }
    let ask = |all: &[u8]| linux.forward(received.place, &received.with_options(all).frame);
    let pointer = |sent: &[Sent]| match sent {
        [one] if is_own(received, one) && one.frame.get(34..36) == Some(&[12, 0]) => {
            one.frame.get(38).copied()
        }
        _ => None,
    };
    let plain = ask(&none);
    let mut answers = vec![plain.clone()];
    for option in &found {
        let mut one = none.clone();
        one[option.at] = option.kind;
        let alone = ask(&one);
        let routes = SOURCE_ROUTES.contains(&option.kind);
        let same = |other: u8| other == option.kind || routes && SOURCE_ROUTES.contains(&other);
        let second = found.iter().any(|other| other.at < option.at && same(other.kind));
        // A second one of its kind is wrong as such: as one of a length that none has. Of a source route all else is
        // looked at first.
        let within = |at: u8| usize::from(at) < 20 + option.at + option.len;
        if second && !(routes && pointer(&alone).is_some_and(within)) {
            one[option.at + 1] = 1;
            answers.push(ask(&one));
        } else {
            answers.push(alone);
        }
    }
    let first = answers.iter().filter(|sent| pointer(sent).is_some()).min_by_key(|sent| pointer(sent));
    let routed = found.iter().any(|option| SOURCE_ROUTES.contains(&option.kind));
    Some(match first {
        Some(wrong) => wrong.clone(),
        // It is not followed.
        None if routed => Vec::new(),
        // What is wrong with the options is not told of this packet.
        None if !plain.iter().all(|sent| is_own(received, sent)) => Vec::new(),
        None => plain,
    })
}

/// Makes the quote of an IPv4 error what was received, where there are options. Whether it was something else.
fn quote4(received: &Received, sent: &mut [u8]) -> bool {
    let Some(message) = sent.get_mut(34..).filter(|message| message.len() > 8) else { return false };
    if received.options().is_empty() || frame::checksum(message) != 0 {
        return false;
    }
    let quoted = message.len() - 8;
    let Some(original) = received.packet().get(..quoted) else { return false };
    let changed = message[8..] != *original;
    message[8..].copy_from_slice(original);
    message[2..4].fill(0);
    let sum = frame::checksum(message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    changed
}

/// Makes the source of an IPv6 error our address on the link that the packet came in on, and its quote what was
/// received, where labels were taken out. Whether either was something else.
fn quote6(received: &Received, sent: &mut Sent, labelled: bool) -> bool {
    let packet = &mut sent.frame[14..];
    let IpAddr::V6(ours) = received.place.ours(true) else { return false };
    let (before, quoted) = (packet.to_vec(), packet.len().saturating_sub(48));
    if checksum6(packet) != 0 {
        return false;
    }
    // To one of our addresses, that one answers (RFC 4443, section 2.2 (a)).
    if received.addresses().is_none_or(|(_, to)| !plan::is_ours(to)) {
        packet[8..24].copy_from_slice(&ours.octets());
    }
    if let Some(original) = received.packet().get(..quoted).filter(|_| labelled) {
        packet[48..].copy_from_slice(original);
    }
    packet[42..44].fill(0);
    let sum = checksum6(packet).to_be_bytes();
    packet[42..44].copy_from_slice(&sum);
    *packet != *before
}

/// ICMPv6's checksum (RFC 8200, section 8.1): 0 when it is there and right.
fn checksum6(packet: &[u8]) -> u16 {
    frame::checksum(&[&packet[8..40], &[0, 0], &packet[4..6], &[0, 0, 0, 58], &packet[40..]].concat())
}

/// Makes the options of a forwarded IPv4 packet what turnpike must make of them. Times are evened out elsewhere.
fn forwarded_options(received: &Received, sent: &mut [u8]) -> Option<Difference> {
    let given = received.options();
    let packet = &mut sent[14..];
    let before = options(packet).to_vec();
    if before.is_empty() || before.len() != given.len() {
        return None;
    }
    let (found, end) = walk(&before);
    let mut all = before.clone();
    for stamp in found.iter().filter(|option| option.kind == STAMP && option.len >= 4) {
        let range = stamp.at..stamp.at + stamp.len;
        let (was, is) = (usize::from(given[stamp.at + 2]), usize::from(before[stamp.at + 2]));
        let entry = (was..=stamp.len)
            .contains(&was)
            .then(|| &given[range.clone()])
            .and_then(|o| o.get(was - 1..was + 3));
        let Some(entry) = entry.filter(|_| is == was + 8) else { continue };
        let Ok(address) = <[u8; 4]>::try_from(entry).map(IpAddr::from) else { continue };
        let flag = given[stamp.at + 3] & 0x0f;
        if flag == 3 && !plan::is_ours(address) {
            all[range.clone()].copy_from_slice(&given[range]);
        } else if flag == 1
            && let IpAddr::V4(ours) = received.place.ours(false)
        {
            let at = stamp.at + was - 1;
            if <[u8; 4]>::try_from(&before[at..at + 4]).is_ok_and(|a| plan::is_ours(a.into())) {
                all[at..at + 4].copy_from_slice(&ours.octets());
            }
        }
    }
    let mut difference = (all != before).then_some(Difference::Stamp);
    if let Some(end) = end
        && all[end..] != given[end..]
    {
        all[end..].copy_from_slice(&given[end..]);
        difference = Some(Difference::Tail);
    }
    if difference.is_some() {
        packet[20..20 + all.len()].copy_from_slice(&all);
        // A checksum that was wrong stays so.
        if frame::checksum(&[&packet[..20], &before].concat()) == 0 {
            frame::renew_checksum(packet);
        }
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_the_payload_makes_no_redirect() {
        let (a, b) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let routing = [58, 0, 253, 1, 0, 0, 0, 0, 137, 0, 0, 0];
        let mut packet = frame::packet(a, b, 43, 64, &routing);
        assert!(is_redirect(&packet));
        packet[4..6].fill(0);
        assert!(!is_redirect(&packet), "frame 31854 of seed 20261126");
        assert!(is_redirect(&frame::packet(a, b, 58, 64, &[137])));
        assert!(!is_redirect(&frame::packet(a, b, 58, 64, &[])));
    }
}
