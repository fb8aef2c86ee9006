//! DPDK does not start: each time the reason is named.

mod common;

use dpdk_sys::{Eal, EalError, free_huge_pages};

#[test]
fn a_start_that_fails_says_why() {
    let init =
        |args: &[&str]| Eal::init(&args.iter().map(|&a| a.to_owned()).collect::<Vec<_>>()).unwrap_err();
    assert!(matches!(init(&["--no-huge", "-m\0"]), EalError::NulByte { .. }));
    if free_huge_pages().pages == 0 {
        let err = init(&["--no-pci"]);
        assert!(matches!(err, EalError::NoHugePages), "{err}");
        assert!(err.to_string().contains("vm.nr_hugepages"), "{err}");
    }
    // Neither has touched DPDK, so it is the next one that counts as the start.
    let err = init(&["--no-huge", "--no-pci", "--no-such-option"]);
    assert!(
        matches!(&err, EalError::Arguments { arguments, .. } if arguments.contains("--no-such-option")),
        "{err}"
    );
    let err = init(&["--no-huge", "--no-pci"]);
    assert!(matches!(err, EalError::AlreadyStarted), "{err}");
}
