//! What peerings and interfaces do besides forwarding, and leaks: defaults, values, mistakes.

use dataplane::ids::VrfId;
use dataplane::policy::{DscpSet, MssClamp, Policy, ReversePath};

use super::{COMPLETE, altered, errors_of, one, one_added};
use crate::config::model::{Config, Leak};
use crate::config::parse;

fn config(text: &str) -> Config {
    parse("t.toml", text).unwrap_or_else(|e| panic!("{e}"))
}

fn policy(config: &Config, name: &str) -> Policy {
    let sub_if = config.sub_interfaces.iter().find(|sub_if| sub_if.name == name);
    sub_if.expect(name).policy.clone()
}

#[test]
fn microsoft_peering_is_guarded_unless_told_otherwise() {
    let whole = config(COMPLETE);
    let microsoft: DscpSet = [46, 34, 18, 10, 0].into_iter().collect();
    let mut pcp_from_dscp = Box::new([0; 64]);
    (pcp_from_dscp[46], pcp_from_dscp[34]) = (5, 4);
    let public = Policy {
        reverse_path: ReversePath::Loose,
        public_sources: true,
        dscp: microsoft,
        pcp_from_dscp: Some(pcp_from_dscp),
        mss: MssClamp { v4: 1360, v6: 1300 },
    };
    assert_eq!(policy(&whole, "er1-microsoft-primary"), public);
    assert_eq!(policy(&whole, "er1-microsoft-secondary"), public);
    for plain in ["er1-private-primary", "er1-private-secondary", "lan", "office", "double"] {
        assert_eq!(policy(&whole, plain), Policy::default(), "{plain}");
    }
    let own = Policy { public_sources: true, dscp: DscpSet(1 << 8 | 1), ..Policy::default() };
    assert_eq!(policy(&whole, "a-long-circuit-name-private-primary"), own);
    let open = config(&altered("mtu = 1400\n", "mtu = 1400\nprivate_sources = true\ndscp = \"keep\"\n"));
    let open = policy(&open, "er1-microsoft-primary");
    assert_eq!((open.public_sources, open.dscp), (false, DscpSet::ALL));
}

#[test]
fn policies_of_interfaces() {
    let text = altered(
        "mtu = 1500\npcp = 3",
        "mtu = 1500\nreverse_path = \"strict\"\nprivate_sources = false\ndscp = 46\n\
         pcp_from_dscp = \"precedence\"\nmss_v4 = \"auto\"\nmss_v6 = \"auto\"",
    );
    let office = policy(&config(&text), "office");
    assert_eq!((office.reverse_path, office.public_sources), (ReversePath::Strict, true));
    assert_eq!((office.dscp, office.mss), (DscpSet(1 << 46), MssClamp { v4: 1460, v6: 1440 }));
    let table = office.pcp_from_dscp.unwrap();
    assert_eq!((table[0], table[7], table[8], table[46], table[63]), (0, 0, 1, 5, 7));
}

#[test]
fn mistakes_in_policies() {
    let change = |line: &str, key: &str, parts: &[&str]| {
        one("mss_v6 = 1300", line, &format!("circuit.peering.{key}"), parts);
    };
    change("private_sources = \"no\"", "private_sources", &["true or false"]);
    change("dscp = 64", "dscp", &["64 is out of range", "0 to 63"]);
    change("dscp = [\"keep\", 46]", "dscp", &["stands alone"]);
    change("dscp = \"kept\"", "dscp", &["keep"]);
    change("mss_v6 = 100", "mss_v6", &["100 is out of range", "or \"auto\""]);
    change("mss_v6 = \"automatic\"", "mss_v6", &["auto"]);
    one("reverse_path = \"loose\"", "reverse_path = \"on\"", "circuit.peering.reverse_path", &["is not one"]);
    assert_eq!(errors_of(&altered("{ 46 = 5, 34 = 4 }", "{}")), Vec::<String>::new());
    for (wrong, part) in [
        ("{ 64 = 5 }", "\"64\" is no DSCP value"),
        ("{ ef = 5 }", "\"ef\" is no DSCP value"),
        ("{ 46 = 8 }", "PCP of DSCP 46: 8 is out of range"),
        ("{ 46 = 5, 046 = 5 }", "given twice"),
        ("[46]", "must be \"precedence\", or a table"),
        ("\"class\"", "is not one of its values"),
    ] {
        let errors = errors_of(&altered("{ 46 = 5, 34 = 4 }", wrong));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].contains("circuit.peering.pcp_from_dscp: ") && errors[0].contains(part),
            "{errors:?}"
        );
    }
    let has = |text: &str, error: &str| {
        let errors = errors_of(text);
        assert!(errors.iter().any(|e| e.contains(error)), "{errors:#?}");
    };
    has(&altered("mss_v6 = 1300", "pcp = 1"), "circuit.peering.pcp_from_dscp: and `pcp` exclude each other");
    let untagged = altered("vlan = 30\n", "").replace("mtu = 1500\npcp = 3", "pcp_from_dscp = {}");
    has(&untagged, "interface.pcp_from_dscp: there is no tag to carry the priority");
}

#[test]
fn leaks() {
    let whole = config(COMPLETE);
    let prefixes = |all: &[&str]| all.iter().map(|p| p.parse().unwrap()).collect();
    let expected = [
        Leak {
            from: VrfId(1),
            to: VrfId(2),
            prefixes: prefixes(&["192.0.2.0/24", "2001:db8::/64"]),
            exact: true,
        },
        Leak { from: VrfId(2), to: VrfId(1), prefixes: prefixes(&["0.0.0.0/0"]), exact: false },
    ];
    assert_eq!(whole.leaks, expected);
    let leak = |keys: &str| format!("[[leak]]\n{keys}\nprefixes = [\"10.0.0.0/8\"]");
    one_added(&leak("from = \"private\"\nto = \"private\""), 2, "leak.to", &["there already"]);
    one_added(&leak("from = \"privat\"\nto = \"public\""), 1, "leak.from", &["no interface", "private"]);
    one_added(&leak("from = \"private\""), 0, "leak.to", &["missing"]);
    one_added("[[leak]]\nfrom = \"private\"\nto = \"public\"", 0, "leak.prefixes", &["missing"]);
    one_added(
        "[[leak]]\nfrom = \"private\"\nto = \"public\"\nprefixes = \"10.0.0.1/8\"",
        3,
        "leak.prefixes",
        &["host bits"],
    );
}
