//! From rules to intervals, and to the row of bits of each.

use super::address::Address;
use super::keys::{KINDS, State};
use super::ranks::Ranks;
use super::rows::{Classes, MAX_CLASSES, PER_ROW, Row, Wide, set};
use super::rule::{Addresses, Family, HAS_PORTS, ICMP, ICMPV6, Rule, TCP};
use super::{MAX_BYTES, MAX_COUNTERS, MAX_RULES};

/// Why a list cannot be compiled. Rules are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// More than [`MAX_RULES`].
    #[error(
        "{0} rules, and at most {MAX_RULES} are possible: put ranges and prefixes of one kind in one rule"
    )]
    TooManyRules(usize),
    /// Not one counter for each rule and one more, or one that is not below [`MAX_COUNTERS`].
    #[error("the counters of an access list do not fit its rules")]
    Counters,
    /// Too many different values.
    #[error(
        "the rules tell too many prefixes, ports or VLAN ids apart: more than 32,767 intervals in one field, or 32 MiB \
         of tables for one family; split the list"
    )]
    TooLarge,
    /// Ports, with protocols that have none.
    #[error("rule {0} asks for ports and for a protocol without any")]
    Ports(usize),
    /// ICMP types, with other protocols.
    #[error("rule {0} asks for ICMP types and for a protocol without any")]
    Icmp(usize),
    /// `established`, and a protocol other than TCP.
    #[error("rule {0} asks for `established` and for a protocol other than TCP")]
    Established(usize),
    /// Later fragments, and what they do not have.
    #[error("rule {0} asks for later fragments, and for ports, ICMP types or `established`, which they lack")]
    Fragments(usize),
    /// A prefix length or DSCP that is too large, or a range whose end is before its start.
    #[error("rule {0} has a prefix length, DSCP or range that cannot be")]
    Value(usize),
}

/// Refuses what contradicts itself.
pub(super) fn check(rules: &[Rule], counters: &[u16]) -> Result<(), AclError> {
    if rules.len() > MAX_RULES {
        return Err(AclError::TooManyRules(rules.len()));
    }
    if counters.len() != rules.len() + 1 || counters.iter().any(|at| usize::from(*at) >= MAX_COUNTERS) {
        return Err(AclError::Counters);
    }
    for (number, rule) in rules.iter().enumerate() {
        check_rule(number, rule)?;
    }
    Ok(())
}

fn check_rule(number: usize, rule: &Rule) -> Result<(), AclError> {
    let only =
        |allowed: &[u8]| !rule.protocols.is_empty() && rule.protocols.iter().all(|p| allowed.contains(p));
    let ports = !rule.source_ports.is_empty() || !rule.destination_ports.is_empty();
    if ports && !only(&HAS_PORTS) {
        return Err(AclError::Ports(number));
    }
    if !rule.icmp.is_empty() && !only(&[ICMP, ICMPV6]) {
        return Err(AclError::Icmp(number));
    }
    if rule.established && !rule.protocols.is_empty() && !only(&[TCP]) {
        return Err(AclError::Established(number));
    }
    if rule.fragments && (rule.needs_transport() || rule.established) {
        return Err(AclError::Fragments(number));
    }
    let ranges =
        [&rule.source_ports, &rule.destination_ports, &rule.icmp, &rule.outer_vlans, &rule.inner_vlans];
    let mut prefixes = [&rule.source, &rule.destination].into_iter().flatten();
    if ranges.into_iter().flatten().any(|(first, last)| first > last)
        || rule.dscp.iter().any(|dscp| *dscp > 63)
        || prefixes.any(|some| some.v4.iter().any(|p| p.1 > 32) || some.v6.iter().any(|p| p.1 > 128))
    {
        return Err(AclError::Value(number));
    }
    Ok(())
}

/// A field of packets: how a value finds its interval, and each interval's row.
#[derive(Debug)]
pub(super) struct Field<S> {
    pub search: S,
    pub starts: Starts,
}

/// Where the row of each of a field's intervals begins, in bytes. There is at least one.
#[derive(Debug)]
pub(super) struct Starts(Box<[u32]>);

impl Starts {
    /// The number of the last interval.
    #[inline(always)]
    pub(super) fn last(&self) -> u16 {
        (self.0.len() - 1) as u16
    }

    /// Bytes that it takes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Where an interval's row begins.
    ///
    /// # Safety
    /// `interval` is at most [`Self::last`].
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) unsafe fn get_unchecked(&self, interval: u16) -> u32 {
        debug_assert!(interval <= self.last());
        // SAFETY: the caller's promise.
        unsafe { *self.0.get_unchecked(usize::from(interval)) }
    }
}

impl<S> Field<S> {
    /// Bytes that it takes, without its rows. `search`: those of its search.
    pub(super) fn memory(&self, search: impl Fn(&S) -> usize) -> usize {
        search(&self.search) + size_of_val(&*self.starts.0)
    }
}

