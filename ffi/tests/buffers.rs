//! Packets and pools at their limits.

#![allow(clippy::unwrap_used, reason = "tests and their helpers")]

mod common;

use std::sync::{Arc, Mutex, PoisonError};

use common::{eal, frame, packet, pool, receive, slots, started};
use dpdk_sys::{HEADROOM, Mbuf, Mempool, MempoolError, Oddities, ThreadError, lcore_id, register_thread};

#[test]
fn a_fresh_packet_is_empty_with_room_on_both_sides() {
    let pool = pool("fresh", 7);
    let packet = pool.alloc().unwrap();
    assert_eq!((packet.len(), packet.segments(), packet.bytes().len()), (0, 1, 0));
    assert_eq!((packet.headroom(), packet.tailroom()), (usize::from(HEADROOM), 2048));
    assert_eq!((packet.stripped_vlan(), packet.stripped_qinq(), packet.packet_type()), (None, None, 0));
    packet.prefetch();
}

#[test]
fn prepend_takes_the_headroom_and_not_a_byte_more() {
    let pool = pool("prepend", 7);
    let mut p = packet(&pool, b"payload");
    let headroom = p.headroom();
    assert!(p.prepend(headroom + 1).is_none());
    assert!(p.prepend(usize::MAX).is_none());
    assert!(p.prepend(65536).is_none(), "65536 is 0 in sixteen bits");
    assert_eq!(p.bytes(), b"payload", "a refused prepend changes nothing");
    p.prepend(4).unwrap().copy_from_slice(b"tag:");
    assert_eq!(p.bytes(), b"tag:payload");
    p.prepend(headroom - 4).unwrap().fill(b'x');
    assert_eq!((p.headroom(), p.len()), (0, headroom + 7));
    assert!(p.bytes().ends_with(b"xtag:payload"));
    assert!(p.prepend(1).is_none());
    assert_eq!(p.prepend(0).map(|b| b.len()), Some(0));
}

#[test]
fn trimming_the_front_stops_at_the_end() {
    let pool = pool("trim", 7);
    let mut p = packet(&pool, b"0123456789");
    assert!(!p.trim_front(11));
    assert!(!p.trim_front(65536 + 4));
    assert!(p.trim_front(4));
    assert_eq!((p.bytes(), p.len()), (&b"456789"[..], 6));
    assert!(p.trim_front(6));
    assert_eq!((p.bytes(), p.len()), (&b""[..], 0));
    assert!(!p.trim_front(1));
    // What was trimmed is headroom again, with its content.
    assert_eq!(p.prepend(10).unwrap(), b"0123456789");
}

fn is_odd(packet: &Mbuf) -> bool {
    let mut oddities = Oddities::default();
    oddities.add(packet);
    oddities.any_odd()
}

#[test]
fn the_start_moves_within_headroom_and_data() {
    let pool = pool("move", 7);
    let mut p = packet(&pool, b"0123456789");
    let headroom = p.headroom();
    assert_eq!(p.move_start(4, 0, 6).unwrap(), b"456789");
    assert_eq!((p.len(), p.headroom()), (6, headroom + 4));
    assert_eq!(p.move_start(0, 4, 8).unwrap(), b"01234567");
    assert_eq!((p.bytes(), p.len()), (&b"01234567"[..], 8));
    assert!(p.move_start(0, 0, 9).is_none(), "beyond the end");
    assert!(p.move_start(3, 0, 6).is_none());
    assert!(p.move_start(0, headroom + 1, 1).is_none());
    assert!(p.move_start(usize::MAX, 0, 1).is_none() && p.move_start(0, 0, usize::MAX).is_none());
    assert_eq!((p.bytes(), p.headroom()), (&b"01234567"[..], headroom), "a refused move changes nothing");
    assert_eq!(p.move_start(0, headroom, 1).unwrap().len(), 1);
    assert!(!is_odd(&p));
    // The first segment of a chain; the others stay.
    let pool = Mempool::new(&eal(), "moved", 15, 0, 1600, None).unwrap();
    let mut p = chain("moved", &pool, &frame(3, 4000));
    let (before, first) = (p.len(), p.bytes().len());
    assert!(is_odd(&p));
    assert!(p.move_start(1, 0, first - 1).is_some());
    assert_eq!(p.len(), before - 1);
}

