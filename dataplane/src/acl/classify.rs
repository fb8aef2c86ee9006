//! The compiled rules of one family, and how a burst's packets find the first that matches each.

use crate::burst::BURST;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::worker::Instructions;

use super::address::Address;
use super::compile::{AclError, Field, FieldRows, OfFamily, check, intervals};
use super::keys::Keys;
use super::ranks::Ranks;
use super::rows::{PER_ROW, Row, Wide};
use super::rule::{Action, Addresses, Rule};

/// Where each packet's way through the list ended: the counter of the rule, or of the implicit end; the highest bit says
/// that it is denied.
pub type Ends = [u16; BURST];

/// The bit of [`Ends`] for what is denied.
pub const DENIED: u16 = 1 << 15;

/// The rules of one family, compiled. `A`: `u32` for IPv4, `u128` for IPv6.
#[derive(Debug)]
pub struct Classifier<A: Address> {
    kind: Field<()>,
    source: Option<Field<A::Search>>,
    destination: Option<Field<A::Search>>,
    source_port: Option<Field<Ranks<u16>>>,
    destination_port: Option<Field<Ranks<u16>>>,
    dscp: Option<Field<()>>,
    outer_vlan: Option<Field<Ranks<u16>>>,
    inner_vlan: Option<Field<Ranks<u16>>>,
    /// Cache lines of a row.
    lines: usize,
    /// By line and bit: what [`Ends`] says of a rule.
    ends: Box<[[u16; PER_ROW]]>,
    /// The bit of the end.
    last: usize,
    /// The bits of the rules that only count, if there are any.
    counts: Option<Wide>,
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    instructions: Instructions,
}

/// Most fields that rules look at.
const FIELDS: usize = 8;

/// The interval of each packet in each field in use, and these fields' rows.
struct Found<'a> {
    fields: usize,
    /// Each at most the last of the field.
    intervals: [[u16; BURST]; FIELDS],
    rows: [&'a FieldRows; FIELDS],
}

impl<'a> Found<'a> {
    #[inline(always)]
    fn add<S>(&mut self, field: Option<&'a Field<S>>, find: impl FnOnce(&S, &mut [u16; BURST])) {
        let Some(field) = field else { return };
        let at = self.fields & (FIELDS - 1);
        find(&field.search, &mut self.intervals[at]);
        let last = field.rows().last();
        for interval in &mut self.intervals[at] {
            *interval = (*interval).min(last);
        }
        self.rows[at] = field.rows();
        self.fields = at + 1;
    }
}

impl<A: Address> Classifier<A> {
    /// Compiles the rules that can match this family.
    pub(super) fn new(rules: &[Rule], counters: &[u16]) -> Result<Self, AclError> {
        check(rules, counters)?;
        let of = OfFamily::new(rules, A::FAMILY);
        let marked = of.rules.iter().any(|rule| !rule.dscp.is_empty());
        let has_dscp = |rule: &Rule, dscp| rule.dscp.is_empty() || rule.dscp.contains(&(dscp as u8));
        let counts = of.rules.iter().any(|rule| rule.action == Action::Count);
        // Source ports, and ICMP's types with codes, are the same two bytes.
        let first_port =
            |rule: &Rule| if rule.icmp.is_empty() { rule.source_ports.clone() } else { rule.icmp.clone() };
        let this = Self {
            kind: of.kinds()?,
            source: address::<A>(&of, |rule| rule.source.as_ref())?,
            destination: address::<A>(&of, |rule| rule.destination.as_ref())?,
            source_port: narrow(&of, first_port)?,
            destination_port: narrow(&of, |rule| rule.destination_ports.clone())?,
            dscp: marked.then(|| of.table(64, has_dscp)).transpose()?,
            outer_vlan: narrow(&of, |rule| rule.outer_vlans.clone())?,
            inner_vlan: narrow(&of, |rule| rule.inner_vlans.clone())?,
            lines: of.lines,
            ends: ends(&of, rules, counters),
            last: of.rules.len(),
            counts: counts.then(|| of.row(|rule| rule.action == Action::Count)),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            instructions: Instructions::of_this_processor(),
        };
        if this.memory() > super::MAX_BYTES { Err(AclError::TooLarge) } else { Ok(this) }
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        let tables = [Some(&self.kind), self.dscp.as_ref()];
        let narrow = [&self.source_port, &self.destination_port, &self.outer_vlan, &self.inner_vlan];
        let addresses = [&self.source, &self.destination];
        tables.into_iter().flatten().map(|field| field.memory(|()| 0)).sum::<usize>()
            + addresses.into_iter().flatten().map(|field| field.memory(A::memory)).sum::<usize>()
            + narrow.into_iter().flatten().map(|field| field.memory(Ranks::memory)).sum::<usize>()
            + size_of_val(&*self.ends)
    }

