//! A router in memory: ports are plain queues, so that the whole worker runs in a test without DPDK.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)] // helpers of tests; each test binary uses its own part

use std::collections::VecDeque;
use std::sync::Arc;

use dataplane::adjacency::{Adjacency, Forward};
use dataplane::counters::WorkerCounters;
use dataplane::fib::{Fib4Writer, Fib6Writer};
use dataplane::grace::GracePeriod;
use dataplane::ids::{AdjId, GroupId, PortId, SubIfId, VrfId};
use dataplane::io::PortIo;
use dataplane::packet::{HeapPacket, Packet};
use dataplane::policy::Policies;
use dataplane::punt::{PUNT_RING, Rings};
use dataplane::qsbr::Domain;
use dataplane::sub_interface::{SubInterface, SubInterfaces, Tag, Tags};
use dataplane::tables::{Tables, VrfTables};
use dataplane::worker::Worker;

pub const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// Ports as queues: one RX queue and one TX queue each, shared with the test.
#[derive(Clone)]
pub struct MemoryIo {
    pub rx: Vec<VecDeque<HeapPacket>>,
    pub tx: Vec<Vec<HeapPacket>>,
    /// Room of each TX queue.
    pub tx_room: usize,
    pub clock: std::cell::Cell<u64>,
}

/// So that the test can look into the ports that the worker owns.
#[derive(Clone)]
pub struct SharedIo(pub Arc<std::sync::Mutex<MemoryIo>>);

impl PortIo for SharedIo {
    type Packet = HeapPacket;

    fn rx_queues(&self) -> usize {
        self.0.lock().unwrap().rx.len()
    }

    fn rx_port(&self, queue: usize) -> PortId {
        PortId(queue as u16)
    }

    fn tx_ports(&self) -> usize {
        self.0.lock().unwrap().tx.len()
    }

    fn rx(&mut self, queue: usize, out: &mut [Option<HeapPacket>]) -> usize {
        let queue = &mut self.0.lock().unwrap().rx[queue];
        let count = queue.len().min(out.len());
        for slot in &mut out[..count] {
            assert!(slot.is_none(), "a slot was not empty: a packet leaked");
            *slot = queue.pop_front();
        }
        count
    }

    fn tx(&mut self, port: PortId, packets: &mut [Option<HeapPacket>]) -> usize {
        let mut io = self.0.lock().unwrap();
        let room = io.tx_room;
        let queue = &mut io.tx[usize::from(port.0)];
        let mut sent = 0;
        for slot in packets {
            if queue.len() >= room || slot.is_none() {
                break;
            }
            queue.extend(slot.take());
            sent += 1;
        }
        sent
    }

    fn cycles(&self) -> u64 {
        let io = self.0.lock().unwrap();
        io.clock.set(io.clock.get() + 1000);
        io.clock.get()
    }
}

/// A worker with its ports, tables and routes.
pub struct Router {
    pub io: SharedIo,
    pub worker: Worker<SharedIo>,
    pub rings: Rings<HeapPacket>,
    pub counters: Arc<WorkerCounters>,
    pub ports: usize,
    pub domain: Arc<Domain<Tables>>,
    pub domain_tables: Tables,
}

/// Routes and neighbours for [`Router::new`].
#[derive(Default)]
pub struct Routes {
    /// (VRF, prefix, length, members as indices into `adjacencies`).
    pub v4: Vec<(u16, u32, u8, Target)>,
    pub v6: Vec<(u16, u128, u8, Target)>,
}

/// What a test route leads to.
#[derive(Clone)]
pub enum Target {
    /// Neighbours `PEER_MAC` on these sub-interfaces; a power of two of them.
    Via(Vec<u16>),
    Local,
    Discard,
    Unresolved,
}

impl Router {
    pub fn new(ports: usize, sub_interfaces: Vec<SubInterface>, routes: &Routes) -> Self {
        Self::with_policies(ports, sub_interfaces, routes, Policies::default())
    }

