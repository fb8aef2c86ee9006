//! Pools that cannot be. In a process of its own, since the largest of them takes all memory for a moment.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::eal;
use dpdk_sys::{Mempool, MempoolError};

#[test]
fn pools_that_cannot_be_are_refused_by_reason() {
    let new =
        |name: &str, count, cache, room| Mempool::new(&eal(), name, count, cache, room, None).unwrap_err();
    assert!(matches!(new("", 63, 0, 2048), MempoolError::Name { .. }));
    assert!(matches!(new("a-name-of-twenty-six-bytes", 63, 0, 2048), MempoolError::Name { .. }));
    assert!(matches!(new("nul\0", 63, 0, 2048), MempoolError::Name { .. }));
    assert!(matches!(new("cache", 63, 43, 2048), MempoolError::Cache { most: 42, .. }));
    assert!(matches!(new("cache", 8191, 513, 2048), MempoolError::Cache { most: 512, .. }));
    assert!(matches!(new("room", 63, 0, 65535), MempoolError::DataRoom { .. }));
    let err = new("huge", 1 << 20, 0, 2048);
    assert!(matches!(err, MempoolError::Memory { megabytes: 2000.., .. }), "{err}");
    // What it had taken by then has been given back.
    drop(Mempool::new(&eal(), "large", 16383, 0, 2048, None).unwrap());
}
