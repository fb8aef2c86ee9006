//! Whether ports put on tags rightly (`vlan_insert`). A port does not hear what it sends, but neighbours do: one that
//! answers in a VLAN got the question there. Each neighbour is asked with its tag put on by software first, and only one
//! that answers that is asked with the tag put on by the port. Nothing else depends on these questions, so nothing is lost
//! while a port does wrong.
//!
//! - IPv4: ARP probes (RFC 5227, section 2.1.1), which have no sender's address: their answers are unlike those to the
//!   kernel's requests, and nobody learns anything from them.
//! - IPv6: solicitations as of a neighbour whose address is known (RFC 4861, section 7.2.2), to it alone, without our
//!   link-layer address, so that nobody learns anything from them either. They come from an address that we have
//!   configured, the kernel's from the link-local one (but to a neighbour that is not resolved, from that of the packet
//!   that waits for it). What would be like an ARP probe, a solicitation without a source, could have a neighbour that
//!   has just come up give up its address (RFC 4862, section 5.4.3).

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use dataplane::header::ipv6;
use dataplane::ids::{PortId, SubIfId};
use dataplane::offload::State;

use super::icmp;

/// Answers after which a port is seen to do right, and such that are missing in a row after which it is not.
const ENOUGH: u32 = 3;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);
/// How long nothing is asked after an answer: should another come to the same question, it is not taken for the next
/// one's.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a port that puts tags on is asked whether it still does.
const AUDIT: Duration = Duration::from_secs(10);

/// ICMPv6 types (RFC 4861, sections 4.3 and 4.4), and the flag of an advertisement that answers a solicitation.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOLICITED: u8 = 0x40;

/// A neighbour that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The sub-interface that it is on.
    pub sub_if: SubIfId,
    /// Its address.
    pub address: IpAddr,
    /// Our own IPv6 address there, which one with an IPv6 address is asked from.
    pub ours: Ipv6Addr,
    /// Its MAC address.
    pub mac: [u8; 6],
}

/// What a neighbour is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whom to ask.
    pub whom: Neighbour,
    /// Whether the port is to put the tag on.
    pub by_nic: bool,
}

impl Question {
    /// It as an untagged Ethernet frame from `mac`.
    pub fn frame(&self, mac: [u8; 6]) -> Vec<u8> {
        match self.whom.address {
            IpAddr::V4(address) => {
                let head = [0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1];
                [&self.whom.mac, &mac, &head[..], &mac, &[0; 4], &[0; 6], &address.octets()].concat()
            }
            IpAddr::V6(address) => {
                const LEN: u8 = 24;
                let (from, to) = (self.whom.ours.octets(), address.octets());
                let head = [0x86, 0xdd, 0x60, 0, 0, 0, 0, LEN, ipv6::ICMPV6, 255];
                let message = [SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
                let mut frame = [&self.whom.mac, &mac, &head[..], &from, &to, &message, &to].concat();
                icmp::put_checksum6(&mut frame[14..]);
                frame
            }
        }
    }

    /// Whether an ARP or IPv6 packet that came in on a sub-interface answers it.
    fn is_answered_by(&self, packet: &[u8], sub_if: SubIfId) -> bool {
        let Neighbour { sub_if: asked, address, ours, mac } = self.whom;
        let has = |at: usize, bytes: &[u8]| packet.get(at..).is_some_and(|rest| rest.starts_with(bytes));
        sub_if == asked
            && match address {
                IpAddr::V4(address) => {
                    has(0, &[0, 1, 8, 0, 6, 4, 0, 2])
                        && has(8, &mac)
                        && has(14, &address.octets())
                        && has(24, &[0; 4])
                }
                IpAddr::V6(address) => {
                    has(6, &[ipv6::ICMPV6, 255])
                        && has(24, &ours.octets())
                        && has(40, &[ADVERTISEMENT, 0])
                        && packet.get(44).is_some_and(|flags| flags & SOLICITED != 0)
                        && has(48, &address.octets())
                }
            }
    }
}

/// A question that was asked last.
#[derive(Clone, Copy, Debug)]
struct Asked {
    question: Question,
    at: Instant,
    answered: Option<Instant>,
}

/// The check of one port.
#[derive(Debug)]
pub struct TagCheck {
    port: PortId,
    asked: Option<Asked>,
    last: Option<Neighbour>,
    /// When the next neighbour is asked.
    due: Instant,
    /// Whether the last question with a tag by the port was not answered.
    missed: bool,
    /// Answers to such questions.
    right: u32,
    /// Such that were not answered, in a row, by neighbours that were there before and after.
    missing: u32,
}

impl TagCheck {
    /// The check of a port.
    pub fn new(port: PortId, now: Instant) -> Self {
        Self { port, asked: None, last: None, due: now, missed: false, right: 0, missing: 0 }
    }

    /// The port.
    pub fn port(&self) -> PortId {
        self.port
    }