    /// Whether it looks at the packets' tags.
    #[inline(always)]
    pub fn asks_for_tags(&self) -> bool {
        self.outer_vlan.is_some() || self.inner_vlan.is_some()
    }

    /// Finds the first rule that matches each packet. Returns those that are denied, as bits. `counted` is called with
    /// the packet and the counter of each rule on the way that only counts.
    #[inline(always)]
    pub fn classify(&self, keys: &Keys<A>, ends: &mut Ends, counted: impl FnMut(usize, u16)) -> u64 {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            // SAFETY: `instructions` says that the processor has the features that the function is compiled with.
            #[allow(unsafe_code)]
            unsafe {
                match self.instructions {
                    Instructions::Avx512 => return self.with_avx512(keys, ends, counted),
                    Instructions::Avx2 => return self.with_avx2(keys, ends, counted),
                    Instructions::Baseline => {}
                }
            }
        }
        self.body::<false>(keys, ends, counted)
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn with_avx512(&self, keys: &Keys<A>, ends: &mut Ends, counted: impl FnMut(usize, u16)) -> u64 {
        self.body::<true>(keys, ends, counted)
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn with_avx2(&self, keys: &Keys<A>, ends: &mut Ends, counted: impl FnMut(usize, u16)) -> u64 {
        self.body::<false>(keys, ends, counted)
    }

    #[inline(always)]
    pub(super) fn body<const WIDE: bool>(
        &self,
        keys: &Keys<A>,
        ends: &mut Ends,
        counted: impl FnMut(usize, u16),
    ) -> u64 {
        let len = keys.len.min(BURST);
        let mut found =
            Found { fields: 0, intervals: [[0; BURST]; FIELDS], rows: [self.kind.rows(); FIELDS] };
        found.add(Some(&self.kind), |(), into| *into = keys.kind);
        found.add(self.source.as_ref(), |s, into| A::find::<WIDE>(s, &keys.source, len, into));
        found.add(self.destination.as_ref(), |s, into| A::find::<WIDE>(s, &keys.destination, len, into));
        found.add(self.source_port.as_ref(), |s, into| s.search::<WIDE>(&keys.source_port, len, into));
        found.add(self.destination_port.as_ref(), |s, into| {
            s.search::<WIDE>(&keys.destination_port, len, into);
        });
        found.add(self.dscp.as_ref(), |(), into| *into = keys.dscp.map(u16::from));
        found.add(self.outer_vlan.as_ref(), |s, into| s.search::<WIDE>(&keys.outer_vlan, len, into));
        found.add(self.inner_vlan.as_ref(), |s, into| s.search::<WIDE>(&keys.inner_vlan, len, into));
        if let Some(counts) = &self.counts {
            return self.first_counting(len, &found, ends, counts, counted);
        }
        match (found.fields, self.lines) {
            (..=3, 1) => self.first::<WIDE, 3, 1>(len, &found, ends),
            (4, 1) => self.first::<WIDE, 4, 1>(len, &found, ends),
            (5, 1) => self.first::<WIDE, 5, 1>(len, &found, ends),
            (..=5, 2) => self.first::<WIDE, 5, 2>(len, &found, ends),
            (..=5, _) => self.first::<WIDE, 5, 0>(len, &found, ends),
            _ => self.first::<WIDE, FIELDS, 0>(len, &found, ends),
        }
    }

    /// Finds the lowest bit that the rows of each packet have in common. `USED`: of so many fields, of which those beyond the
    /// fields in use are the first one again. `LINES`: so many lines a row; 0: any number.
    #[inline(always)]
    fn first<const WIDE: bool, const USED: usize, const LINES: usize>(
        &self,
        len: usize,
        found: &Found<'_>,
        ends: &mut Ends,
    ) -> u64 {
        let (mut rows, mut intervals) = ([found.rows[0]; USED], [&found.intervals[0]; USED]);
        for at in 0..USED.min(found.fields) {
            (rows[at], intervals[at]) = (found.rows[at], &found.intervals[at]);
        }
        for at in 0..len {
            let pick = |line: usize| {
                let mut picked = [&Row::NONE; USED];
                for of in 0..USED {
                    // SAFETY: intervals are at most the last of their field, and `line` is less than `self.lines`, which
                    // `LINES` is unless it is 0.
                    #[allow(unsafe_code)]
                    unsafe {
                        picked[of] = rows[of].line_unchecked(intervals[of][at], line);
                    }
                }
                common::<WIDE, USED>(picked)
            };
            let (mut line, mut bit) = (0, pick(0));
            if LINES == 2 {
                // Without a branch, since either is as likely.
                let (second, none) = (pick(1), bit == PER_ROW);
                (line, bit) = (usize::from(none), if none { second } else { bit });
            } else if LINES == 0 {
                while bit == PER_ROW && line + 1 < self.lines {
                    line += 1;
                    bit = pick(line);
                }
            }
            // Each row has the bit of the end, so that there is one.
            ends[at] = self.ends.get(line).map_or(DENIED, |ends| ends[bit % PER_ROW]);
        }
        ends[..len].iter().enumerate().fold(0, |denied, (at, end)| denied | u64::from(end >> 15) << at)
    }

    /// The same where rules count packets on their way.
    #[inline(always)]
    fn first_counting(
        &self,
        len: usize,
        found: &Found<'_>,
        ends: &mut Ends,
        counts: &[Row],
        mut counted: impl FnMut(usize, u16),
    ) -> u64 {
        let mut denied = 0;
        for at in 0..len {
            let mut end = DENIED;
            'packet: for (line, counts) in counts.iter().enumerate() {
                let mut row = Row([u64::MAX; 8]);
                for (rows, intervals) in found.rows.iter().zip(&found.intervals).take(found.fields) {
                    row.and(rows.line(intervals[at], line));
                }
                loop {
                    let first = row.first();
                    if first == PER_ROW {
                        break;
                    }
                    let (word, bit) = (first / 64, 1 << (first % 64));
                    end = self.ends.get(line).map_or(DENIED, |ends| ends[first]);
                    // The end has a bit among those that count, and ends all the same.
                    if counts.0[word] & bit == 0 || line * PER_ROW + first == self.last {
                        break 'packet;
                    }
                    counted(at, end);
                    row.0[word] &= !bit;
                }
            }
            ends[at] = end;
            denied |= u64::from(end >> 15) << at;
        }
        denied
    }
}

