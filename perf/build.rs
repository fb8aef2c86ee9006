//! Compiles the shim around DPDK's own tables, for this machine, so that its inline look-ups are at their best. Tells the
//! program which compiler made it.

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = std::process::Command::new(rustc).arg("--version").output();
    let version = version.map_or_else(|_| b"unknown rustc".to_vec(), |output| output.stdout);
    println!("cargo::rustc-env=PERF_RUSTC={}", String::from_utf8_lossy(&version).trim());
    println!("cargo::rerun-if-changed=shim");
    let dpdk = match pkg_config::Config::new().cargo_metadata(false).probe("libdpdk") {
        Ok(dpdk) => dpdk,
        Err(error) => {
            println!("cargo::error=no libdpdk for the benchmarks' peers: install libdpdk-dev ({error})");
            return;
        }
    };
    let mut build = cc::Build::new();
    build.files(["shim/peers.c", "shim/acl.c"]).includes(&dpdk.include_paths).include("shim").opt_level(3);
    build.flag("-include").flag("rte_config.h").flag("-march=native").flag("-Wno-unused-parameter");
    build.compile("peers");
    for library in ["rte_acl", "rte_fib", "rte_lpm"] {
        println!("cargo::rustc-link-lib={library}");
    }
}
