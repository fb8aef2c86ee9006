//! One worker polls the only queue, and hands flows to another.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Router, Routes, Target, ethernet, ipv4, ipv6, sub_if, tag};
use dataplane::hand_over::{HandOver, INBOX, Shared};
use dataplane::ids::PortId;
use dataplane::offload::{Checks, Offload, PortOffloads, State};
use dataplane::sub_interface::Tags;

/// So many workers with the same tables; the first has the traffic. Port 0 is shared out, port 1 is not.
fn routers(workers: usize) -> Vec<Router> {
    routers_with(workers, Shared::Always)
}

fn routers_with(workers: usize, shared: Shared) -> Vec<Router> {
    let qinq = Tags::Two(tag(0x8100, 100), tag(0x8100, 10));
    let sub_ifs =
        vec![sub_if(0, Tags::Untagged, 0), sub_if(0, qinq, 0), sub_if(1, Tags::One(tag(0x8100, 7)), 0)];
    let routes = Routes {
        v4: vec![(0, 0x0a00_0000, 8, Target::Via(vec![2]))],
        v6: vec![(0, 0x2001 << 112, 16, Target::Via(vec![2]))],
    };
    let parts = HandOver::among(workers, &[shared, Shared::Never]);
    let one = |part| {
        let mut router = Router::new(2, sub_ifs.clone(), &routes);
        router.worker = router.worker.with_hand_over(Some(part));
        router
    };
    parts.into_iter().map(one).collect()
}

/// Frame number `number` of a flow, of either family and either kind of tags by the flow.
fn frame(flow: u16, number: u32) -> Vec<u8> {
    let tags: &[_] = if flow.is_multiple_of(3) { &[] } else { &[(0x8100, 100), (0x8100, 10)] };
    let (ethertype, mut packet, l4) = if flow.is_multiple_of(2) {
        (0x0800, ipv4([192, 0, 2, 1], [10, 0, 0, 1], 64, 18), 20)
    } else {
        (0x86dd, ipv6(0x2002 << 112, 0x2001 << 112 | 1, 64, 18), 40)
    };
    packet[l4..l4 + 2].copy_from_slice(&flow.to_be_bytes());
    packet[l4 + 8..l4 + 12].copy_from_slice(&number.to_be_bytes());
    [ethernet(tags, ethertype), packet].concat()
}

/// The flow and number of a frame that was sent.
fn flow_of(frame: &[u8]) -> (u16, u32) {
    let l3 = 18;
    let l4 = l3 + if frame[l3] >> 4 == 4 { 20 } else { 40 };
    let bytes = |at: usize| [frame[at], frame[at + 1], frame[at + 2], frame[at + 3]];
    (u16::from_be_bytes([frame[l4], frame[l4 + 1]]), u32::from_be_bytes(bytes(l4 + 8)))
}

fn received(router: &Router) -> u64 {
    router.counters.port(PortId(0)).received.get()
}

/// Each flow's frames left by one worker only, in their order; returns how many left.
fn assert_order(sent: &[Vec<Vec<u8>>]) -> usize {
    let mut last: HashMap<u16, (usize, u32)> = HashMap::new();
    for (worker, frames) in sent.iter().enumerate() {
        for frame in frames {
            let (flow, number) = flow_of(frame);
            if let Some((by, before)) = last.insert(flow, (worker, number)) {
                assert!(by == worker && before < number, "flow {flow}: {number} after {before}");
            }
        }
    }
    sent.iter().map(Vec::len).sum()
}

#[test]
fn flows_are_shared_out_and_stay_in_order() {
    let mut routers = routers(3);
    for number in 0..20 {
        for flow in 0..300 {
            routers[0].receive(0, &frame(flow, number));
        }
        for router in &mut routers {
            router.run();
        }
    }
    let sent: Vec<_> = routers.iter().map(|router| router.sent(1)).collect();
    assert_eq!(assert_order(&sent), 6000);
    for router in &routers {
        router.assert_adds_up();
        assert!((1500..2500).contains(&received(router)), "{}", received(router));
    }
    let work = |i: usize| &routers[i].counters.work;
    assert_eq!(work(0).handed.get(), work(1).taken.get() + work(2).taken.get());
    assert_eq!((0..3).map(|i| work(i).packets.get()).sum::<u64>(), 6000);
}

