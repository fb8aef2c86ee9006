//! Access lists: rules in order, of which the first that matches a packet says what becomes of it.
//!
//! A list is compiled once. Each field that its rules look at is cut into intervals within which no rule tells values
//! apart; a small search tree finds a value's interval (`ranks`), and for each interval there is a row of bits, one for
//! each rule that it satisfies (`rows`). What the rows of a packet's fields have in common are the rules that match it; the
//! lowest bit is the first of them (`classify`). So the cost of a packet depends on the number of fields in use and hardly on
//! that of the rules: 511 rules are one cache line a row. docs/access-lists.md has the reasons and the limits.

mod address;
mod classify;
mod common;
mod compile;
mod counters;
mod ends;
mod keys;
mod lines;
mod ranks;
mod rows;
mod rule;
#[cfg(test)]
mod tests;

pub use address::Address;
pub use classify::Classifier;
pub use compile::AclError;
pub use counters::{RuleCounter, RuleCounters};
pub use ends::{DENIED, Ends};
pub use keys::{Keys, read4, read6};
pub use rule::{Action, Addresses, Family, HAS_PORTS, ICMP, ICMPV6, Rule, SCTP, TCP, UDP};

/// Most rules in one list.
pub const MAX_RULES: usize = 4096;
/// Most counters that all lists together have: one for each rule, and one for each list's implicit end. While lists are
/// reloaded, those of the new rules stand beside those of the old.
pub const MAX_COUNTERS: usize = 1 << 15;
/// Most memory that the rows of one list take, in bytes.
pub const MAX_BYTES: usize = 32 << 20;

/// A compiled access list.
#[derive(Debug)]
pub struct Acl {
    /// What it does with IPv4.
    pub v4: Classifier<u32>,
    /// What it does with IPv6.
    pub v6: Classifier<u128>,
}

impl Acl {
    /// Compiles rules. `counters`: where each counts, in the order of the rules, below [`MAX_COUNTERS`]; one more, the
    /// last, for what no rule matches, which is denied.
    ///
    /// # Errors
    /// Too many rules or counters, a rule that contradicts itself, or a list that would take too much memory.
    pub fn new(rules: &[Rule], counters: &[u16]) -> Result<Self, AclError> {
        Ok(Self { v4: Classifier::new(rules, counters)?, v6: Classifier::new(rules, counters)? })
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        self.v4.memory() + self.v6.memory()
    }
}
