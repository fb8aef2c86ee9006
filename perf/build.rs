//! Compiles the shim around DPDK's own tables, for this machine, so that its inline look-ups are at their best.

fn main() {
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