/// Two workers, of which the first looks at how the port deals out flows, and what is known of that to begin with.
fn routers_that_check(rss: State) -> (Arc<PortOffloads>, Vec<Router>) {
    let offloads = Arc::new(PortOffloads::new([State::NotAsked, rss, State::NotAsked, State::NotAsked]));
    let mut routers = routers_with(2, Shared::WithoutRss(Arc::clone(&offloads)));
    let first = routers.remove(0);
    let checks = Checks::new(&[Arc::clone(&offloads)], 0);
    routers.insert(0, Router { worker: first.worker.with_checks(checks), ..first });
    (offloads, routers)
}

#[test]
fn a_port_that_gives_all_to_one_queue_is_shared_out_once_that_is_seen() {
    let (offloads, mut routers) = routers_that_check(State::Checking);
    for number in 0..20 {
        for flow in 0..600 {
            assert!(offloads.state(Offload::Rss) == State::OneQueue || received(&routers[1]) == 0);
            routers[0].receive(0, &frame(flow, number));
            routers[0].run();
            routers[1].run();
        }
    }
    assert_eq!(offloads.state(Offload::Rss), State::OneQueue);
    assert_eq!(received(&routers[0]) + received(&routers[1]), 12_000);
    assert!((4000..6500).contains(&received(&routers[1])), "{}", received(&routers[1]));
    // Those of a flow that the first worker sent before are not overtaken.
    let mut last = HashMap::new();
    for (flow, number) in [0, 1].iter().flat_map(|i: &usize| routers[*i].sent(1)).map(|frame| flow_of(&frame))
    {
        assert!(last.insert(flow, number).is_none_or(|before| before < number), "flow {flow}");
    }
    routers.iter().for_each(Router::assert_adds_up);
}

#[test]
fn what_is_no_ip_stays_and_so_does_a_port_that_is_not_shared_out() {
    let mut routers = routers(2);
    for _ in 0..200 {
        routers[0].receive(0, &[ethernet(&[], 0x0806), vec![0; 46]].concat());
        routers[0].receive(
            1,
            &[ethernet(&[(0x8100, 7)], 0x0800), ipv4([10, 0, 0, 9], [11, 0, 0, 1], 64, 9)].concat(),
        );
    }
    routers[0].run();
    routers[1].run();
    assert_eq!((received(&routers[0]), routers[1].counters.work.packets.get()), (200, 0));
    assert_eq!(routers[0].counters.port(PortId(1)).received.get(), 200);
    routers[0].assert_adds_up();
}

/// A flow that is not the first of two workers'.
fn flow_of_the_other() -> u16 {
    let is_the_others = |flow: &u16| {
        let mut probe = routers(2);
        probe[0].receive(0, &frame(*flow, 0));
        probe[0].run();
        received(&probe[0]) == 0
    };
    (0..100).find(is_the_others).unwrap()
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let mut routers = routers(2);
    let flow = flow_of_the_other();
    for number in 0..INBOX as u32 + 100 {
        routers[0].receive(0, &frame(flow, number));
    }
    routers[0].run();
    routers[0].assert_adds_up();
    assert_eq!(routers[0].ends(0), [("hand_over_full", 100)]);
    routers[1].run();
    assert_eq!(received(&routers[0]) + received(&routers[1]), INBOX as u64 + 100);
    // And there is room again.
    routers[0].receive(0, &frame(flow, u32::MAX));
    routers[0].run();
    routers[1].run();
    let sent = [routers[0].sent(1), routers[1].sent(1)];
    assert_eq!(assert_order(&sent), INBOX + 1);
    routers[1].assert_adds_up();
}

#[test]
fn packets_that_come_alone_take_no_more_room() {
    let mut routers = routers(2);
    let flow = flow_of_the_other();
    let alone = if cfg!(miri) { 200 } else { INBOX as u32 };
    for number in 0..alone {
        routers[0].receive(0, &frame(flow, number));
        routers[0].run();
    }
    assert_eq!(routers[0].ends(0), []);
    routers[1].run();
    let sent = [routers[0].sent(1), routers[1].sent(1)];
    assert_eq!(assert_order(&sent), alone as usize);
    // They are taken together.
    let work = &routers[1].counters.work;
    assert!(work.polls.get() - work.empty_polls.get() < u64::from(alone) / 32);
    routers[1].assert_adds_up();
}

