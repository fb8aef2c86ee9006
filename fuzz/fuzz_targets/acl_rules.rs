//! The text of access lists, and what becomes of it: rules are read line by line, compiled, and asked about packets made
//! of the rest of the bytes. What a list says must be what its rules say one by one, each compiled alone. Rules may stand
//! several times, so that lists of every width of row come about.
#![no_main]

use control::config::acl::parse_rule;
use dataplane::acl::{Acl, Action, Address, Classifier, DENIED, Keys, MAX_RULES, Rule, read4, read6};
use dataplane::burst::BURST;
use libfuzzer_sys::fuzz_target;

/// Packets are cut from what follows this byte, which no text holds.
const END_OF_TEXT: u8 = 0xff;
/// Longest packet.
const PACKET: usize = 72;

fuzz_target!(|bytes: &[u8]| {
    let split = bytes.iter().position(|byte| *byte == END_OF_TEXT).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(split);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut rules: Vec<Rule> = Vec::new();
    for line in text.lines() {
        match parse_rule(line) {
            Ok(rule) => rules.push(rule),
            Err(error) => assert!(error.at <= line.len() && !error.message.is_empty(), "{error:?}"),
        }
    }
    let different = rules.len().min(MAX_RULES);
    let times = 1 + usize::from(rest.get(1).copied().unwrap_or(0) % 32);
    rules = rules.iter().cloned().cycle().take((rules.len() * times).min(MAX_RULES)).collect();
    let counters: Vec<u16> = (0..=rules.len() as u16).collect();
    // What `parse_rule` takes can be compiled, unless it is too much.
    let Ok(list) = Acl::new(&rules, &counters) else { return };
    let alone: Vec<Acl> = rules[..different]
        .iter()
        .map(|rule| {
            let rule = Rule { action: Action::Permit, ..rule.clone() };
            Acl::new(&[rule], &[0, 1]).expect("a rule of a list that could be compiled")
        })
        .collect();

    let (mut v4, mut v6) = (Keys::default(), Keys::default());
    for (at, packet) in rest.chunks(PACKET).take(BURST).enumerate() {
        // Headers are checked before fields are read.
        let mut whole = packet.to_vec();
        whole.resize(whole.len().max(40), 0);
        read6(&mut v6, at, &whole);
        whole[0] = 0x40 | (whole[0] & 0xf).max(5);
        read4(&mut v4, at, &whole);
        (v4.len, v6.len) = (at + 1, at + 1);
    }
    compare(&rules, &list.v4, &alone.iter().map(|acl| &acl.v4).collect::<Vec<_>>(), &v4);
    compare(&rules, &list.v6, &alone.iter().map(|acl| &acl.v6).collect::<Vec<_>>(), &v6);
});

/// `alone`: the first rules, which those that follow repeat.
fn compare<A: Address>(rules: &[Rule], list: &Classifier<A>, alone: &[&Classifier<A>], keys: &Keys<A>) {
    let matches: Vec<[u16; BURST]> = alone
        .iter()
        .map(|rule| {
            let mut ends = [0; BURST];
            rule.classify(keys, &mut ends, |_, _| ());
            ends
        })
        .collect();
    let mut ends = [0; BURST];
    let mut counted: Vec<Vec<u16>> = vec![Vec::new(); BURST];
    let denied = list.classify(keys, &mut ends, |at, counter| counted[at].push(counter));
    for at in 0..keys.len {
        let mut on_the_way = Vec::new();
        let mut end = rules.len() as u16 | DENIED;
        for (number, rule) in rules.iter().enumerate() {
            if matches[number % matches.len()][at] != 0 {
                continue;
            }
            match rule.action {
                Action::Count => on_the_way.push(number as u16),
                Action::Permit => end = number as u16,
                Action::Deny => end = number as u16 | DENIED,
            }
            if rule.action != Action::Count {
                break;
            }
        }
        assert_eq!((ends[at], &counted[at]), (end, &on_the_way), "packet {at} of {rules:?}");
        assert_eq!(denied >> at & 1 == 1, end & DENIED != 0);
    }
}
