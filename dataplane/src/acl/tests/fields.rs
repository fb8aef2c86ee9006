//! How fields are read from packets, and which rules are refused.

use crate::acl::keys::{State, Transport, kind};
use crate::acl::{Acl, AclError, Action, Addresses, ICMP, Keys, MAX_RULES, Rule, TCP, UDP, read4, read6};

fn ipv4(protocol: u8, fragment: u16, options: usize, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options;
    let mut packet = vec![0; header];
    packet[0] = 0x40 | (header / 4) as u8;
    packet[1] = 46 << 2 | 1;
    packet[2..4].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&[10, 1, 2, 3]);
    packet[16..20].copy_from_slice(&[192, 0, 2, 4]);
    packet.extend(payload);
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x6b, 0x80, 0, 0, 0, payload.len() as u8, next, 64];
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(payload);
    packet
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut header = vec![0; 20];
    header[..4].copy_from_slice(&[0x30, 0x39, 1, 0xbb]);
    header[13] = flags;
    header
}

const PORTS: (u16, u16) = (12345, 443);

#[test]
fn fields_are_where_the_rfcs_have_them() {
    let mut keys = Keys::default();
    read4(&mut keys, 3, &ipv4(TCP, 0x4000, 8, &tcp(2)));
    assert_eq!((keys.source[3], keys.destination[3]), (0x0a01_0203, 0xc000_0204));
    assert_eq!((keys.source_port[3], keys.destination_port[3], keys.dscp[3]), (PORTS.0, PORTS.1, 46));
    assert_eq!(keys.kind[3], kind(TCP, State::Whole));
    let mut keys = Keys::default();
    read6(&mut keys, 5, &ipv6(TCP, &tcp(0x10)));
    assert_eq!(keys.source[5] + 1, keys.destination[5]);
    assert_eq!((keys.source_port[5], keys.destination_port[5], keys.dscp[5]), (PORTS.0, PORTS.1, 46));
    assert_eq!(keys.kind[5], kind(TCP, State::Established));
}

#[test]
fn established_is_ack_or_rst_of_tcp() {
    for (flags, established) in
        [(0x02, false), (0x12, true), (0x04, true), (0x10, true), (0x01, false), (0x08, false)]
    {
        let state = if established { State::Established } else { State::Whole };
        assert_eq!(Transport::of4(&ipv4(TCP, 0, 0, &tcp(flags))).kind, kind(TCP, state), "{flags:#x}");
        assert_eq!(Transport::of4(&ipv4(UDP, 0, 0, &tcp(flags))).kind, kind(UDP, State::Whole));
    }
}

#[test]
fn fragments_and_cut_packets_have_no_ports() {
    let of = |packet: &[u8]| Transport::of4(packet);
    // The first fragment has its header, the later ones have none.
    assert_eq!(of(&ipv4(TCP, 0x2000, 0, &tcp(0x10))).kind, kind(TCP, State::Established));
    let later = of(&ipv4(TCP, 0x2001, 0, &tcp(0x10)));
    assert_eq!((later.kind, later.ports), (kind(TCP, State::LaterFragment), (0, 0)));
    // A tiny first fragment ends before the flags (RFC 1858, section 3), or before the ports.
    let tiny = of(&ipv4(TCP, 0x2000, 0, &tcp(0x10)[..8]));
    assert_eq!((tiny.kind, tiny.ports), (kind(TCP, State::Whole), PORTS));
    let cut = of(&ipv4(TCP, 0, 0, &tcp(0x10)[..3]));
    assert_eq!((cut.kind, cut.ports), (kind(TCP, State::CutOff), (0, 0)));
    assert_eq!(of(&ipv4(UDP, 0, 0, &[])).kind, kind(UDP, State::CutOff));
    assert_eq!(of(&ipv4(UDP, 0, 0, &[0, 53, 0, 53, 0, 8, 0, 0])).ports, (53, 53));
}

