//! Which versions of DPDK the bindings are made for, and what to say of others.

/// The first version (year, month) that is accepted.
pub const FIRST: (u32, u32) = (22, 11);
/// The first version that is refused again.
pub const REFUSED_FROM: (u32, u32) = (26, 0);

/// How to get a DPDK that fits.
pub const WAY_OUT: &str = "install one with `apt-get install libdpdk-dev`, or point PKG_CONFIG_PATH at the directory of \
     libdpdk.pc of a DPDK from 22.11 up to 25.11 that you built (e.g. PKG_CONFIG_PATH=/usr/local/lib/x86_64-linux-gnu/pkgconfig)";

/// Year and month of a version such as `22.11.11` or `25.11.0-rc1`.
pub fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-', '~']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// `Ok` when the bindings fit this version; otherwise what is wrong and the way out.
pub fn check(version: &str) -> Result<(), String> {
    let fits = parse(version).is_some_and(|v| (FIRST..REFUSED_FROM).contains(&v));
    if fits {
        return Ok(());
    }
    Err(format!("DPDK {version} was found, but dpdk-sys needs 22.11 up to 25.11: {WAY_OUT}"))
}
