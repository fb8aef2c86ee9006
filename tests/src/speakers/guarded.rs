//! A session that we call and that is guarded on both ends, with all that a speaker can offer: MD5, GTSM, messages of 64 KB,
//! several paths for a prefix, IPv6 next hops for IPv4, and route refresh.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Value, json};

use super::page::{block, insert};
use super::route::gateway;
use super::yard::Yard;
use crate::bird::Bird;
use crate::process::run;
use crate::router;
use crate::suite::SOON;
use crate::wait;

/// The page's section.
pub const HEADING: &str = "Calling a peer, and guarding the session";
/// More routes with the attributes of the first one.
const MORE: usize = 3000;
/// A prefix with two paths.
const TWO: &str = "10.80.0.0/20";
/// One whose communities alone are longer than a message that is not extended (4,096 bytes).
const LONG: &str = "10.82.0.0/20";
const COMMUNITIES: usize = 1100;

/// The page's BIRD with more routes.
fn config() -> String {
    let tagged = "{ bgp_community.add((12076,51004)); };";
    let mut lines = String::new();
    for i in 0..MORE {
        let _ = writeln!(lines, "  route 10.{}.{}.0/24 via 2001:db8:2::fe {tagged}", 65 + i / 256, i % 256);
    }
    // Without the community the filter has it not.
    let _ = writeln!(lines, "  route 10.81.0.0/20 via 192.0.2.254;\n  route {TWO} via 192.0.2.254 {tagged}");
    let _ = writeln!(lines, "  route {LONG} via 192.0.2.254 {{");
    for i in 0..COMMUNITIES {
        let _ = writeln!(lines, "    bgp_community.add((12076,{i}));");
    }
    lines += "  };\n";
    let other =
        format!("protocol static {{\n  ipv4;\n  route {TWO} via {} {tagged}\n}}\n", gateway(1, false));
    let page = insert(&block(HEADING, 1), "  route 10.64.", &lines);
    insert(&page, "protocol bgp", &other)
}

fn installed(yard: &Yard, target: &str) -> Option<Value> {
    let question = json!({"show": "routes", "target": target});
    let routes = yard.router().ask([question]).pop()??;
    routes.as_array()?.iter().find(|r| r["prefix"] == target && r["group"].is_number()).cloned()
}

/// The session comes up as the page has it, everything is negotiated and used, and either side can ask for all again.
pub fn a_guarded_session(yard: &mut Yard) {
    yard.edge = Some(Bird::start(&yard.site.lab, &yard.site.inside, "edge", &config()));
    let edge = || yard.peer("edge").unwrap_or_default();
    // The routes, the page's two, the two paths of one prefix, the long one, and the one that the filter has not.
    let all = MORE as u64 + 6;
    wait::until_true(SOON, "all routes of the edge", || edge()["prefixes"] == all);
    let shown = edge();
    assert_eq!(
        (&shown["state"], &shown["connected_by_us"]),
        (&json!("Established"), &json!(true)),
        "{shown}"
    );
    let negotiated = &shown["negotiated"];
    for capability in ["four_byte_as", "extended_messages", "enhanced_route_refresh", "ipv6_next_hops"] {
        assert_eq!(negotiated[capability], true, "{capability}: {negotiated}");
    }
    assert_eq!(negotiated["add_path_receive"], json!(["ipv4"]), "{negotiated}");
    wait::until_true(SOON, "the last route", || installed(yard, "10.76.183.0/24").is_some());
    let first = installed(yard, "10.64.0.0/16").expect("the page's route");
    let path = &first["paths"][0];
    assert_eq!(path["next_hops"][0]["address"], "2001:db8:2::fe", "an IPv4 route over an IPv6 next hop");
    assert_eq!((&path["local_pref"], &path["as_path"]), (&json!(200), &json!([12076])), "by the filter");
    assert!(installed(yard, "172.16.1.0/24").is_some() && installed(yard, "10.81.0.0/20").is_none());
    let long = installed(yard, LONG).expect("a route with many communities");
    assert_eq!(long["paths"][0]["communities"].as_array().map(Vec::len), Some(COMMUNITIES));
    let two = installed(yard, TWO).expect("a route with two paths");
    let used = two["paths"].as_array().into_iter().flatten().filter(|path| path["used"] == true).count();
    assert_eq!((used, two["members"].as_array().map(Vec::len)), (2, Some(2)), "{two}");

    let bird = yard.edge.as_ref().expect("started");
    let told = || bird.birdc("show route for 192.168.10.0/24");
    wait::until_true(SOON, "what we announce", || told().contains("AS65010i"));
    let mut refresh = Command::new(router::program());
    run(refresh.args(["bgp", "refresh", "edge", "--socket"]).arg(yard.router().socket()));
    let again = || {
        let shown = edge();
        shown["refreshes"] == 1 && shown["announced"] == 2 * all && shown["prefixes"] == all
    };
    wait::until_true(SOON, "all routes to come again", again);
    assert!(bird.birdc("reload in turnpike").contains("reloading"));
    wait::until_true(SOON, "what we announce again", || told().contains("AS65010i"));
    let shown = edge();
    assert_eq!((&shown["malformed"], &shown["established"]), (&json!(0), &json!(1)), "{shown}");
}
