//! A million routes, in counts of work rather than time, so that a slow machine does not fail it.

use std::net::Ipv4Addr;

use super::*;

const ROUTES: u32 = 1_000_000;

/// A FIB that only counts.
#[derive(Default)]
pub(super) struct Counter {
    pub inserts: usize,
    pub removes: usize,
}

impl Counter {
    fn count<A>(&mut self, changes: &[Change<A>]) {
        let inserts = changes.iter().filter(|(.., group)| group.is_some()).count();
        self.inserts += inserts;
        self.removes += changes.len() - inserts;
    }
}

impl FibSink for Counter {
    fn write4(&mut self, _: VrfId, changes: &[Change<u32>]) -> Result<(), (usize, FibSinkError)> {
        self.count(changes);
        Ok(())
    }

    fn write6(&mut self, _: VrfId, changes: &[Change<u128>]) -> Result<(), (usize, FibSinkError)> {
        self.count(changes);
        Ok(())
    }
}

/// Announces the million.
fn feed(rib: &mut Rib, source: u32, next_hop: &str) {
    feed_some(rib, source, next_hop, ROUTES);
}

/// Announces so many /24s of source 2 or 3.
pub(super) fn feed_some(rib: &mut Rib, source: u32, next_hop: &str, count: u32) {
    let all: Vec<Nlri> = (0..count)
        .map(|i| {
            let prefix = IpNetwork::new(IpAddr::V4(Ipv4Addr::from_bits(0x2000_0000 + (i << 8))), 24).unwrap();
            Nlri { prefix, path_id: 0 }
        })
        .collect();
    for (i, announced) in all.chunks(500).enumerate() {
        let attributes = Attributes { as_path: vec![12076, i as u32 % 1000], ..via(&[next_hop]) };
        let announced = announced.to_vec();
        let event = RouteEvent::Update { withdrawn: vec![], announced, attributes: Arc::new(attributes) };
        send(rib, source, event);
    }
}

#[test]
fn a_million_routes_cost_a_write_each_and_their_repair_none() {
    let (mut rib, _) = two_links();
    let mut fib = Counter::default();
    let mut publishes = 0;
    let _ = rib.commit(&mut |_| publishes += 1, &mut fib);
    let base = fib.inserts;
    let start = std::time::Instant::now();
    feed(&mut rib, 2, "10.0.0.2");
    let fed = start.elapsed();
    let _ = rib.commit(&mut |_| publishes += 1, &mut fib);
    eprintln!("1 M routes: applied in {fed:?}, committed in {:?}", start.elapsed().saturating_sub(fed));
    assert_eq!(fib.inserts - base, ROUTES as usize);
    assert!(publishes <= 3, "{publishes}");
    // A thousand attributes, one set of next hops: one group.
    assert_eq!(rib.groups().filter(|g| g.kind == "via").count(), 1);

    let start = std::time::Instant::now();
    feed(&mut rib, 3, "10.0.1.2");
    let _ = rib.commit(&mut |_| {}, &mut fib);
    eprintln!("a second path each: {:?}", start.elapsed());
    assert_eq!(fib.inserts - base, 2 * ROUTES as usize);

    // Both sessions bring all again: no write.
    feed(&mut rib, 2, "10.0.0.2");
    feed(&mut rib, 3, "10.0.1.2");
    // A neighbour is lost: its groups change, no route does.
    let refreshed = rib.groups.refreshed;
    rib.set_neighbour(SubIfId(0), ip("10.0.0.2"), Neighbour::Failed).unwrap();
    let start = std::time::Instant::now();
    let _ = rib.commit(&mut |_| {}, &mut fib);
    eprintln!("repair: {:?}", start.elapsed());
    assert!(rib.groups.refreshed - refreshed <= 5);
    assert_eq!((fib.inserts - base, fib.removes), (2 * ROUTES as usize, 1));

    let start = std::time::Instant::now();
    for source in [2, 3] {
        rib.source_down(SourceId(source));
        rib.sweep_source(SourceId(source));
    }
    let _ = rib.commit(&mut |_| {}, &mut fib);
    eprintln!("all gone: {:?}", start.elapsed());
    assert_eq!(fib.removes, ROUTES as usize + 1);
    assert_eq!(rib.route_count(VRF, Family::Ipv4), 9);
}

/// A group that a source changes under its number: the group is rewritten, and no prefix is looked at.
#[test]
fn a_set_that_changes_under_a_million_routes_costs_no_write() {
    let (mut rib, _) = two_links();
    let mut fib = Counter::default();
    let set = crate::source::HopSet { source: SourceId(2), number: 7 };
    let define = |rib: &mut Rib, hops: &[&str]| {
        let next_hops = hops.iter().map(|hop| NextHop::new(ip(hop))).collect();
        send(rib, 2, RouteEvent::HopSet { number: 7, next_hops });
    };
    define(&mut rib, &["10.0.0.2", "10.0.1.2"]);
    let attributes = Arc::new(Attributes { hop_set: Some(set), ..Attributes::default() });
    for chunk in (0..ROUTES).collect::<Vec<_>>().chunks(500) {
        let nlri = |i: &u32| Nlri {
            prefix: IpNetwork::new(Ipv4Addr::from_bits(0x2000_0000 + (i << 8)).into(), 24).unwrap(),
            path_id: 0,
        };
        let announced = chunk.iter().map(nlri).collect();
        send(
            &mut rib,
            2,
            RouteEvent::Update { withdrawn: vec![], announced, attributes: Arc::clone(&attributes) },
        );
    }
    let _ = rib.commit(&mut |_| {}, &mut fib);
    let (writes, refreshed) = (fib.inserts, rib.groups.refreshed);
    assert!(writes >= ROUTES as usize);
    let gateways = |rib: &Rib| -> Vec<String> {
        let chain = rib.lookup(VRF, ip("32.0.5.9"));
        let mut gateways: Vec<String> =
            chain.iter().flat_map(|r| &r.members).filter_map(|m| m.gateway).map(|g| g.to_string()).collect();
        gateways.sort();
        gateways
    };
    assert_eq!(gateways(&rib), ["10.0.0.2", "10.0.1.2"]);
    define(&mut rib, &["10.0.1.2"]);
    assert_eq!(rib.backlog(), 0);
    let _ = rib.commit(&mut |_| {}, &mut fib);
    assert_eq!((fib.inserts, fib.removes), (writes, 0), "no prefix was touched");
    assert!(rib.groups.refreshed - refreshed <= 2);
    assert_eq!(gateways(&rib), ["10.0.1.2"]);
}
