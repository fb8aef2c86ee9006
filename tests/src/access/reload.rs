//! New lists while packets pass: whole or not at all.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::judged::udp;
use super::{FROM_A, Gate, TO_B, framed};
use crate::counters::Counters;
use crate::frame;
use crate::suite::SOON;
use crate::wait;
use crate::wire::Way;

/// A file with errors, of whatever kind, is refused with each of them at its place, and nothing changes.
pub fn a_wrong_file_changes_nothing(gate: &mut Gate) {
    let right = gate.config(FROM_A, TO_B);
    let line = |text: &str, part: &str| text.lines().position(|l| l.contains(part)).map_or(0, |at| at + 1);
    let before = gate.hits("from-a");
    let wrong = gate.config(&["permit any", "permit tcp to any prot 80", "deny udp port 1"], TO_B);
    let output = gate.reload(&wrong);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    let at = line(&wrong, "prot 80");
    let column = wrong.lines().nth(at - 1).and_then(|l| l.find("prot 80")).unwrap_or(0) + 1;
    for part in
        [format!("turnpike.toml:{at}:{column}: acl.rules: "), "port` follows".into(), "2 errors".into()]
    {
        assert!(said.contains(&part), "{part:?} is not in {said}");
    }
    for (wrong, part) in [
        (right.replace("name = \"to-b\"", "name = \"to-c\""), "did you mean \"to-c\"?"),
        (
            right
                .replace("name = \"a30\"", "name = \"a31\"")
                .replace("interface = \"a30\"", "interface = \"a31\""),
            "a30",
        ),
        (right.replace("[kernel]", "[kernle]"), "did you mean \"kernel\"?"),
        ("nonsense".to_owned(), "not valid TOML"),
    ] {
        let output = gate.reload(&wrong);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(part), "{part:?} is not in {said}");
    }
    assert_eq!(gate.hits("from-a"), before);
    assert_eq!(gate.send(&[], &udp("10.1.0.2", "10.2.0.2", 7000)).forwarded, 1);
    assert_eq!(gate.send(&[], &udp("10.1.0.2", "10.2.0.2", 53)).dropped, 1);
}

/// Rules that stand count on, wherever they stand now; which interface has which list can change as well.
pub fn counts_stay_over_a_reload(gate: &mut Gate) {
    let before = gate.hits("from-a");
    let mut rules = vec!["permit udp to any port 53"];
    rules.extend(FROM_A.iter().filter(|rule| !rule.starts_with("deny udp")));
    let output = gate.reload(&gate.config(&rules, TO_B).replace("acl_out = \"to-b\"\n", ""));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("2 access lists with 13 rules are in force; 12 rules stood before"), "{said}");
    let mut want = before.clone();
    want.remove(3);
    want.insert(0, 0);
    assert_eq!(gate.hits("from-a"), want);
    assert_eq!(gate.send(&[], &udp("10.1.0.2", "10.2.0.2", 53)).forwarded, 1);
    assert_eq!(gate.send(&[], &udp("10.1.0.2", "10.2.0.2", 9000)).forwarded, 1, "no list at b any more");
    assert_eq!(gate.hits("from-a")[0], 1);
    // As it was.
    assert!(gate.reload(&gate.config(FROM_A, TO_B)).status.success());
    let now = gate.hits("from-a");
    assert_eq!((now[0], now[3]), (before[0], 0), "the rule that came back begins anew");
}

/// SIGHUP reloads the lists; with a wrong file it says so in the log, and nothing changes.
pub fn a_hangup_reloads(gate: &mut Gate) {
    let hang_up = |gate: &mut Gate, config: &str| {
        std::fs::write(gate.lab.path("turnpike.toml"), config).expect("configuration of turnpike");
        gate.router.as_mut().expect("turnpike has been started").daemon().signal(libc::SIGHUP);
    };
    hang_up(gate, "nonsense");
    let config = gate.config(&["deny udp to any port 7000", "permit any"], TO_B);
    wait::until_true(SOON, "the log to name the fault", || {
        let log = gate.router.as_mut().expect("turnpike has been started").daemon().log();
        log.contains("SIGHUP: the access lists stay as they are: ") && log.contains("not valid TOML")
    });
    assert_eq!(gate.hits("from-a").len(), FROM_A.len() + 1);
    hang_up(gate, &config);
    wait::until_true(SOON, "the new lists", || gate.hits("from-a").len() == 3);
    assert_eq!(gate.send(&[], &udp("10.1.0.2", "10.2.0.2", 7000)).dropped, 1);
    assert!(gate.reload(&gate.config(FROM_A, TO_B)).status.success());
}