#[test]
fn what_is_handed_over_at_the_end_is_counted() {
    let mut routers = routers(2);
    let flow = flow_of_the_other();
    routers[0].receive(0, &frame(flow, 0));
    routers[0].run();
    // The other one is told to stop, takes what is there, and has ended when more comes.
    routers[1].worker.run(&AtomicBool::new(true));
    for number in 1..10 {
        routers[0].receive(0, &frame(flow, number));
    }
    routers[0].run();
    assert_eq!((received(&routers[0]), received(&routers[1])), (9, 1));
    assert_eq!(routers[0].ends(0), [("hand_over_full", 9)]);
    routers.iter().for_each(Router::assert_adds_up);
}

#[test]
fn workers_that_end_while_others_go_on_lose_nothing_uncounted() {
    const FRAMES: u32 = if cfg!(miri) { 300 } else { 60_000 };
    let routers = routers(3);
    for number in 0..FRAMES {
        routers[0].receive(0, &frame((number % 97) as u16, number));
    }
    let stop: Vec<_> = (0..3).map(|_| AtomicBool::new(false)).collect();
    let first = Arc::clone(&routers[0].counters);
    let routers: Vec<_> = std::thread::scope(|scope| {
        let run = |(mut router, stop): (Router, &AtomicBool)| {
            router.worker.run(stop);
            router
        };
        let together = routers.into_iter().zip(&stop);
        let threads: Vec<_> = together.map(|both| scope.spawn(move || run(both))).collect();
        // The others end early, one after the other, and the first once it has received all.
        let seen = || first.port(PortId(0)).received.get() + first.work.handed.get();
        for (stop, enough) in stop[1..].iter().zip([FRAMES / 4, FRAMES / 2]) {
            while seen() < u64::from(enough) {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        }
        while seen() < u64::from(FRAMES) {
            std::thread::yield_now();
        }
        stop[0].store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(routers.iter().map(received).sum::<u64>(), u64::from(FRAMES));
    routers.iter().for_each(Router::assert_adds_up);
}

#[test]
fn two_threads_lose_nothing_and_keep_order() {
    const FLOWS: u16 = 64;
    const NUMBERS: u32 = if cfg!(miri) { 20 } else { 1000 };
    let routers = routers(2);
    for number in 0..NUMBERS {
        for flow in 0..FLOWS {
            routers[0].receive(0, &frame(flow, number));
        }
    }
    let all = u64::from(NUMBERS) * u64::from(FLOWS);
    let counters: Vec<_> = routers.iter().map(|router| Arc::clone(&router.counters)).collect();
    let done = AtomicBool::new(false);
    let routers: Vec<_> = std::thread::scope(|scope| {
        let run = |mut router: Router| {
            while !done.load(Ordering::Relaxed) {
                router.worker.round();
            }
            router
        };
        let threads: Vec<_> = routers.into_iter().map(|router| scope.spawn(move || run(router))).collect();
        let seen = || counters.iter().map(|counters| counters.port(PortId(0)).received.get()).sum::<u64>();
        while seen() < all {
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sent: Vec<_> = routers.iter().map(|router| router.sent(1)).collect();
    let lost: u64 = routers.iter().flat_map(|router| router.ends(0)).map(|(_, n)| n).sum();
    assert_eq!(assert_order(&sent) as u64 + lost, all);
    assert!(sent.iter().all(|sent| !sent.is_empty()));
    routers.iter().for_each(Router::assert_adds_up);
}

#[test]
fn only_flows_with_as_many_tags_as_the_port_does_not_look_behind_are_shared_out() {
    let (offloads, mut routers) = routers_that_check(State::InUse);
    // The port gives the first worker all flows with two tags, and of those without any, every third, some that are its.
    for number in 0..20 {
        for flow in (0..600).filter(|flow| flow % 3 != 0 || flow % 9 == 0) {
            routers[0].receive(0, &frame(flow, number));
            routers[0].run();
            routers[1].run();
        }
    }
    assert_eq!(offloads.not_dealt_out().names().as_deref(), Some("two tags"));
    let mut last = HashMap::new();
    for (worker, router) in routers.iter().enumerate() {
        for (flow, number) in router.sent(1).iter().map(|frame| flow_of(frame)) {
            assert!(worker == 0 || flow % 3 != 0, "flow {flow} has no tag, and was dealt out already");
            assert!(last.insert(flow, number).is_none_or(|before| before < number), "flow {flow}");
        }
        router.assert_adds_up();
    }
    assert_eq!(received(&routers[0]) + received(&routers[1]), 20 * 467);
    assert!((3000..4200).contains(&received(&routers[1])), "{}", received(&routers[1]));
}
