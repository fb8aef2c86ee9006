//! What stands in the way of a start: each says so with the way out, and leaves nothing behind.

use control::kernel::{KernelError, KernelSide, NetnsError, TapSpec};
use crossbeam::channel::bounded;

use crate::harness::*;

fn refused(specs: Vec<TapSpec>) -> KernelError {
    without_children(|| KernelSide::start(specs, bounded(16).0, bounded(16).0))
        .expect_err("it must not start")
}

#[test]
fn a_name_that_is_taken() {
    let ns = Namespace::new();
    ns.ip("link add taken type veth peer name other");
    let error = refused(vec![ns.spec(A, "free", &[]), ns.spec(B, "taken", &[])]);
    assert!(matches!(error, KernelError::NameTaken { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("`taken`") && text.contains(&ns.0) && text.contains("ip link delete taken"),
        "{text}"
    );
    assert!(!ns.has_link("free"), "nothing is left behind");
    assert!(ns.has_link("taken"), "what was there stays");

    // A second turnpike with the same names.
    let _first = start(vec![ns.spec(A, "lan", &[])]);
    assert!(matches!(refused(vec![ns.spec(A, "lan", &[])]), KernelError::NameTaken { .. }));
    assert!(ns.has_link("lan"));
}

#[test]
fn a_missing_namespace() {
    let ns = Namespace::new();
    let mut astray = ns.spec(B, "wan", &[]);
    astray.namespace = Some("tpk-zzz-none".into());
    let error = refused(vec![ns.spec(A, "lan", &[]), astray]);
    assert_eq!(
        error.to_string(),
        "there is no network namespace `tpk-zzz-none`: make it with `ip netns add tpk-zzz-none`"
    );
    assert!(!ns.has_link("lan"));
}

#[test]
fn a_file_that_is_no_namespace() {
    let _root = Namespace::new();
    let name = format!("tpk-{}-file", std::process::id());
    let path = format!("/run/netns/{name}");
    std::fs::write(&path, "").unwrap();
    let mut spec = Namespace::new().spec(A, "lan", &[]);
    spec.namespace = Some(name);
    let error = refused(vec![spec]);
    std::fs::remove_file(path).unwrap();
    assert!(matches!(error, KernelError::Namespace(NetnsError::NotANamespace(_))), "{error}");
}

#[test]
fn a_failure_half_way_leaves_nothing() {
    let (one, two) = (Namespace::new(), Namespace::new());
    // A multicast MAC is refused after the TAP is made.
    let mut bad = two.spec(B, "bad", &[]);
    bad.mac = [0x01, 0, 0x5e, 0, 0, 1];
    let error = refused(vec![one.spec(A, "lan", &["192.0.2.1/24"]), bad]);
    let text = error.to_string();
    assert!(text.contains("give the TAP `bad` the MAC 01:00:5e:00:00:01"), "{text}");
    assert!(!one.has_link("lan") && !two.has_link("bad"));

    let mut bad = two.spec(B, "bad", &["192.0.2.1/24"]);
    bad.mtu = 67;
    let text = refused(vec![one.spec(A, "lan", &["192.0.2.1/24"]), bad]).to_string();
    assert!(text.contains("the MTU 67"), "{text}");
    assert!(!one.has_link("lan") && !two.has_link("bad"));

    let bad = two.spec(B, "bad", &["192.0.2.1/24", "192.0.2.1/24"]);
    let text = refused(vec![one.spec(A, "lan", &["192.0.2.1/24"]), bad]).to_string();
    assert!(text.contains("the address 192.0.2.1/24"), "{text}");
    assert!(!one.has_link("lan") && !two.has_link("bad"));
}

#[test]
fn two_taps_for_one_sub_interface_and_bad_names() {
    let ns = Namespace::new();
    let error = refused(vec![ns.spec(A, "one", &[]), ns.spec(A, "two", &[])]);
    assert!(matches!(error, KernelError::Duplicate { interface: A, .. }), "{error}");
    let error = refused(vec![ns.spec(A, "tap%d", &[])]);
    assert!(matches!(error, KernelError::InvalidName { .. }), "{error}");
    assert_eq!(ns.json("link show").as_array().unwrap().len(), 1, "lo alone");
}

#[test]
fn without_privileges() {
    let ns = Namespace::new();
    let mut here = ns.spec(B, "tpk-unpriv", &[]);
    here.namespace = None;
    let there = ns.spec(A, "lan", &[]);
    // Capabilities are a thread's own, and its children's.
    let [here, there] = std::thread::spawn(move || {
        let none = rustix::thread::CapabilitySet::empty();
        let sets = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets).unwrap();
        [refused(vec![here]), refused(vec![there])]
    })
    .join()
    .unwrap();
    for error in [here, there] {
        assert!(
            matches!(
                error,
                KernelError::NotPermitted { .. } | KernelError::Namespace(NetnsError::NotPermitted(_))
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains("run turnpike as root"), "{error}");
    }
    assert!(!ns.has_link("lan"));
}

#[test]
fn without_a_tun_device() {
    let ns = Namespace::new();
    // Once more this very program, with an empty /dev/net in a mount namespace of its own.
    let script =
        "mount -t tmpfs none /dev/net && exec \"$0\" --exact failures::child_without_a_tun_device --ignored";
    let program = std::env::current_exe().unwrap();
    let namespace = format!("TPK_NAMESPACE={}", ns.0);
    let arguments = ["--mount", "env", &namespace, "sh", "-c", script, program.to_str().unwrap()];
    let text = run("unshare", &arguments);
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by without_a_tun_device"]
fn child_without_a_tun_device() {
    let name = std::env::var("TPK_NAMESPACE").expect("run by without_a_tun_device");
    let spec = TapSpec {
        interface: A,
        name: "lan".into(),
        namespace: Some(name),
        mac: MAC,
        mtu: 1500,
        addresses: Vec::new(),
    };
    let error = refused(vec![spec]);
    assert!(matches!(error, KernelError::NoTun { .. }), "{error}");
    assert!(error.to_string().contains("modprobe tun"), "{error}");
}
