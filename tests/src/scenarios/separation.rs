//! The two VRFs have the same prefixes on both sides, and never see each other's packets.

use crate::circuit::{Circuit, QUIET};
use crate::frame::ethernet;
use crate::plan::CLOUD;
use crate::scenarios::{MICROSOFT, PRIVATE, is_marked, stream};
use crate::suite::{SOON, Undo};
use crate::wait;
use crate::wire::Way;

/// Both LAN hosts send the same flows (addresses, ports and all) at once; every frame, on every wire, has the tags
/// of its own peering.
pub fn overlapping_vrfs_stay_apart(circuit: &mut Circuit) {
    let records: Vec<_> = circuit.wires.iter().map(crate::wire::Wire::record).collect();
    for cloud in CLOUD {
        let streams: Vec<_> = circuit.peerings.iter().map(|p| stream(p, cloud.address())).collect();
        for stream in &streams {
            stream.wait_for(300);
        }
        for stream in streams {
            stream.assert_lossless();
        }
    }
    for (number, peering) in circuit.peerings.iter().enumerate() {
        for (wire, record) in records.iter().enumerate() {
            let want: Vec<u16> = match wire {
                0 => circuit.variant.lan_vlan(number).into_iter().collect(),
                _ => circuit.circuit_tags(number).iter().map(|t| t.vid).collect(),
            };
            for way in [Way::FromRouter, Way::ToRouter] {
                let frames = record.frames(way, |f| is_marked(f, peering.plan.marker));
                assert!(!frames.is_empty(), "{} traffic on wire {wire}, {way:?}", peering.plan.kind);
                for seen in frames {
                    let vids: Vec<u16> = ethernet(&seen.frame).unwrap().tags.iter().map(|t| t.vid).collect();
                    assert_eq!(vids, want, "tags of {} traffic on wire {wire}, {way:?}", peering.plan.kind);
                }
            }
        }
    }
}

/// When private peering loses a prefix that Microsoft peering still has, private packets go nowhere, and the others
/// go on.
pub fn a_route_of_one_vrf_is_none_of_the_other(circuit: &mut Circuit) {
    let cloud = CLOUD[0];
    let (private, microsoft) = (&circuit.peerings[PRIVATE], &circuit.peerings[MICROSOFT]);
    private.edges.iter().for_each(|e| e.announce(cloud.prefix, false));
    let mend = Undo(|| private.edges.iter().for_each(|e| e.announce(cloud.prefix, true)));
    wait::until_true(SOON, "the withdrawal", || !circuit.knows(PRIVATE, cloud.prefix));
    wait::until_true(SOON, "the withdrawal", || !private.lan_pings(cloud.address()));
    let records: Vec<_> = circuit.wires[1..].iter().map(crate::wire::Wire::record).collect();
    let (lost, kept) = (stream(private, cloud.address()), stream(microsoft, cloud.address()));
    wait::pause(QUIET);
    kept.assert_lossless();
    let lost = lost.stop();
    assert_eq!(lost.lost(), lost.samples.len(), "private packets went somewhere without a route");
    for record in &records {
        assert_eq!(
            record.count(Way::FromRouter, |f| is_marked(f, private.plan.marker)),
            0,
            "private packets leaked"
        );
    }
    drop(mend);
    wait::until_true(SOON, "the route's return", || private.lan_pings(cloud.address()));
}