/// The rows of all fields of a list, one after another, and without gaps: a row of few rules is less than a line.
pub(super) struct Rows {
    words: Vec<u64>,
    /// Of a row.
    per_row: usize,
}

impl Rows {
    pub(super) fn new(of: &OfFamily<'_>) -> Self {
        Self { words: Vec::new(), per_row: of.words() }
    }

    /// Adds a field's rows; `numbers`: which of them each interval has.
    fn add(&mut self, classes: &Classes, numbers: &[u16]) -> Result<Starts, AclError> {
        let first = self.words.len();
        for row in classes.rows() {
            self.words.extend(row.iter().flat_map(|line| line.0).take(self.per_row));
        }
        if size_of_val(&*self.words) > MAX_BYTES {
            return Err(AclError::TooLarge);
        }
        let start = |number: &u16| ((first + usize::from(*number) * self.per_row) * size_of::<u64>()) as u32;
        Ok(Starts(numbers.iter().map(start).collect()))
    }

    /// As whole lines.
    pub(super) fn lines(self) -> Box<[Row]> {
        let line = |words: &[u64]| {
            let mut line = Row::NONE;
            line.0[..words.len()].copy_from_slice(words);
            line
        };
        self.words.chunks(8).map(line).collect()
    }
}

/// The rules that can match one family, with their numbers in the list.
pub(super) struct OfFamily<'a> {
    pub rules: Vec<&'a Rule>,
    pub numbers: Vec<usize>,
    /// Lines of a row: a bit for each rule, and one for the end, which everything satisfies.
    pub lines: usize,
}

impl<'a> OfFamily<'a> {
    pub(super) fn new(rules: &'a [Rule], family: Family) -> Self {
        let (numbers, rules): (Vec<_>, Vec<_>) =
            rules.iter().enumerate().filter(|(_, rule)| rule.is_for(family)).unzip();
        let lines = rules.len() / PER_ROW + 1;
        Self { rules, numbers, lines }
    }

    /// Words of a row: one, half a line, or whole lines.
    pub(super) fn words(&self) -> usize {
        match self.rules.len() {
            ..64 => 1,
            64..256 => 4,
            _ => self.lines * 8,
        }
    }

    /// The row with the bits of the rules that satisfy `test`, and of the end.
    pub(super) fn row(&self, mut test: impl FnMut(&Rule) -> bool) -> Wide {
        let mut row = vec![Row::NONE; self.lines];
        for (bit, rule) in self.rules.iter().enumerate() {
            set(&mut row, bit, test(rule));
        }
        set(&mut row, self.rules.len(), true);
        row.into()
    }

    /// The rows of a field with few values, and the number of each value's.
    fn table(
        &self,
        values: usize,
        test: impl Fn(&Rule, usize) -> bool,
    ) -> Result<(Classes, Vec<u16>), AclError> {
        let mut classes = Classes::new(self.lines);
        let numbers = (0..values).map(|value| classes.number(&self.row(|rule| test(rule, value))));
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        Ok((classes, numbers))
    }

    /// DSCP, if any rule looks at it.
    pub(super) fn dscp(&self, rows: &mut Rows) -> Result<Option<Starts>, AclError> {
        if self.rules.iter().all(|rule| rule.dscp.is_empty()) {
            return Ok(None);
        }
        let has = |rule: &Rule, dscp| rule.dscp.is_empty() || rule.dscp.contains(&(dscp as u8));
        let (classes, numbers) = self.table(64, has)?;
        rows.add(&classes, &numbers).map(Some)
    }

    /// Kinds of packets: which rules take a protocol, and a packet with or without its transport header; together with
    /// a field that has few intervals, if there is one: its rows are given, and each interval's row.
    pub(super) fn kinds(&self, rows: &mut Rows, with: Option<&Cut>) -> Result<Starts, AclError> {
        let (kinds, numbers) = self.table(KINDS, |rule, kind| {
            let (protocol, state) = ((kind & 0xff) as u8, State::ALL[kind >> 8]);
            let there = match state {
                State::Whole | State::Established => !rule.fragments,
                State::CutOff => !rule.fragments && !rule.needs_transport(),
                State::LaterFragment => !rule.needs_transport(),
            };
            there
                && (!rule.established || state == State::Established)
                && (rule.protocols.is_empty() || rule.protocols.contains(&protocol))
        })?;
        let Some(with) = with else { return rows.add(&kinds, &numbers) };
        let mut both = Classes::new(self.lines);
        let mut of_kind = Vec::new();
        for kind in kinds.rows() {
            for row in with.classes.rows() {
                let row: Vec<Row> = kind.iter().zip(row).map(|(a, b)| a.and(b)).collect();
                of_kind.push(both.number(&row)?);
            }
        }
        let other = with.classes.rows().count();
        let pairs = numbers.iter().flat_map(|kind| with.numbers.iter().map(move |number| (kind, number)));
        let numbers: Vec<u16> =
            pairs.map(|(kind, number)| of_kind[usize::from(*kind) * other + usize::from(*number)]).collect();
        rows.add(&both, &numbers)
    }
}