    pub fn with_policies(
        ports: usize,
        sub_interfaces: Vec<SubInterface>,
        routes: &Routes,
        policies: Policies,
    ) -> Self {
        let vrfs = usize::from(sub_interfaces.iter().map(|s| s.vrf.0).max().unwrap_or(0)) + 1;
        let sub_interfaces = Arc::new(SubInterfaces::new(sub_interfaces).unwrap());
        let grace: Arc<dyn GracePeriod> = Arc::new(dataplane::grace::NoReaders);
        let mut writers: Vec<_> = (0..vrfs)
            .map(|_| {
                (Fib4Writer::new(Arc::clone(&grace)).unwrap(), Fib6Writer::new(Arc::clone(&grace)).unwrap())
            })
            .collect();
        let vrfs: Vec<_> =
            writers.iter().map(|(v4, v6)| VrfTables { v4: v4.reader(), v6: v6.reader() }).collect();
        let mut tables = Tables::new(Arc::clone(&sub_interfaces), vrfs.into());
        let mut group_of = |target: &Target| match target {
            Target::Local => GroupId::LOCAL,
            Target::Discard => GroupId::DISCARD,
            Target::Unresolved => {
                push_group(&mut tables, vec![Adjacency::Punt(dataplane::verdict::PuntReason::Unresolved)])
            }
            Target::Via(members) => {
                let forward = |id: &u16| {
                    let id = SubIfId(*id);
                    Adjacency::Forward(Forward::new(id, sub_interfaces.get(id).unwrap(), PEER_MAC))
                };
                push_group(&mut tables, members.iter().map(forward).collect())
            }
        };
        for (vrf, prefix, len, target) in &routes.v4 {
            let group = group_of(target);
            writers[usize::from(*vrf)].0.insert(*prefix, *len, group).unwrap();
        }
        for (vrf, prefix, len, target) in &routes.v6 {
            let group = group_of(target);
            writers[usize::from(*vrf)].1.insert(*prefix, *len, group).unwrap();
        }
        tables.policies = Arc::new(policies);
        for group in tables.groups().to_vec() {
            let members = tables.buckets(group);
            let out = |id: &AdjId| match tables.adjacency(*id) {
                Adjacency::Forward(forward) => Some(forward.sub_if),
                _ => None,
            };
            let members: Vec<_> = members.iter().filter_map(out).collect();
            tables.reverse_paths.push(members);
        }
        let io = SharedIo(Arc::new(std::sync::Mutex::new(MemoryIo {
            rx: vec![VecDeque::new(); ports],
            tx: vec![Vec::new(); ports],
            tx_room: usize::MAX,
            clock: std::cell::Cell::new(0),
        })));
        let counters = Arc::new(WorkerCounters::new(ports, sub_interfaces.all().len()));
        let rings = Rings::new(PUNT_RING);
        let domain_tables = tables.clone();
        let (domain, mut readers) = Domain::new(tables, 1);
        let mut reader = readers.remove(0);
        reader.online();
        let worker = Worker::new(io.clone(), reader, &rings, Arc::clone(&counters), 2_000_000_000, false);
        Self { io, worker, rings, counters, ports, domain, domain_tables }
    }

    pub fn receive(&self, port: usize, frame: &[u8]) {
        self.receive_packet(port, HeapPacket::new(frame));
    }

    pub fn receive_packet(&self, port: usize, packet: HeapPacket) {
        self.io.0.lock().unwrap().rx[port].push_back(packet);
    }

    /// Runs rounds until nothing is left to do.
    pub fn run(&mut self) {
        while self.worker.round() {}
    }

    pub fn sent(&self, port: usize) -> Vec<Vec<u8>> {
        self.io.0.lock().unwrap().tx[port].drain(..).map(|p| p.bytes().to_vec()).collect()
    }

    /// The invariant: for each port, received = forwarded + punted + dropped.
    pub fn assert_adds_up(&self) {
        for port in 0..self.ports {
            let c = self.counters.port(PortId(port as u16));
            let punted: u64 = c.punted.iter().map(dataplane::counters::Counter::get).sum();
            let dropped: u64 = c.dropped.iter().map(dataplane::counters::Counter::get).sum();
            assert_eq!(c.received.get(), c.forwarded.get() + punted + dropped, "port {port}");
        }
    }

    /// Names and counts of all drops and punts of a port that are not zero.
    pub fn ends(&self, port: usize) -> Vec<(&'static str, u64)> {
        use dataplane::verdict::{DropReason, PuntReason};
        let c = self.counters.port(PortId(port as u16));
        let drops = DropReason::ALL.iter().map(|r| (r.name(), c.dropped[r.index()].get()));
        let punts = PuntReason::ALL.iter().map(|r| (r.name(), c.punted[r.index()].get()));
        drops.chain(punts).filter(|(_, n)| *n > 0).collect()
    }
}

fn push_group(tables: &mut Tables, members: Vec<Adjacency>) -> GroupId {
    assert!(members.len().is_power_of_two());
    let members: Vec<_> = members.into_iter().map(|adjacency| tables.add_adjacency(adjacency)).collect();
    tables.add_group(&members)
}

pub fn tag(tpid: u16, vid: u16) -> Tag {
    Tag { tpid, vid }
}

pub fn sub_if(port: u16, tags: Tags, vrf: u16) -> SubInterface {
    SubInterface { port: PortId(port), tags, vrf: VrfId(vrf), mac: OUR_MAC, mtu: 1500, pcp: None }
}

/// Ethernet header from the peer to us with the given (TPID, TCI) tags.
pub fn ethernet(tags: &[(u16, u16)], ethertype: u16) -> Vec<u8> {
    let mut frame = [OUR_MAC, PEER_MAC].concat();
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// A UDP packet over IPv4, its header checksum right (computed here on its own, not by the code under test).
pub fn ipv4(source: [u8; 4], destination: [u8; 4], ttl: u8, payload: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0x12, 0x34, 0, 0, ttl, 17, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    let total = (28 + payload) as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    set_ipv4_checksum(&mut packet);
    packet.extend([0x30, 0x39, 0x00, 0x35]);
    packet.extend((8 + payload as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend((0..payload).map(|i| i as u8));
    packet
}

pub fn set_ipv4_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let len = usize::from(header[0] & 15) * 4;
    let mut sum: u32 = header[..len].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// A UDP packet over IPv6.
pub fn ipv6(source: u128, destination: u128, hop_limit: u8, payload: usize) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, 17, hop_limit];
    packet[4..6].copy_from_slice(&((8 + payload) as u16).to_be_bytes());
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend([0x30, 0x39, 0x00, 0x35]);
    packet.extend((8 + payload as u16).to_be_bytes());
    packet.extend([0xab, 0xcd]);
    packet.extend((0..payload).map(|i| i as u8));
    packet
}