#[test]
fn the_front_grows_and_shrinks_within_headroom_and_data() {
    let pool = pool("regrow", 7);
    for sparing in [false, true] {
        let mut p = packet(&pool, b"0123456789");
        p.set_vlan_to_insert(Some(0xfedc));
        let headroom = p.headroom();
        let all = i16::try_from(headroom).unwrap();
        assert_eq!(p.regrow(-4, sparing).map(|bytes| *bytes), Some(*b"4567"));
        assert_eq!((p.bytes(), p.len(), p.headroom()), (&b"456789"[..], 6, headroom + 4));
        assert_eq!(p.regrow(4, sparing).map(|bytes| *bytes), Some(*b"01234567"));
        assert_eq!(p.regrow(0, sparing).map(|bytes| *bytes), Some(*b"0123456789"));
        for (growth, most) in [(0, false), (-1, false), (i16::MIN, true), (i16::MAX, true), (all + 1, true)] {
            let refused = if most {
                p.regrow::<0>(growth, sparing).is_none()
            } else {
                p.regrow::<11>(growth, sparing).is_none()
            };
            assert!(refused, "{growth}");
        }
        assert_eq!(
            (p.bytes(), p.len(), p.headroom()),
            (&b"0123456789"[..], 10, headroom),
            "a refusal changes nothing"
        );
        assert!(p.regrow::<1>(all, sparing).is_some());
        assert_eq!((p.len(), p.bytes().len(), p.headroom()), (headroom + 10, headroom + 10, 0));
        assert_eq!(p.vlan_to_insert(), Some(0xfedc), "what lies behind the lengths stays");
    }
    // The first segment of a chain, whose length goes beyond sixteen bits; the others stay.
    let pool = Mempool::new(&eal(), "regrown", 63, 0, 2000, None).unwrap();
    let mut p = chain("regrown", &pool, &frame(3, 65_534));
    let (before, first) = (p.len(), p.bytes().len());
    assert!(p.regrow::<4>(4, true).is_some());
    assert_eq!((p.len(), p.bytes().len()), (before + 4, first + 4));
    assert!(p.regrow::<4>(-8, true).is_some());
    assert_eq!((p.len(), p.bytes().len()), (before - 4, first - 4));
}

#[test]
fn append_takes_the_tailroom_and_not_a_byte_more() {
    let pool = pool("append", 7);
    let mut p = packet(&pool, b"head");
    let room = p.tailroom();
    assert!(p.append(room + 1).is_none());
    assert!(p.append(65536).is_none());
    p.append(room).unwrap().fill(7);
    assert_eq!((p.tailroom(), p.len()), (0, 2048));
    assert!(p.append(1).is_none());
    p.truncate(2048);
    assert_eq!(p.len(), 2048);
    p.truncate(2);
    assert_eq!((p.bytes(), p.len(), p.tailroom()), (&b"he"[..], 2, 2046));
    p.bytes_mut()[1] = b'i';
    assert_eq!(p.bytes(), b"hi");
    p.truncate(0);
    assert!(p.bytes().is_empty());
}

/// A packet of several segments, as the pcap driver makes it of a frame that is larger than a buffer.
fn chain(name: &str, pool: &Arc<Mempool>, bytes: &[u8]) -> Mbuf {
    let file = std::env::temp_dir().join(format!("dpdk-sys-{name}-{}.pcap", std::process::id()));
    let mut pcap = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1, 0, 0, bytes.len() as u32, bytes.len() as u32] {
        pcap.extend(u32::to_ne_bytes(word));
    }
    pcap.extend(bytes);
    std::fs::write(&file, pcap).unwrap();
    let (_port, mut rx, _tx) = started(&format!("net_pcap_{name},rx_pcap={}", file.display()), pool);
    std::fs::remove_file(&file).unwrap();
    receive(&mut rx, 1).pop().unwrap()
}

