//! Virtual ports carry packets, unchanged, and give every buffer back.

mod common;

use common::{eal, frame, packet, pool, receive, slots, small, started};
use dpdk_sys::{Port, PortConfig, PortError};

#[test]
fn a_ring_port_gives_back_what_was_sent() {
    let pool = pool("ring", 511);
    let (port, mut rx, mut tx) = started("net_ring0", &pool);
    let frames: Vec<Vec<u8>> = (0..32).map(|n| frame(n, 60 + usize::from(n) * 40)).collect();
    let mut burst: Vec<_> = frames.iter().map(|f| Some(packet(&pool, f))).collect();
    assert_eq!(tx.burst(&mut burst), 32);
    assert!(burst.iter().all(Option::is_none), "sent packets are not ours any more");

    let got = receive(&mut rx, 32);
    assert_eq!(got.iter().map(|p| p.bytes().to_vec()).collect::<Vec<_>>(), frames);
    assert_eq!(port.stats().unwrap().tx_packets, 32);
    assert_eq!(pool.in_use(), 32);
    drop(got);
    drop((port, rx, tx));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn only_the_leading_run_is_sent() {
    let pool = pool("run", 511);
    let (_port, mut rx, mut tx) = started("net_ring1", &pool);
    let mut burst = slots(5);
    for n in [0, 1, 3] {
        burst[n] = Some(packet(&pool, &frame(n as u8, 60)));
    }
    assert_eq!(tx.burst(&mut burst), 2);
    assert_eq!(burst.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, false, true, false]);
    assert_eq!(tx.burst(&mut burst), 0);
    assert_eq!(tx.burst(&mut []), 0);
    assert_eq!(receive(&mut rx, 2).len(), 2);
}

#[test]
fn what_a_full_ring_does_not_take_stays_with_the_sender() {
    let pool = pool("full", 2047);
    let (port, rx, mut tx) = started("net_ring2", &pool);
    let mut sent = 0;
    let left = loop {
        let mut burst: Vec<_> = (0..64).map(|n| Some(packet(&pool, &frame(n, 60)))).collect();
        let n = tx.burst(&mut burst);
        sent += n;
        if n < 64 {
            break burst;
        }
        assert!(sent < 2000, "a ring has an end");
    };
    let taken = sent % 64;
    assert!(left[..taken].iter().all(Option::is_none));
    assert!(left[taken..].iter().all(Option::is_some));
    assert_eq!(pool.in_use() as usize, sent + 64 - taken);
    drop(left);
    // Packets that nobody received go with the port.
    drop((port, rx, tx));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn packets_left_in_the_slots_are_dropped_not_leaked() {
    let pool = pool("left", 511);
    let (_port, mut rx, mut tx) = started("net_ring3", &pool);
    tx.burst(&mut [Some(packet(&pool, &frame(7, 60)))]);
    let mut out = slots(4);
    out[0] = Some(packet(&pool, &frame(1, 60)));
    out[3] = Some(packet(&pool, &frame(2, 60)));
    assert_eq!(rx.burst(&mut out), 1);
    assert_eq!(out[0].as_ref().unwrap().bytes(), frame(7, 60));
    assert_eq!(pool.in_use(), 1);
    assert_eq!(rx.burst(&mut out), 0);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_null_port_counts_and_frees() {
    let pool = pool("null", 511);
    let (port, mut rx, mut tx) = started("net_null0,size=100", &pool);
    let mut out = slots(64);
    assert_eq!(rx.burst(&mut out), 64);
    assert!(out.iter().flatten().all(|p| p.len() == 100 && p.segments() == 1));
    assert_eq!(tx.burst(&mut out), 64);
    assert_eq!(pool.in_use(), 0);
    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (64, 64));
}

/// A pcap file (microseconds, Ethernet) of these frames.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(word.to_ne_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_ne_bytes());
        }
        file.extend(frame);
    }
    file
}

