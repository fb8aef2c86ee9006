//! Neighbours that move, that are not there, or that have another address than they should.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::bench::{Bench, KINDS, MACS, host, ours, theirs};
use crate::frame::{self, Mac};
use crate::suite::SOON;
use crate::wait;
use crate::wire::{Recording, Seen, Way};

/// The kind of sub-interface on port `b` where all this happens, and the number of the host there.
const KIND: usize = 2;
const HOST: u16 = 7;
/// The MAC addresses that it has, first and then.
const OLD: Mac = [2, 0, 0, 0xaa, 0, 1];
const NEW: Mac = [2, 0, 0, 0xaa, 0, 2];
/// For so long after a change the kernel holds a second one to be a mistake (`locktime`).
const LOCKED: Duration = Duration::from_millis(1200);
/// How long packets are sent before the host moves, and after.
const HALF: Duration = Duration::from_secs(1);
/// An address of another link than the one its owner is on.
const WRONG: [u8; 4] = [172, 31, 0, 2];

/// A neighbour whose address moves to another MAC address, and who says so by a gratuitous ARP or an unsolicited
/// advertisement: each packet goes to the one or the other, in order, and none is lost in between.
pub fn gratuitous_arp_moves_without_loss(bench: &mut Bench) {
    for v6 in [false, true] {
        let record = bench.wires[1].record();
        let mut mac = OLD;
        let mut answered = 0;
        // The first packet has the kernel ask.
        bench.wires[0].inject(&Bench::wrap(1, &packet(v6, 0)));
        let what = "the first packet to go on";
        wait::until_true(SOON, what, || {
            answered = answer(bench, &record, v6, mac, answered);
            !numbers(&record, v6).is_empty()
        });
        wait::pause(LOCKED);
        let start = Instant::now();
        let mut sent = 1;
        // Until packets go to the new one, in any case.
        let mut moved = false;
        while start.elapsed() < HALF * 2 || (!moved && start.elapsed() < SOON) {
            if mac == OLD && start.elapsed() >= HALF {
                mac = NEW;
                announce(bench, v6, mac);
            }
            bench.wires[0].inject(&Bench::wrap(1, &packet(v6, sent)));
            sent += 1;
            if sent % 16 == 0 {
                answered = answer(bench, &record, v6, mac, answered);
                moved = mac == NEW && numbers(&record, v6).last().is_some_and(|(_, to)| *to == NEW);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let all = || numbers(&record, v6).len() == sent as usize;
        wait::within(SOON, &mut || all().then_some(()));
        let arrived = numbers(&record, v6);
        let in_order = (0..sent).collect::<Vec<_>>();
        let got: Vec<_> = arrived.iter().map(|(number, _)| *number).collect();
        let missing: Vec<_> = in_order.iter().filter(|n| !got.contains(n)).take(10).collect();
        assert_eq!(got.len(), in_order.len(), "packets lost, the first of them {missing:?}");
        assert_eq!(got, in_order, "out of order");
        let moved =
            arrived.iter().position(|(_, to)| *to == NEW).expect("no packet went to the new MAC address");
        assert!(arrived[moved..].iter().all(|(_, to)| *to == NEW), "back to the old MAC address");
        println!("    {sent} packets, {moved} of them to the old MAC address");
    }
    bench.assert_unharmed();
}

/// An address that does not answer is asked for about once a second, however many packets go there; a few of them wait,
/// and their sender is told.
pub fn an_absent_neighbour_is_asked_for_at_a_bounded_rate(bench: &mut Bench) {
    const TIME: Duration = Duration::from_secs(4);
    let record = bench.wires[1].record();
    let start = Instant::now();
    let absent = host(1, KIND, false, 99);
    let packet = frame::udp((theirs(0, 1, false), 4000), (absent, 5000), 64, b"anybody?");
    let asked = || questions(&record, absent).len();
    while start.elapsed() < TIME || (asked() < 2 && start.elapsed() < SOON) {
        bench.wires[0].inject(&Bench::wrap(1, &packet));
        std::thread::sleep(Duration::from_millis(2));
    }
    let (asked, took) = (asked(), start.elapsed());
    println!("    asked {asked} times in {took:?}");
    // Three times a second apart, and once more for each time that it was given up.
    let most = 2 + took.as_secs() as usize;
    assert!((2..=most).contains(&asked), "asked {asked} times in {took:?}, not 2 to {most}");
    drop(record);
    bench.assert_unharmed();
}

/// Somebody on the link has an address that he should not have: `show neighbours` names what was seen instead of the
/// neighbour that does not answer. (`paths::a_wrong_far_address_is_named` has the same on a /30 behind two tags.)
pub fn a_wrong_far_address_is_named(bench: &mut Bench) {
    let absent = host(1, KIND, false, 98);
    let packet = frame::udp((theirs(0, 1, false), 4000), (absent, 5000), 64, b"anybody?");
    bench.wires[0].inject(&Bench::wrap(1, &packet));
    // It asks for the neighbour that it believes to have.
    let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &NEW, &WRONG, &[0; 6], &[172, 31, 0, 1]].concat();
    bench.wires[1].inject(&frame::build([0xff; 6], NEW, KINDS[KIND].tags, 0x0806, &body));
    let wanted = "172.31.0.2 at 02:00:00:aa:00:02";
    wait::until_true(SOON, "what was seen instead", || {
        let shown = bench.router().show("neighbours");
        let silent = |n: &&serde_json::Value| n["address"] == absent.to_string();
        shown.as_array().and_then(|all| all.iter().find(silent)).is_some_and(|n| n["seen"] == wanted)
    });
    assert!(bench.router().table("neighbours").contains(wanted));
    bench.assert_unharmed();
}

fn target(v6: bool) -> IpAddr {
    host(1, KIND, v6, HOST)
}

/// Packet `number` to the host.
fn packet(v6: bool, number: u32) -> Vec<u8> {
    frame::udp((theirs(0, 1, v6), 4000), (target(v6), 5000), 64, &number.to_be_bytes())
}

fn frame_to(to: Mac, from: Mac, v6: bool, packet: &[u8]) -> Vec<u8> {
    let ethertype = if v6 { frame::IPV6 } else { frame::IPV4 };
    frame::build(to, from, KINDS[KIND].tags, ethertype, packet)
}

/// Numbers and MAC addresses of the packets that left towards the host.
fn numbers(record: &Recording<'_>, v6: bool) -> Vec<(u32, Mac)> {
    let number = |seen: &Seen| {
        let ip = frame::ip(&seen.frame)?;
        let to_host = ip.dst == target(v6) && ip.ports() == Some((4000, 5000));
        let number = to_host.then(|| ip.payload.get(8..12))??;
        Some((u32::from_be_bytes(number.try_into().ok()?), frame::ethernet(&seen.frame)?.dst))
    };
    record.frames(Way::FromRouter, |_| true).iter().filter_map(number).collect()
}

/// Questions of turnpike's kernel for the MAC address of `whom`: ARP requests, or neighbour solicitations.
fn questions(record: &Recording<'_>, whom: IpAddr) -> Vec<Seen> {
    record.frames(Way::FromRouter, |seen| {
        let Some(ethernet) = frame::ethernet(seen) else { return false };
        match whom {
            IpAddr::V4(whom) => {
                let arp = ethernet.payload;
                let asks = ethernet.ethertype == 0x0806 && arp.get(7) == Some(&1);
                asks && arp.get(24..28) == Some(&whom.octets())
            }
            IpAddr::V6(whom) => frame::ip(seen).is_some_and(|ip| {
                let solicits = ip.protocol == 58 && ip.payload.first() == Some(&135);
                solicits && ip.payload.get(8..24) == Some(&whom.octets())
            }),
        }
    })
}

/// Answers the questions that came after the first `answered`; how many there are now.
fn answer(bench: &Bench, record: &Recording<'_>, v6: bool, mac: Mac, answered: usize) -> usize {
    let asked = questions(record, target(v6)).len();
    if asked > answered {
        let (us, they) = (ours(1, KIND, v6), target(v6));
        bench.wires[1].inject(&reply(v6, mac, they, us, MACS[1]));
    }
    asked
}

/// Says, without having been asked, that the host is at `mac` now.
fn announce(bench: &Bench, v6: bool, mac: Mac) {
    let they = target(v6);
    let all_nodes = IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 1]);
    let (about, to) = if v6 { (all_nodes, [0x33, 0x33, 0, 0, 0, 1]) } else { (they, [0xff; 6]) };
    bench.wires[1].inject(&reply(v6, mac, they, about, to));
}

/// An ARP reply or a neighbour advertisement: `they` are at `mac`.
fn reply(v6: bool, mac: Mac, they: IpAddr, whom: IpAddr, to: Mac) -> Vec<u8> {
    match (they, whom) {
        (IpAddr::V4(they), IpAddr::V4(whom)) => {
            let body = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &mac, &they.octets(), &to, &whom.octets()].concat();
            frame::build(to, mac, KINDS[KIND].tags, 0x0806, &body)
        }
        (IpAddr::V6(address), IpAddr::V6(_)) => {
            // Solicited where it was asked for; in any case it overrides what was known (RFC 4861, section 4.4).
            let flags = if whom.is_multicast() { 0x20 } else { 0x60 };
            let mut message =
                [&[136, 0, 0, 0, flags, 0, 0, 0][..], &address.octets(), &[2, 1], &mac].concat();
            let checksum = frame::transport_checksum(they, whom, 58, &message);
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
            frame_to(to, mac, v6, &frame::packet(they, whom, 58, 255, &message))
        }
        _ => unreachable!("both are of one family"),
    }
}