/// A value of a field that is searched for.
pub(super) trait Bound: Copy + Ord {
    const MIN: Self;
    /// The value before; the least one has none.
    fn before(self) -> Self;
    /// The value after, if there is one.
    fn after(self) -> Option<Self>;
}

macro_rules! bound {
    ($($type:ty)*) => { $(
        impl Bound for $type {
            const MIN: Self = 0;
            fn before(self) -> Self { self.wrapping_sub(1) }
            fn after(self) -> Option<Self> { self.checked_add(1) }
        }
    )* };
}
bound!(u16 u32 u128);

/// The intervals of a field: their rows, and the number of each one's.
pub(super) struct Cut {
    pub classes: Classes,
    pub numbers: Vec<u16>,
}

/// Cuts a field into intervals. `ranges`: what a rule asks for; `None` if it does not look at the field. Returns them with
/// the last value of each but the last one, which rise; `None` if no rule looks at the field.
fn intervals<B: Bound>(
    of: &OfFamily<'_>,
    ranges: impl Fn(&Rule) -> Option<Vec<(B, B)>>,
) -> Result<Option<(Vec<B>, Cut)>, AclError> {
    let mut changes: Vec<(B, usize, bool)> = Vec::new();
    for (bit, rule) in of.rules.iter().enumerate() {
        for (first, last) in ranges(rule).map(joined).unwrap_or_default() {
            changes.push((first, bit, true));
            changes.extend(last.after().map(|after| (after, bit, false)));
        }
    }
    if changes.is_empty() {
        return Ok(None);
    }
    changes.sort_unstable();
    let mut row = of.row(|rule| ranges(rule).is_none());
    let mut classes = Classes::new(of.lines);
    let (mut ends, mut numbers) = (Vec::new(), Vec::new());
    let begins_at_once = changes.first().is_some_and(|change| change.0 == B::MIN);
    if !begins_at_once {
        numbers.push(classes.number(&row)?);
    }
    for together in changes.chunk_by(|a, b| a.0 == b.0) {
        for (_, bit, to) in together {
            set(&mut row, *bit, *to);
        }
        let number = classes.number(&row)?;
        if numbers.last() == Some(&number) {
            continue;
        }
        if !numbers.is_empty() {
            ends.extend(together.first().map(|change| change.0.before()));
        }
        numbers.push(number);
    }
    if numbers.len() >= MAX_CLASSES {
        return Err(AclError::TooLarge);
    }
    Ok(Some((ends, Cut { classes, numbers })))
}

/// Most ends of intervals of 16 bits that are searched; with more, each value has its row in a table.
const MOST_ENDS: usize = 127;

/// An address field. `asked`: what a rule asks for; `None` if it does not look at the field.
pub(super) fn address<A: Address>(
    of: &OfFamily<'_>,
    rows: &mut Rows,
    asked: impl Fn(&Rule) -> Option<&Addresses>,
) -> Result<Option<Field<A::Search>>, AclError> {
    let Some((ends, cut)) = intervals(of, |rule| asked(rule).map(A::ranges))? else { return Ok(None) };
    Ok(Some(Field { search: A::build(&ends), starts: rows.add(&cut.classes, &cut.numbers)? }))
}

/// The intervals of a field of 16 bits. `asked`: what a rule asks for; nothing if it does not look at the field.
pub(super) fn cut(
    of: &OfFamily<'_>,
    asked: impl Fn(&Rule) -> Vec<(u16, u16)>,
) -> Result<Option<(Vec<u16>, Cut)>, AclError> {
    intervals(of, |rule| Some(asked(rule)).filter(|ranges| !ranges.is_empty()))
}

/// A field of 16 bits: a table of all values if there are many intervals.
pub(super) fn narrow(
    rows: &mut Rows,
    ends: &[u16],
    cut: &Cut,
) -> Result<Field<Option<Ranks<u16>>>, AclError> {
    if ends.len() <= MOST_ENDS {
        return Ok(Field { search: Some(Ranks::new(ends)), starts: rows.add(&cut.classes, &cut.numbers)? });
    }
    let mut numbers = vec![cut.numbers.last().copied().unwrap_or(0); 1 << 16];
    let mut first = 0;
    for (end, number) in ends.iter().zip(&cut.numbers) {
        let after = usize::from(*end) + 1;
        numbers[first..after].fill(*number);
        first = after;
    }
    Ok(Field { search: None, starts: rows.add(&cut.classes, &numbers)? })
}

/// The same values in ranges that neither overlap nor touch.
fn joined<B: Bound>(mut ranges: Vec<(B, B)>) -> Vec<(B, B)> {
    ranges.sort_unstable();
    let mut joined: Vec<(B, B)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if before.1.after().is_none_or(|after| first <= after) => {
                before.1 = before.1.max(last);
            }
            _ => joined.push((first, last)),
        }
    }
    joined
}
