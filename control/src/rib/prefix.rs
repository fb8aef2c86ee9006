//! What the RIB needs of a family beyond its prefixes: its table, and the way into its FIB.

use dataplane::ids::VrfId;

use super::commit::{Change, FibSink, FibSinkError};
use super::decide::Scratch;
use super::leak::Leak;
use super::table::{Afi, VrfTables};
use super::write::Planned;
use crate::prefix;
pub(super) use crate::prefix::{AnyPrefix, V4, V6, with_prefix};

/// A prefix of a family that has a table and a FIB.
pub(super) trait Prefix: prefix::Prefix {
    /// Writes into the FIB of this family.
    fn write(
        fib: &mut dyn FibSink,
        vrf: VrfId,
        changes: &[Change<Self::Addr>],
    ) -> Result<(), (usize, FibSinkError)>;
    /// Room for entries of this family that are about to be written.
    fn plan(scratch: &mut Scratch) -> &mut Vec<Planned<Self>>;
    fn afi(vrf: &VrfTables) -> &Afi<Self>;
    fn afi_mut(vrf: &mut VrfTables) -> &mut Afi<Self>;
    /// The prefixes of this family that a leak has, and of each whether it has it alone.
    fn leaked(leak: &Leak) -> &[(Self, bool)];
}

impl Prefix for V4 {
    fn write(
        fib: &mut dyn FibSink,
        vrf: VrfId,
        changes: &[Change<Self::Addr>],
    ) -> Result<(), (usize, FibSinkError)> {
        fib.write4(vrf, changes)
    }

    fn plan(scratch: &mut Scratch) -> &mut Vec<Planned<Self>> {
        &mut scratch.plans.v4
    }

    fn leaked(leak: &Leak) -> &[(Self, bool)] {
        leak.v4()
    }

    fn afi(vrf: &VrfTables) -> &Afi<Self> {
        &vrf.v4
    }

    fn afi_mut(vrf: &mut VrfTables) -> &mut Afi<Self> {
        &mut vrf.v4
    }
}

impl Prefix for V6 {
    fn write(
        fib: &mut dyn FibSink,
        vrf: VrfId,
        changes: &[Change<Self::Addr>],
    ) -> Result<(), (usize, FibSinkError)> {
        fib.write6(vrf, changes)
    }

    fn plan(scratch: &mut Scratch) -> &mut Vec<Planned<Self>> {
        &mut scratch.plans.v6
    }

    fn leaked(leak: &Leak) -> &[(Self, bool)] {
        leak.v6()
    }

    fn afi(vrf: &VrfTables) -> &Afi<Self> {
        &vrf.v6
    }

    fn afi_mut(vrf: &mut VrfTables) -> &mut Afi<Self> {
        &mut vrf.v6
    }
}
