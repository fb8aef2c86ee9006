//! Entry points for the fuzzer: the protocol machine without sockets, threads or clocks. They panic where something
//! does not hold that must hold for any input.

use std::net::Ipv4Addr;

use super::announce::Announcer;
use super::protocol::{AddPath, HEADER_LENGTH, MAX_LENGTH, Output, Protocol, SessionConfig, State, Timer};
use super::rustbgpd::Rustbgpd;
use crate::source::RouteEvent;
use crate::source::charge::Account;

fn machine(asn: u32, router_id: u8, add_path: AddPath, account: &Account) -> Rustbgpd {
    Rustbgpd::new(SessionConfig {
        local_asn: asn,
        peer_asn: 65_010,
        router_id: Ipv4Addr::new(10, 0, 0, router_id),
        hold_time: 90,
        open_time: 15,
        add_path,
        announcer: Announcer::default(),
        account: account.clone(),
    })
}

/// Feeds all of `input`; returns whether the session still stands.
fn feed(machine: &mut Rustbgpd, input: &[u8]) -> bool {
    let (mut out, mut taken) = (Vec::new(), 0);
    loop {
        let length = machine.receive(&input[taken..], &mut out);
        if length == 0 {
            break;
        }
        taken += length;
        assert!(taken <= input.len(), "it took more than there was");
    }
    assert!(input.len() - taken < MAX_LENGTH, "it waits for more than a message");
    let ends: Vec<usize> = (0..out.len()).filter(|index| matches!(out[*index], Output::Close(_))).collect();
    assert!(ends.is_empty() || ends == [out.len() - 1], "it ends once, and last");
    let prefixes: usize = out.iter().map(prefixes).sum();
    assert!(prefixes <= input.len(), "a prefix takes a byte at least");
    ends.is_empty()
}

fn prefixes(output: &Output) -> usize {
    let Output::Update(events) = output else { return 0 };
    let of = |event: &RouteEvent| match event {
        RouteEvent::Update { withdrawn, announced, .. } => withdrawn.len() + announced.len(),
        _ => 0,
    };
    events.iter().map(of).sum()
}

/// A session from its first byte: any stream of bytes, then each timer.
pub fn session(input: &[u8]) {
    let account = Account::default();
    let mut machine = machine(65_010, 1, AddPath::Receive, &account);
    machine.connected(&mut Vec::new());
    if feed(&mut machine, input) {
        let mut out = Vec::new();
        machine.expired(Timer::Keepalive, &mut out);
        machine.expired(Timer::Hold, &mut out);
        assert!(matches!(out.last(), Some(Output::Close(_))), "the hold timer ends it");
    }
    drop(machine);
    assert_eq!(account.bytes(), 0, "what was booked is given back");
}

/// Messages of an established session. The first byte chooses internal or external; then each message is a type, a
/// length of two bytes and so much of a body.
pub fn message(input: &[u8]) {
    let Some((first, mut rest)) = input.split_first() else { return };
    let account = Account::default();
    let Some(mut machine) = established(if first & 1 == 0 { 65_010 } else { 12_076 }, &account) else {
        return;
    };
    while let [kind, high, low, body @ ..] = rest {
        let length =
            usize::from(u16::from_be_bytes([*high, *low])).min(body.len()).min(MAX_LENGTH - HEADER_LENGTH);
        let (body, next) = body.split_at(length);
        rest = next;
        let mut bytes = vec![0xff; 16];
        bytes.extend(((HEADER_LENGTH + length) as u16).to_be_bytes());
        bytes.push(*kind);
        bytes.extend(body);
        if !feed(&mut machine, &bytes) {
            break;
        }
    }
    drop(machine);
    assert_eq!(account.bytes(), 0, "what was booked is given back");
}

/// A machine of AS `asn` whose session with one of AS 65010 is up.
fn established(asn: u32, account: &Account) -> Option<Rustbgpd> {
    let mut receiver = machine(asn, 1, AddPath::Receive, account);
    let mut sender = Rustbgpd::new(SessionConfig {
        local_asn: 65_010,
        peer_asn: asn,
        router_id: Ipv4Addr::new(10, 0, 0, 2),
        hold_time: 90,
        open_time: 15,
        add_path: AddPath::Send,
        announcer: Announcer::default(),
        account: Account::default(),
    });
    let (mut to_sender, mut to_receiver) = (Vec::new(), Vec::new());
    receiver.connected(&mut to_sender);
    sender.connected(&mut to_receiver);
    let mut up = false;
    for _ in 0..2 {
        let (from_receiver, from_sender) = (std::mem::take(&mut to_sender), std::mem::take(&mut to_receiver));
        for output in from_receiver {
            if let Output::Send(bytes) = output {
                sender.receive(&bytes, &mut to_receiver);
            }
        }
        for output in from_sender {
            if let Output::Send(bytes) = output {
                receiver.receive(&bytes, &mut to_sender);
            }
        }
        up |= to_sender.contains(&Output::State(State::Established));
    }
    up.then_some(receiver)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_machine_is_established() {
        let account = Account::default();
        assert!(established(65_010, &account).is_some() && established(12_076, &account).is_some());
    }

    proptest! {
        #[test]
        fn any_input(input in proptest::collection::vec(any::<u8>(), 0..400)) {
            session(&input);
            message(&input);
        }
    }
}