    /// What is to be asked now, and what was found, if anything was. `next`: the neighbour after another one, of those
    /// that may be asked. To be called ten times a second or so.
    pub fn step(
        &mut self,
        now: Instant,
        next: impl FnOnce(Option<Neighbour>) -> Option<Neighbour>,
    ) -> (Option<Question>, Option<State>) {
        let Some(Asked { question, at, answered }) = self.asked else {
            return (self.ask_next(now, next), None);
        };
        match answered {
            Some(answered) if now < answered + PAUSE => (None, None),
            Some(_) if question.by_nic => {
                self.right = self.right.saturating_add(1);
                self.missing = 0;
                let in_use = self.right >= ENOUGH;
                self.asked = None;
                self.due = if in_use { now + AUDIT } else { now };
                (None, in_use.then_some(State::InUse))
            }
            Some(_) => {
                self.missing += u32::from(std::mem::take(&mut self.missed));
                if self.missing >= ENOUGH {
                    return (None, Some(State::Unanswered));
                }
                (Some(self.ask(Question { by_nic: true, ..question }, now)), None)
            }
            None if now < at + ANSWER => (None, None),
            None if question.by_nic => {
                self.missed = true;
                (Some(self.ask(Question { by_nic: false, ..question }, now)), None)
            }
            None => {
                // It is not there any more, or does not answer probes: this says nothing of the port.
                (self.missed, self.asked) = (false, None);
                (self.ask_next(now, next), None)
            }
        }
    }

    fn ask_next(
        &mut self,
        now: Instant,
        next: impl FnOnce(Option<Neighbour>) -> Option<Neighbour>,
    ) -> Option<Question> {
        if now < self.due {
            return None;
        }
        let Some(whom) = next(self.last) else {
            self.due = now + ANSWER;
            return None;
        };
        self.last = Some(whom);
        Some(self.ask(Question { whom, by_nic: false }, now))
    }

    fn ask(&mut self, question: Question, at: Instant) -> Question {
        self.asked = Some(Asked { question, at, answered: None });
        question
    }