#[test]
fn a_chain_is_cut_and_every_segment_comes_back() {
    let pool = Mempool::new(&eal(), "chain", 15, 0, 1600, None).unwrap();
    let bytes = frame(3, 4000);
    // The driver uses the headroom of all segments but the first: 1600, 1728 and 672 bytes.
    let cuts = [
        (3999, 3, 1057),
        (3329, 3, 1727),
        (3328, 2, 0),
        (1601, 2, 1727),
        (1600, 1, 0),
        (1599, 1, 1),
        (1, 1, 1599),
        (0, 1, 1600),
    ];
    for (cut, segments, tailroom) in cuts {
        let mut p = chain("cut", &pool, &bytes);
        assert_eq!((p.len(), p.segments(), p.bytes()), (4000, 3, &bytes[..1600]));
        assert!(!p.trim_front(1601), "the first segment has 1600");
        assert_eq!(pool.in_use(), 3);
        p.truncate(cut);
        assert_eq!((p.len(), p.segments(), p.tailroom()), (cut, segments, tailroom));
        assert_eq!(pool.in_use(), u32::from(segments), "cut to {cut}");
        assert_eq!(p.bytes(), &bytes[..cut.min(1600)]);
        // The last segment is where bytes are added.
        assert!(p.append(tailroom + 1).is_none());
        assert_eq!(p.append(tailroom).map(|b| b.len()), Some(tailroom));
        assert_eq!(p.len(), cut + tailroom);
        drop(p);
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn an_exhausted_pool_says_so_and_recovers() {
    let pool = pool("exhausted", 63);
    assert_eq!((pool.size(), pool.available(), pool.in_use()), (63, 63, 0));
    let all: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((all.len(), pool.available(), pool.in_use()), (63, 0, 63));
    assert!(!pool.alloc_bulk(&mut slots(1)));
    drop(all);
    let mut some = slots(60);
    assert!(pool.alloc_bulk(&mut some));
    assert!(some.iter().all(Option::is_some));
    let mut rest = slots(4);
    assert!(!pool.alloc_bulk(&mut rest), "three are left");
    assert!(rest.iter().all(Option::is_none));
    // What is in the slots goes back first.
    assert!(pool.alloc_bulk(&mut some));
    assert_eq!(pool.in_use(), 60);
    drop(some);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_packet_outlives_the_handle_of_its_pool() {
    let pool = pool("orphan", 63);
    let mut p = packet(&pool, b"still here");
    drop(pool);
    // A pool of the same size would take the memory if it had been freed.
    let other = common::pool("orphan2", 63);
    let mut others: Vec<_> = std::iter::from_fn(|| other.alloc()).collect();
    for other in &mut others {
        other.append(2048).unwrap().fill(0);
    }
    assert_eq!(others.len(), 63);
    assert_eq!(p.bytes(), b"still here");
    p.bytes_mut().fill(1);
}

/// Held by tests that register threads, and by those that want pools freed at once, which waits for such threads.
static REGISTERED: Mutex<()> = Mutex::new(());

#[test]
fn a_freed_pool_gives_its_name_and_memory_back() {
    let _turn = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..100 {
        // Some 2 MB each: 100 of them would not fit the memory of this process.
        drop(pool("again", 1023));
    }
    let kept = pool("again", 63);
    assert!(matches!(Mempool::new(&eal(), "again", 63, 0, 2048, None), Err(MempoolError::Exists { .. })));
    drop(kept);
    // While another thread is registered a pool waits, and goes with the next one that is made after.
    let eal = eal();
    let (up, wait) = std::sync::mpsc::channel();
    let (done, stop) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let _guard = register_thread(&eal).unwrap();
        up.send(()).unwrap();
        let _ = stop.recv();
    });
    wait.recv().unwrap();
    drop(pool("again", 63));
    assert!(matches!(
        Mempool::new(&common::eal(), "again", 63, 0, 2048, None),
        Err(MempoolError::Exists { .. })
    ));
    drop(done);
    thread.join().unwrap();
    drop(pool("again", 63));
}

#[test]
fn registered_threads_have_ids_and_caches_and_lose_nothing() {
    let _turn = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    let eal = eal();
    let pool = Mempool::new(&eal, "cached", 4095, 128, 2048, None).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (eal, pool) = (Arc::clone(&eal), Arc::clone(&pool));
            std::thread::spawn(move || {
                assert_eq!(lcore_id(), None);
                let guard = register_thread(&eal).unwrap();
                let id = lcore_id().unwrap();
                assert!(matches!(register_thread(&eal), Err(ThreadError::Already)));
                for round in 0..2000 {
                    let mut burst = slots(1 + round % 64);
                    assert!(pool.alloc_bulk(&mut burst));
                }
                drop(guard);
                assert_eq!(lcore_id(), None);
                id
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn packets_may_be_freed_on_another_thread() {
    let pool = pool("moved", 127);
    let packets: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    std::thread::spawn(move || drop(packets)).join().unwrap();
    assert_eq!(pool.in_use(), 0);
}
