//! `[icmp]` and `[punt]`: how much the control thread does for those who ask too much of it.

use dataplane::punt::{Budgets, default_budgets};
use dataplane::verdict::PuntReason;

use super::model::Icmp;
use super::section::Section;
use super::values::{boolean, integer};

/// More a second than a control thread can handle.
const MOST: i64 = 10_000_000;

/// Reads `[icmp]`.
pub(super) fn icmp(s: &mut Section<'_, '_, '_>) -> Icmp {
    Icmp {
        per_interface: s.opt_or("per_interface", 1000, integer(0..=MOST)).map_or(1000, |rate| rate.value),
        per_destination: s.opt_or("per_destination", 20, integer(0..=MOST)).map_or(20, |rate| rate.value),
        prohibited: s.value_or("prohibited", true, boolean),
    }
}

/// Reads `[punt]`: a rate for each reason, under the reason's name.
pub(super) fn punt(s: &mut Section<'_, '_, '_>) -> Budgets {
    let mut budgets = default_budgets();
    for reason in PuntReason::ALL {
        if let Some(rate) = s.opt(reason.name(), integer(1..=MOST)) {
            budgets[reason.index()].rate = rate.value;
        }
    }
    budgets
}