    /// Takes note of a packet of ARP or neighbour discovery that came in on a sub-interface.
    pub fn heard(&mut self, packet: &[u8], sub_if: SubIfId, now: Instant) {
        if let Some(asked) = &mut self.asked
            && asked.answered.is_none()
            && asked.question.is_answered_by(packet, sub_if)
        {
            asked.answered = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// One with an IPv4 address if the sub-interface's number is even, with an IPv6 address if it is odd.
    fn neighbour(sub_if: u16, last: u8) -> Neighbour {
        let address = match sub_if % 2 {
            0 => Ipv4Addr::new(192, 0, 2, last).into(),
            _ => Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(last)).into(),
        };
        let ours = Ipv6Addr::from(0x2001_0db8 << 96 | 0xff);
        Neighbour { sub_if: SubIfId(sub_if), address, ours, mac: [2, 0, 0, 0, 1, last] }
    }

    /// What a neighbour says to a question, from its network header on.
    fn answer(frame: &[u8], mac: [u8; 6]) -> Vec<u8> {
        if frame[12..14] == [8, 6] {
            let (sender, target) = (&frame[22..32], &frame[38..42]);
            return [&[0, 1, 8, 0, 6, 4, 0, 2], &mac[..], target, sender].concat();
        }
        let (from, to) = (&frame[22..38], &frame[38..54]);
        [&[0x60, 0, 0, 0, 0, 24, 58, 255], to, from, &[136, 0, 0, 0, 0x60, 0, 0, 0], to].concat()
    }

    /// Runs a check for so many seconds, in steps of a tenth: neighbours 1 (IPv4) and 2 (IPv6) are there, and `hears` says
    /// on which sub-interface, if any, the answer to a question comes in, and after how many steps. Returns when what was
    /// found.
    fn run(seconds: u32, mut hears: impl FnMut(&Question) -> Option<(SubIfId, u32)>) -> Vec<(u32, State)> {
        let start = Instant::now();
        let mut check = TagCheck::new(PortId(0), start);
        let (mut coming, mut found) = (Vec::new(), Vec::new());
        for step in 0..seconds * 10 {
            let now = start + step * Duration::from_millis(100);
            coming.retain(|(at, arp, sub_if): &(u32, Vec<u8>, SubIfId)| {
                if *at == step {
                    check.heard(arp, *sub_if, now);
                }
                *at > step
            });
            let next = |last: Option<Neighbour>| {
                Some(if last == Some(neighbour(0, 1)) { neighbour(1, 2) } else { neighbour(0, 1) })
            };
            let (question, state) = check.step(now, next);
            if let Some(question) = question
                && let Some((sub_if, after)) = hears(&question)
            {
                coming.push((step + after, answer(&question.frame(OURS), question.whom.mac), sub_if));
            }
            found.extend(state.map(|state| (step, state)));
            if state.is_some_and(State::failed) {
                break;
            }
        }
        found
    }

    fn states(found: &[(u32, State)]) -> Vec<State> {
        found.iter().map(|(_, state)| *state).collect()
    }

    #[test]
    fn the_probe_is_that_of_rfc_5227() {
        let question = Question { whom: neighbour(0, 9), by_nic: true };
        let frame = question.frame(OURS);
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[..14], [2, 0, 0, 0, 1, 9, 2, 0, 0, 0, 0, 1, 8, 6]);
        assert_eq!(frame[14..22], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(frame[22..32], [2, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(frame[32..], [0, 0, 0, 0, 0, 0, 192, 0, 2, 9]);
    }

    #[test]
    fn the_solicitation_is_that_of_rfc_4861() {
        let question = Question { whom: neighbour(1, 9), by_nic: true };
        let frame = question.frame(OURS);
        assert_eq!(frame.len(), 78, "no option with our address");
        assert_eq!(frame[..14], [2, 0, 0, 0, 1, 9, 2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
        assert_eq!(frame[14..22], [0x60, 0, 0, 0, 0, 24, 58, 255]);
        let (ours, theirs) = (question.whom.ours.octets(), question.whom.address);
        let IpAddr::V6(theirs) = theirs else { panic!("{theirs}") };
        assert_eq!((&frame[22..38], &frame[38..54]), (&ours[..], &theirs.octets()[..]));
        assert_eq!(frame[54..56], [135, 0]);
        assert_eq!(frame[58..62], [0; 4]);
        assert_eq!(frame[62..], theirs.octets());
        let pseudo = [&frame[22..54], &[0, 0, 0, 24, 0, 0, 0, 58], &frame[54..]].concat();
        assert_eq!(dataplane::header::checksum::sum(&pseudo), 0xffff);
    }

    #[test]
    fn only_an_answer_to_a_question_counts() {
        // ARP: a request, another sender's MAC or address, and an answer to the kernel's request, which had our address.
        // IPv6: what came over a router, an answer to the kernel, which asks from another address, a solicitation, what
        // nobody asked for, and what tells of another address.
        let cases = [(neighbour(2, 9), &[7, 13, 17, 27][..]), (neighbour(3, 9), &[7, 39, 40, 44, 63])];
        for (whom, telling) in cases {
            let question = Question { whom, by_nic: true };
            let right = answer(&question.frame(OURS), whom.mac);
            assert!(question.is_answered_by(&right, whom.sub_if));
            assert!(!question.is_answered_by(&right, SubIfId(4)), "in another VLAN");
            for at in telling {
                let mut other = right.clone();
                other[*at] ^= if *at == 44 { SOLICITED } else { 1 };
                assert!(!question.is_answered_by(&other, whom.sub_if), "{at}");
            }
            for len in 0..right.len() {
                assert!(!question.is_answered_by(&right[..len], whom.sub_if), "{len}");
            }
        }
    }

    #[test]
    fn a_port_that_does_right_is_used_and_asked_again() {
        let mut by_nic = 0;
        let found = run(60, |question| {
            by_nic += u32::from(question.by_nic);
            Some((question.whom.sub_if, 1))
        });
        assert!(found[0].0 < 50, "within five seconds: {found:?}");
        assert!(states(&found).iter().all(|state| *state == State::InUse));
        assert!((6..=9).contains(&by_nic), "three, then one in some eleven seconds: {by_nic}");
    }

    #[test]
    fn a_port_that_does_wrong_is_not_used() {
        let nothing = |question: &Question| (!question.by_nic).then_some((question.whom.sub_if, 1));
        // In the other's VLAN.
        let wrong = |question: &Question| {
            let sub_if = question.whom.sub_if.0 ^ u16::from(question.by_nic);
            Some((SubIfId(sub_if), 1))
        };
        for found in [run(8, nothing), run(8, wrong)] {
            assert_eq!(states(&found)[0], State::Unanswered, "{found:?}");
        }
    }

    #[test]
    fn one_that_begins_to_do_wrong_is_found_out() {
        let mut by_nic = 0;
        let found = run(60, |question| {
            by_nic += u32::from(question.by_nic);
            (!question.by_nic || by_nic <= 4).then_some((question.whom.sub_if, 2))
        });
        assert!(states(&found).contains(&State::InUse) && states(&found).contains(&State::Unanswered));
        let (used, failed) = (found[0].0, found[found.len() - 1].0);
        assert!(failed - used < 350, "{found:?}");
    }

    #[test]
    fn a_lost_answer_is_no_failure() {
        let mut asked = 0;
        let found = run(60, |question| {
            asked += u32::from(question.by_nic);
            (!question.by_nic || asked % 3 == 0).then_some((question.whom.sub_if, 1))
        });
        assert!(states(&found).iter().all(|state| *state == State::InUse), "{found:?}");
        assert!(!found.is_empty());
    }

    #[test]
    fn neighbours_that_answer_no_probes_or_go_away_say_nothing() {
        assert_eq!(run(60, |_| None), []);
        // The first is there no more once it was asked with the port's tag.
        let mut gone = false;
        let found = run(60, |question| {
            let first = question.whom == neighbour(0, 1);
            gone |= first && question.by_nic;
            (!(first && gone)).then_some((question.whom.sub_if, 1))
        });
        assert!(!found.is_empty() && states(&found).iter().all(|state| *state == State::InUse), "{found:?}");
    }
}
