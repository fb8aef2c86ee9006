//! Peers that come twice, come too often or send too much, and a consumer that is slow or gone, over real TCP:
//! threads and memory stay bounded, and other sessions stay.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod bgp_common;

use std::io::{ErrorKind, Write};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use bgp_common::yard::{BAD, ID, Yard, lines};
use bgp_common::{ASN, Rig, Script, attributes, config, keepalive, open, peer, up, update};
use control::source::bgp::Limits;
use control::source::{RouteEvent, SourceId};

#[test]
fn too_many_prefixes() {
    let yard = Yard::with("greedy", Limits { max_prefixes: 100, ..Limits::default() });
    let mut script = yard.establish(90);
    for third in 0..=100 {
        script.send(&update(&[], &attributes(1), &[24, 10, 1, third]));
    }
    assert_eq!(script.notification(), (6, 1, vec![]));
    for _ in 0..=100 {
        assert!(matches!(yard.rig.next_from(), (SourceId(8), RouteEvent::Update { .. })));
    }
    assert!(yard.down().contains("more than 100 prefixes"));
    yard.unharmed(6, 1);
}

#[test]
fn a_restarted_peer_is_let_in_at_once() {
    let mut yard = Yard::new("restarted");
    let old = yard.establish(90);
    // The old connection is still open, as after a power cut.
    let start = Instant::now();
    let new = Script::establish(BAD, yard.rig.address, &open(ASN, 90, ID));
    assert!(yard.down().contains("replaced"));
    assert_eq!(yard.rig.next_from(), (SourceId(8), RouteEvent::Up));
    // Long before the hold time of the old one.
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(old.notification(), (6, 7, vec![]));
    assert!(up(&yard.rig.peer("restarted")));
    drop(new);
    yard.down();
    yard.good_still_works();
}

#[test]
fn another_speaker_behind_the_same_address_is_rejected() {
    let mut yard = Yard::new("twins");
    let old = yard.establish(90);
    let mut other = yard.connect();
    other.send(&open(ASN, 90, [10, 255, 0, 77]));
    assert_eq!(other.notification(), (6, 5, vec![]));
    let status = yard.rig.until("twins", |status| status.rejected == 1);
    assert!(up(&status));
    assert!(status.last_error.unwrap().contains("10.255.0.66 instead of 10.255.0.77"));
    drop(old);
    yard.down();
    yard.good_still_works();
}

#[test]
fn another_speaker_takes_over_from_a_silent_one() {
    let yard = Yard::new("heir");
    // Silent for more than two thirds of its hold time, and not for all of it.
    let _old = yard.establish(15);
    std::thread::sleep(Duration::from_millis(10_500));
    let _new = Script::establish(BAD, yard.rig.address, &open(ASN, 90, [10, 255, 0, 77]));
    assert!(yard.down().contains("replaced"));
    assert_eq!(yard.rig.next_from(), (SourceId(8), RouteEvent::Up));
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter(|task| {
            let name = std::fs::read_to_string(task.as_ref().unwrap().path().join("comm"));
            name.is_ok_and(|name| name.starts_with("bgp-storm"))
        })
        .count()
}

#[test]
fn a_thousand_connections_cost_two_threads() {
    // The one that is let in first may be silent all the while.
    let mut yard = Yard::with("storm", Limits { open_time: Duration::from_mins(2), ..Limits::default() });
    let established = yard.establish(90);
    // 500 from the peer's own address, kept open, and 500 from nobody's.
    let mut open = Vec::new();
    for _ in 0..500 {
        open.push(yard.connect());
        Script::connect("127.0.0.9", yard.rig.address).closed();
        assert!((1..=2).contains(&threads()));
    }
    yard.rig.until("storm", |status| status.rejected == 499);
    yard.rig.until("storm", |_| yard.rig.speaker.refused() == 500);
    let lines = lines().into_iter().filter(|line| line.contains("already connecting")).count();
    assert!((1..100).contains(&lines), "{lines} lines");
    assert!(up(&yard.rig.peer("storm")));
    drop(open);
    drop(established);
    yard.down();
    yard.good_still_works();
}

#[test]
fn a_flood_waits_for_a_slow_consumer() {
    let peers = vec![peer("flood", BAD, ASN)];
    let rig = Rig::with(&config("127.0.0.1:0", peers), Limits::default(), 8);
    let mut script = Script::establish(BAD, rig.address, &open(ASN, 3, ID));
    assert_eq!(rig.next(), RouteEvent::Up);
    script.receive();
    script.receive();
    // Writes until nothing goes through for a second, and nothing is taken: the buffers of TCP and of the session, and no
    // more. On a busy machine the session may be the one that is late.
    script.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let batch: Vec<Vec<u8>> =
        (0..=255).map(|third| update(&[], &attributes(1), &[24, 10, 1, third])).collect();
    let (mut written, mut rest, mut taken) = (0usize, batch[0].clone(), 0);
    loop {
        match script.stream.write(&rest) {
            Ok(length) => drop(rest.drain(..length)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let now = rig.peer("flood").updates as usize;
                if std::mem::replace(&mut taken, now) == now {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
        if rest.is_empty() {
            written += 1;
            rest.clone_from(&batch[written % batch.len()]);
        }
        assert!(written < 2_000_000, "somebody takes it all");
    }
    // What one or two reads bring.
    assert!(taken <= 8_000 && taken < written / 4, "{taken} of {written}");
    // We are the slow ones: the session outlives its hold time, and our keepalives go out.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert_eq!(script.receive(), (4, vec![]));
    }
    assert!(up(&rig.peer("flood")));
    // The consumer wakes up: everything is there, in order.
    script.stream.set_write_timeout(None).unwrap();
    let total = written + 1;
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let sender = std::thread::spawn(move || {
        script.send(&rest);
        script.send(&keepalive());
        // The session is as short of breath as before: on a busy machine we may look at it late.
        while stopped.recv_timeout(Duration::from_millis(500)) == Err(RecvTimeoutError::Timeout) {
            script.send(&keepalive());
        }
    });
    for got in 0..total {
        let RouteEvent::Update { announced, .. } = rig.next() else { panic!("{got} of {total}") };
        assert_eq!(announced[0].prefix.to_string(), format!("10.1.{}.0/24", got % 256));
    }
    let status = rig.until("flood", |status| status.messages >= total as u64 + 3);
    assert!(rig.events.is_empty());
    assert!(up(&status));
    drop(stop);
    sender.join().unwrap();
}

#[test]
fn a_stop_does_not_wait_for_a_consumer() {
    let peers = vec![peer("stopped", BAD, ASN)];
    let rig = Rig::with(&config("127.0.0.1:0", peers), Limits::default(), 2);
    let mut script = Script::establish(BAD, rig.address, &open(ASN, 90, ID));
    for third in 0..100 {
        script.send(&update(&[], &attributes(1), &[24, 10, 1, third]));
    }
    rig.until("stopped", |status| status.updates > 0);
    let start = Instant::now();
    rig.speaker.stop();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(script.notification(), (6, 2, vec![]));
}

#[test]
fn a_consumer_that_is_gone_ends_the_session() {
    let rig = Rig::new(vec![peer("orphan", BAD, ASN)]);
    let mut script = Script::establish(BAD, rig.address, &open(ASN, 90, ID));
    assert_eq!(rig.next(), RouteEvent::Up);
    drop(rig.events);
    script.send(&update(&[], &attributes(1), &[16, 10, 1]));
    assert_eq!(script.notification(), (6, 8, vec![]));
    rig.speaker.stop();
}