#[test]
fn extension_headers_are_followed() {
    let with = |extensions: &[u8], payload: &[u8]| {
        let mut all = extensions[1..].to_vec();
        all.extend(payload);
        Transport::of6(&ipv6(extensions[0], &all))
    };
    // Routing (24 bytes), destination options (8), authentication (24), TCP.
    let mut chain = vec![43, 60, 2];
    chain.extend([0; 22]);
    chain.extend([51, 0, 0, 0, 0, 0, 0, 0]);
    chain.extend([TCP, 4]);
    chain.extend([0; 22]);
    let found = with(&chain, &tcp(4));
    assert_eq!((found.kind, found.ports), (kind(TCP, State::Established), PORTS));
    // Fragments: the first one, and a later one.
    let first = with(&[44, UDP, 0, 0, 1, 0, 0, 0, 9], &tcp(0));
    assert_eq!((first.kind, first.ports), (kind(UDP, State::Whole), PORTS));
    let later = with(&[44, UDP, 0, 0, 9, 0, 0, 0, 9], &tcp(0));
    assert_eq!((later.kind, later.ports), (kind(UDP, State::LaterFragment), (0, 0)));
    // A chain that the packet does not hold, and one without end.
    assert_eq!(with(&[43, TCP, 40, 0, 0], &[]).kind, kind(TCP, State::CutOff));
    assert_eq!(with(&[60], &[]).kind, kind(60, State::CutOff));
    let endless: Vec<u8> = std::iter::once(60).chain([60, 0, 0, 0, 0, 0, 0, 0].repeat(12)).collect();
    assert_eq!(with(&endless, &tcp(0)).kind, kind(60, State::CutOff));
}

#[test]
fn nothing_is_read_past_a_packet() {
    let (v4, v6) = (ipv4(TCP, 0, 4, &tcp(0x10)), ipv6(43, &[TCP, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]));
    for len in 0..v4.len() {
        Transport::of4(&v4[..len]);
    }
    for len in 0..v6.len() {
        Transport::of6(&v6[..len]);
    }
}

#[test]
fn contradictions_are_refused_by_number() {
    let any = || Rule::any(Action::Permit);
    let error = |rule: Rule| Acl::new(&[any(), rule], &[0, 1, 2]).unwrap_err();
    let ports = vec![(1, 2)];
    assert_eq!(error(Rule { source_ports: ports.clone(), ..any() }), AclError::Ports(1));
    assert_eq!(
        error(Rule { destination_ports: ports.clone(), protocols: vec![TCP, 47], ..any() }),
        AclError::Ports(1)
    );
    assert_eq!(error(Rule { icmp: ports.clone(), protocols: vec![ICMP, TCP], ..any() }), AclError::Icmp(1));
    assert_eq!(error(Rule { established: true, protocols: vec![UDP], ..any() }), AclError::Established(1));
    let tcp = vec![TCP];
    assert_eq!(
        error(Rule { fragments: true, source_ports: ports, protocols: tcp, ..any() }),
        AclError::Fragments(1)
    );
    assert_eq!(error(Rule { fragments: true, established: true, ..any() }), AclError::Fragments(1));
    assert_eq!(error(Rule { outer_vlans: vec![(2, 1)], ..any() }), AclError::Value(1));
    assert_eq!(error(Rule { dscp: vec![64], ..any() }), AclError::Value(1));
    let source = Some(Addresses { v4: vec![(0, 33)], v6: vec![] });
    assert_eq!(error(Rule { source, ..any() }), AclError::Value(1));
}

#[test]
fn limits_are_kept() {
    let many = vec![Rule::any(Action::Permit); MAX_RULES + 1];
    let counters: Vec<u16> = (0..=many.len() as u16).collect();
    assert_eq!(Acl::new(&many, &counters).unwrap_err(), AclError::TooManyRules(MAX_RULES + 1));
    assert!(Acl::new(&many[..MAX_RULES], &counters[..=MAX_RULES]).is_ok());
    assert_eq!(Acl::new(&many[..2], &[0, 1]).unwrap_err(), AclError::Counters);
    assert_eq!(Acl::new(&many[..1], &[0, 1 << 15]).unwrap_err(), AclError::Counters);
    // 4,000 rules, each with prefixes of its own that lie apart, need more than 32,767 intervals.
    let wide = |rule: u32| Rule {
        source: Some(Addresses { v4: (0..10).map(|at| ((rule * 10 + at) << 12, 24)).collect(), v6: vec![] }),
        ..Rule::any(Action::Permit)
    };
    let wide: Vec<Rule> = (0..4000).map(wide).collect();
    assert_eq!(Acl::new(&wide, &counters[..=4000]).unwrap_err(), AclError::TooLarge);
}
