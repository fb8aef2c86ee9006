//! The whole life of DPDK in a process, with a TAP (which needs root), in a network namespace of its own: up, used, and
//! gone without a trace.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test and its helpers")]

mod common;

use std::net::UdpSocket;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{eal_args, small};
use dpdk_sys::{Eal, EalError, Mbuf, Mempool, Port, PortConfig, RxQueue, TxQueue, log};

/// Set in the process that runs in the namespace.
const INSIDE: &str = "DPDK_SYS_TEST_INSIDE";

#[test]
fn a_tap_comes_and_goes_and_dpdk_starts_once() {
    if std::env::var_os(INSIDE).is_some() {
        return live();
    }
    let this = std::env::current_exe().unwrap();
    let mut inside = Command::new("unshare");
    inside.args(["--net", "--"]).arg(this).args([
        "--exact",
        "a_tap_comes_and_goes_and_dpdk_starts_once",
        "--nocapture",
    ]);
    let output = inside.env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
    print!("{said}");
}

fn live() {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    log::set_sink(|_, line| SAID.lock().unwrap().push(line.to_owned()));
    let eal = timed("EAL", || Arc::new(Eal::init(&eal_args()).unwrap()));
    assert!(!eal.huge_pages());
    assert!(eal.tsc_hz() > 1_000_000);
    assert!(SAID.lock().unwrap().iter().any(|l| l.starts_with("EAL:")), "the log reaches the sink");
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads <= 6, "no lcore threads: {threads} in all");

    let mut port = timed("open", || Port::open(&eal, "net_tap0,iface=lan0").unwrap());
    assert!(link("lan0").is_some(), "the TAP is there");
    let info = port.info().unwrap();
    println!("{info:?}");
    assert_eq!(info.driver, "net_tap");

    let pool = Mempool::new(&eal, "tap", 1023, 64, 2048, None).unwrap();
    let config = PortConfig { rx_queues: 2, tx_queues: 2, ..small() };
    let notes = timed("configure", || port.configure(&config, &pool).unwrap());
    println!("{notes:?}");
    let (mut rx, mut tx) = timed("start", || port.start().unwrap());
    println!("{} buffers held", pool.in_use());
    assert_eq!((rx.len(), tx.len()), (2, 2));
    assert!(port.link().unwrap().up);
    assert!(link("lan0").unwrap().contains("mtu 1500 "));
    assert!(port.set_mtu(1400).unwrap().is_empty());
    assert!(link("lan0").unwrap().contains("mtu 1400 "));
    talk_to_the_kernel("lan0", &mut rx, &mut tx[1], &pool);

    // The handles may go in any order: the last queue closes the port.
    drop(port);
    drop(tx);
    assert!(link("lan0").is_some(), "a queue keeps the port");
    timed("close", || drop(rx));
    assert!(link("lan0").is_none(), "the TAP went with its port");
    assert_eq!(pool.in_use(), 0);

    assert!(matches!(Eal::init(&eal_args()), Err(EalError::AlreadyStarted)));
    drop(eal);
    drop(pool);
    assert!(matches!(Eal::init(&eal_args()), Err(EalError::AlreadyStarted)), "not even after its end");
}

fn timed<T>(what: &str, f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = f();
    println!("{what}: {:?}", start.elapsed());
    result
}

/// What `ip` says of an interface; `None` if there is none.
fn link(name: &str) -> Option<String> {
    let output = Command::new("ip").args(["-o", "link", "show", "dev", name]).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// The next frame of this ethertype from the kernel, on whichever queue.
fn frame_from_kernel(rx: &mut [RxQueue], ethertype: [u8; 2]) -> Mbuf {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        for queue in &mut *rx {
            let mut out = [None];
            queue.burst(&mut out);
            if let [Some(frame)] = out
                && frame.bytes()[12..14] == ethertype
            {
                return frame;
            }
        }
    }
    panic!("no frame of ethertype {ethertype:02x?} from the kernel")
}

/// A datagram goes to a neighbour behind the TAP: the kernel asks for it by ARP, we answer, and the datagram comes.
fn talk_to_the_kernel(name: &str, rx: &mut [RxQueue], tx: &mut TxQueue, pool: &Mempool) {
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const NEIGHBOUR: [u8; 4] = [198, 51, 100, 2];
    ip(&format!("addr add 198.51.100.1/30 dev {name}"));
    ip(&format!("link set {name} up"));
    let socket = UdpSocket::bind("198.51.100.1:0").unwrap();
    socket.send_to(b"over a TAP", "198.51.100.2:9").unwrap();

    let request = frame_from_kernel(rx, [0x08, 0x06]);
    let asked = request.bytes();
    assert_eq!(asked[38..42], NEIGHBOUR);
    let mut reply = pool.alloc().unwrap();
    let bytes = reply.append(42).unwrap();
    bytes[..6].copy_from_slice(&asked[6..12]);
    bytes[6..12].copy_from_slice(&MAC);
    bytes[12..22].copy_from_slice(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
    bytes[22..28].copy_from_slice(&MAC);
    bytes[28..32].copy_from_slice(&NEIGHBOUR);
    bytes[32..42].copy_from_slice(&asked[22..32]);
    drop(request);
    assert_eq!(tx.burst(&mut [Some(reply)]), 1);

    let datagram = frame_from_kernel(rx, [0x08, 0x00]);
    assert_eq!(datagram.bytes()[..6], MAC);
    assert!(datagram.bytes().ends_with(b"over a TAP"));
}
