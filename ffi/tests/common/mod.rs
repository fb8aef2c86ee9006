//! One EAL for all tests of a binary: DPDK starts once a process.
#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests, of which each binary uses its part")]

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dpdk_sys::{Eal, Mbuf, Mempool, Port, PortConfig, RxQueue, TxQueue};

/// EAL arguments that need neither a NIC nor huge pages, nor touch another DPDK process.
pub fn eal_args() -> Vec<String> {
    // With `--no-shconf` nothing in the prefix's directory is shared, so that test processes may use one.
    let prefix = "--file-prefix=dpdk-sys-test";
    ["--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "--iova-mode=va", "-m", "96", prefix]
        .map(str::to_owned)
        .to_vec()
}

/// The EAL of this process.
pub fn eal() -> Arc<Eal> {
    static EAL: OnceLock<Arc<Eal>> = OnceLock::new();
    Arc::clone(EAL.get_or_init(|| Arc::new(Eal::init(&eal_args()).unwrap())))
}

/// A pool for one test.
pub fn pool(name: &str, count: u32) -> Arc<Mempool> {
    Mempool::new(&eal(), name, count, 0, 2048, None).unwrap()
}

/// One queue each way, few descriptors.
pub fn small() -> PortConfig {
    PortConfig { rx_desc: 64, tx_desc: 64, ..PortConfig::default() }
}

/// Opens, configures and starts a port of one queue each way.
pub fn started(device: &str, pool: &Arc<Mempool>) -> (Port, RxQueue, TxQueue) {
    let mut port = Port::open(&eal(), device).unwrap();
    port.configure(&small(), pool).unwrap();
    let (mut rx, mut tx) = port.start().unwrap();
    (port, rx.pop().unwrap(), tx.pop().unwrap())
}

/// A packet with these bytes.
pub fn packet(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut packet = pool.alloc().unwrap();
    packet.append(bytes.len()).unwrap().copy_from_slice(bytes);
    packet
}

/// A frame of its own for each `n`: broadcast, an experimental ethertype, then a pattern.
pub fn frame(n: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, n, 0x88, 0xb5]);
    frame.extend((0..).map(|i: usize| (i as u8) ^ n).take(len - 14));
    frame
}

/// Room for `n` packets.
pub fn slots(n: usize) -> Vec<Option<Mbuf>> {
    std::iter::repeat_with(|| None).take(n).collect()
}

/// Receives until `want` packets of the tests' ethertype came, or a long time has passed.
pub fn receive(rx: &mut RxQueue, want: usize) -> Vec<Mbuf> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut got = Vec::new();
    while got.len() < want && Instant::now() < deadline {
        let mut out = slots(32);
        let n = rx.burst(&mut out);
        assert!(out.iter().skip(n).all(Option::is_none));
        got.extend(out.into_iter().flatten().filter(|p| p.bytes().get(12..14) == Some(&[0x88, 0xb5])));
    }
    got
}