/// What [`Ends`] says of each bit.
fn ends(of: &OfFamily<'_>, rules: &[Rule], counters: &[u16]) -> Box<[[u16; PER_ROW]]> {
    let mut ends = vec![[DENIED; PER_ROW]; of.lines];
    let numbers = of.numbers.iter().copied().chain([rules.len()]);
    for (end, number) in ends.as_flattened_mut().iter_mut().zip(numbers) {
        let permits = rules.get(number).is_some_and(|rule| rule.action != Action::Deny);
        *end = counters.get(number).copied().unwrap_or(0) | if permits { 0 } else { DENIED };
    }
    ends.into()
}

/// An address field. `asked`: what a rule asks for; `None` if it does not look at the field.
fn address<A: Address>(
    of: &OfFamily<'_>,
    asked: impl Fn(&Rule) -> Option<&Addresses>,
) -> Result<Option<Field<A::Search>>, AclError> {
    let found = intervals::<A>(of, |rule| asked(rule).map(A::ranges))?;
    Ok(found.map(|i| Field::new(A::build(&i.ends), &i.numbers, i.rows, of.lines)))
}

/// A field of 16 bits. `asked`: what a rule asks for; nothing if it does not look at the field.
fn narrow(
    of: &OfFamily<'_>,
    asked: impl Fn(&Rule) -> Vec<(u16, u16)>,
) -> Result<Option<Field<Ranks<u16>>>, AclError> {
    let found = intervals::<u16>(of, |rule| Some(asked(rule)).filter(|ranges| !ranges.is_empty()))?;
    Ok(found.map(|i| Field::new(Ranks::new(&i.ends), &i.numbers, i.rows, of.lines)))
}

/// The lowest bit that all rows have; [`PER_ROW`] if there is none.
#[inline(always)]
fn common<const WIDE: bool, const USED: usize>(rows: [&Row; USED]) -> usize {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if WIDE {
        // SAFETY: `WIDE` says that the processor has the features.
        #[allow(unsafe_code)]
        return unsafe { wide_common(rows) };
    }
    let mut all = Row([u64::MAX; 8]);
    for row in rows {
        all.and(row);
    }
    all.first()
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1")]
fn wide_common<const USED: usize>(rows: [&Row; USED]) -> usize {
    use std::arch::x86_64::{
        __m512i, _mm_cvtsi128_si64, _mm512_and_si512, _mm512_castsi512_si128, _mm512_maskz_compress_epi64,
        _mm512_set1_epi64, _mm512_test_epi64_mask,
    };
    let mut all = _mm512_set1_epi64(-1);
    for row in rows {
        // SAFETY: a row is 64 bytes, at a multiple of 64, and any bits are a vector.
        #[allow(unsafe_code)]
        let row = unsafe { *std::ptr::from_ref(row).cast::<__m512i>() };
        all = _mm512_and_si512(all, row);
    }
    let words = _mm512_test_epi64_mask(all, all);
    let first = _mm512_castsi512_si128(_mm512_maskz_compress_epi64(words, all));
    // Without any: 8 words, and no bit in the next.
    let word = (u32::from(words) | 1 << 8).trailing_zeros() as usize;
    let bit = (_mm_cvtsi128_si64(first) as u64).trailing_zeros() as usize;
    word * 64 + (bit & 63)
}