#[test]
fn a_pcap_port_reads_and_writes_files() {
    let dir = std::env::temp_dir().join(format!("dpdk-sys-pcap-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (from, to) = (dir.join("from.pcap"), dir.join("to.pcap"));
    let frames: Vec<Vec<u8>> = (0..10).map(|n| frame(n, 60 + usize::from(n))).collect();
    std::fs::write(&from, pcap(&frames)).unwrap();

    let pool = pool("pcap", 511);
    let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", from.display(), to.display());
    let (port, mut rx, mut tx) = started(&device, &pool);
    let mut got: Vec<_> = receive(&mut rx, 10).into_iter().map(Some).collect();
    assert_eq!(got.iter().flatten().map(|p| p.bytes().to_vec()).collect::<Vec<_>>(), frames);
    assert_eq!(tx.burst(&mut got), 10);
    drop((port, rx, tx));
    assert_eq!(pool.in_use(), 0);
    let written = std::fs::read(&to).unwrap();
    for frame in &frames {
        assert!(written.windows(frame.len()).any(|w| w == frame), "a frame is missing in the file");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn too_many_queues_are_refused_by_name() {
    let pool = pool("queues", 511);
    let mut port = Port::open(&eal(), "net_ring4").unwrap();
    let has = port.info().unwrap().max_rx_queues;
    let err = port.configure(&PortConfig { rx_queues: has + 1, ..small() }, &pool).unwrap_err();
    let text = err.to_string();
    assert!(matches!(err, PortError::TooFewQueues { direction: "RX", .. }), "{text}");
    assert!(text.contains(port.device()) && text.contains(&(has + 1).to_string()), "{text}");
    let err = port.configure(&PortConfig { tx_queues: 0, ..small() }, &pool).unwrap_err();
    assert!(matches!(err, PortError::NoQueues { .. }), "{err}");
    assert!(matches!(port.start(), Err(PortError::NotConfigured { .. })));
}

#[test]
fn buffers_that_are_too_small_are_refused() {
    let pool = pool("short", 127);
    let mut port = Port::open(&eal(), "net_null1").unwrap();
    let err = port.configure(&PortConfig { mtu: 9000, ..small() }, &pool).unwrap_err();
    assert!(matches!(err, PortError::Buffers { frame: 9026, room: 2048, .. }), "{err}");
    // The failure has not spoilt the port.
    port.configure(&small(), &pool).unwrap();
    port.start().unwrap();
    assert!(matches!(port.start(), Err(PortError::Started { .. })));
    assert!(matches!(port.configure(&small(), &pool), Err(PortError::Started { .. })));
}

#[test]
fn devices_that_are_not_there_are_named() {
    let open = |device: &str| Port::open(&eal(), device).unwrap_err();
    let err = open("0000:ff:1f.7");
    assert!(matches!(&err, PortError::NoSuchPciDevice { device } if device == "0000:ff:1f.7"), "{err}");
    let err = open("net_nonsense0,iface=x");
    assert!(matches!(&err, PortError::NoDriver { device, .. } if device == "net_nonsense0"), "{err}");
    let err = open("net_pcap9,rx_pcap=/no/such/file");
    assert!(matches!(&err, PortError::Probe { device, .. } if device == "net_pcap9"), "{err}");
    assert!(err.to_string().contains("No such file"), "DPDK's own reason is told: {err}");
}

#[test]
fn a_device_is_open_once_at_a_time_and_its_queues_keep_it() {
    let pool = pool("once", 511);
    let (port, mut rx, mut tx) = started("net_ring5", &pool);
    assert!(matches!(Port::open(&eal(), "net_ring5"), Err(PortError::AlreadyOpen { .. })));
    drop(port);
    assert!(matches!(Port::open(&eal(), "net_ring5"), Err(PortError::AlreadyOpen { .. })));
    assert_eq!(tx.burst(&mut [Some(packet(&pool, &frame(1, 60)))]), 1);
    assert_eq!(receive(&mut rx, 1).len(), 1);
    drop(rx);
    drop(tx);
    drop(Port::open(&eal(), "net_ring5").unwrap());
}

#[test]
fn a_port_tells_what_it_is() {
    let port = Port::open(&eal(), "net_null2").unwrap();
    let info = port.info().unwrap();
    assert_eq!((info.device.as_str(), info.driver.as_str(), info.socket), ("net_null2", "net_null", None));
    assert!(info.max_rx_queues >= 1 && info.max_mtu >= 1500, "{info:?}");
    assert_eq!(info.mac, port.mac().unwrap());
}