/// Two lists that say the opposite of two ports take turns while packets to both pass. Whichever list a packet meets, it
/// lets one of the two pass; none may meet a list without its rule.
pub fn each_packet_meets_one_list(gate: &mut Gate) {
    const RELOADS: usize = 24;
    let (permit, deny) = (
        ["permit udp to any port 7000", "deny udp to any port 7001"],
        ["deny udp to any port 7000", "permit udp to any port 7001"],
    );
    let configs = [&permit, &deny].map(|rules| gate.config(rules, TO_B));
    assert!(gate.reload(&configs[0]).status.success());
    let (before, unmatched) = (Counters::settled(gate.router()), gate.hits("from-a")[2]);
    let record = gate.wires[1].record();
    let (done, injected) = (AtomicBool::new(false), AtomicU32::new(0));
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut number = 0u32;
            while !done.load(Ordering::Relaxed) {
                for _ in 0..32 {
                    let to = ("10.2.0.2".parse().expect("an address"), 7000 + (number % 2) as u16);
                    let from = ("10.1.0.2".parse().expect("an address"), 40_000);
                    gate.wires[0].inject(&framed(&[], &frame::udp(from, to, 64, &number.to_be_bytes())));
                    number += 1;
                    injected.store(number, Ordering::Release);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            number
        });
        for at in 1..=RELOADS {
            assert!(gate.reload(&configs[at % 2]).status.success());
            // However slow the machine is, some packets meet each list.
            let now = u64::from(injected.load(Ordering::Acquire));
            let come = || Counters::read(gate.router()).since(&before, "a").received;
            wait::until_true(SOON, "packets to meet the list", || come() > now + 2);
        }
        done.store(true, Ordering::Relaxed);
        sender.join().expect("the sender")
    });
    let counted = || Counters::read(gate.router()).since(&before, "a");
    wait::until_true(SOON, "all packets to come in", || counted().received >= u64::from(sent));
    let counted = Counters::settled(gate.router()).since(&before, "a");
    let denied = counted.drops.get("acl_denied_in").copied().unwrap_or(0);
    assert_eq!(
        (counted.received, counted.forwarded + denied),
        (u64::from(sent), u64::from(sent)),
        "{counted:?}"
    );

    let is_ours =
        |seen: &[u8]| frame::ip(seen).is_some_and(|ip| ip.ports().is_some_and(|ports| ports.0 == 40_000));
    wait::until_true(SOON, "what passed", || {
        record.count(Way::FromRouter, is_ours) as u64 == counted.forwarded
    });
    let mut passed = vec![false; sent as usize];
    for seen in record.frames(Way::FromRouter, is_ours) {
        let ip = frame::ip(&seen.frame).expect("an IP packet");
        let number: [u8; 4] = ip.payload[8..12].try_into().expect("its number");
        passed[u32::from_be_bytes(number) as usize] = true;
    }
    // Which list each packet met, by what became of it: the first lets even numbers pass.
    let met: Vec<bool> = passed.iter().enumerate().map(|(at, passed)| *passed == (at % 2 == 0)).collect();
    let changes = met.windows(2).filter(|pair| pair[0] != pair[1]).count();
    println!("    {sent} packets over {RELOADS} reloads, {changes} changes seen");
    assert!((RELOADS / 2..=RELOADS).contains(&changes), "{changes} changes seen over {RELOADS} reloads");
    let hits = gate.hits("from-a");
    assert_eq!(hits[2], unmatched, "packets that met no rule: {hits:?}");
    assert!(gate.reload(&gate.config(FROM_A, TO_B)).status.success());
}
