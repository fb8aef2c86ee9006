//! The build script's choice of versions.
#![allow(clippy::panic, reason = "a test")]

#[path = "../build/version.rs"]
mod version;

#[test]
fn versions_are_accepted_from_22_11_up_to_25_11() {
    for good in ["22.11", "22.11.11", "23.03.0", "23.11.2", "24.11.1", "25.07.0-rc1", "25.11.0", "25.99"] {
        version::check(good).unwrap_or_else(|e| panic!("{e}"));
    }
    for bad in
        ["18.05", "21.11.9", "22.07.0", "22.10", "26.03.0", "26.0", "26.03.0-rc3", "", "x", "22", "22.x"]
    {
        let Err(text) = version::check(bad) else { panic!("{bad:?} is accepted") };
        assert!(text.contains(&format!("DPDK {bad} was found")) && text.contains("libdpdk-dev"), "{text}");
        assert!(text.contains("PKG_CONFIG_PATH"), "{text}");
    }
    assert_eq!(version::parse("24.11.1"), Some((24, 11)));
}
