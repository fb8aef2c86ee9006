//! The compiled rules of one family, and how a burst's packets find the first that matches each.

use crate::burst::BURST;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::worker::Instructions;

use super::address::{Address, Flat};
use super::compile::{AclError, Field, Intervals, OfFamily, check, intervals};
use super::keys::{KINDS, Keys};
use super::rows::{PER_ROW, Row, Wide};
use super::rule::{Action, Rule};

/// Where each packet's way through the list ended: the counter of the rule, or of the implicit end; the highest bit says
/// that it is denied.
pub type Ends = [u16; BURST];

/// The bit of [`Ends`] for what is denied.
pub const DENIED: u16 = 1 << 15;

/// The rules of one family, compiled. `A`: `u32` for IPv4, `u128` for IPv6.
#[derive(Debug)]
pub struct Classifier<A: Address> {
    /// By kind, an index below [`KINDS`].
    kind: Field<Box<[u16]>>,
    source: Option<Field<A::Search>>,
    destination: Option<Field<A::Search>>,
    source_port: Option<Field<Flat<u16>>>,
    destination_port: Option<Field<Flat<u16>>>,
    /// By DSCP.
    dscp: Option<Field<Box<[u16]>>>,
    outer_vlan: Option<Field<Flat<u16>>>,
    inner_vlan: Option<Field<Flat<u16>>>,
    /// Cache lines of a row.
    lines: usize,
    /// By bit: what [`Ends`] says of a rule.
    ends: Box<[u16]>,
    /// The bits of the rules that only count, if there are any.
    counts: Option<Wide>,
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    instructions: Instructions,
}

/// Most fields that rules look at.
const FIELDS: usize = 8;

/// The number of each packet's row in each field in use, and these fields' rows.
struct Numbers<'a> {
    fields: usize,
    of: [[u16; BURST]; FIELDS],
    rows: [&'a [Row]; FIELDS],
}

impl<'a> Numbers<'a> {
    #[inline(always)]
    fn add<S>(&mut self, field: Option<&'a Field<S>>, find: impl FnOnce(&S, &mut [u16; BURST])) {
        let Some(field) = field else { return };
        let at = self.fields & (FIELDS - 1);
        find(&field.search, &mut self.of[at]);
        self.rows[at] = &field.rows;
        self.fields = at + 1;
    }
}

impl<A: Address> Classifier<A> {
    /// Compiles the rules that can match this family.
    pub(super) fn new(rules: &[Rule], counters: &[u16]) -> Result<Self, AclError> {
        check(rules, counters)?;
        let of = OfFamily::new(rules, A::FAMILY);
        let address =
            |field: fn(&Rule) -> &Option<super::Addresses>| {
                let found = intervals::<A>(&of, |rule| field(rule).as_ref().map(A::ranges))?;
                Ok::<_, AclError>(found.map(|Intervals { ends, numbers, rows }| Field {
                    search: A::build(&ends, &numbers),
                    rows,
                }))
            };
        let narrow = |field: fn(&Rule) -> &Vec<(u16, u16)>| {
            let found = intervals::<u16>(&of, |rule| Some(field(rule)).filter(|r| !r.is_empty()).cloned())?;
            Ok::<_, AclError>(
                found.map(|Intervals { ends, numbers, rows }| Field {
                    search: Flat::new(&ends, &numbers),
                    rows,
                }),
            )
        };
        let marked = of.rules.iter().any(|rule| !rule.dscp.is_empty());
        let has_dscp = |rule: &Rule, dscp| rule.dscp.is_empty() || rule.dscp.contains(&(dscp as u8));
        let end = |number: &usize| {
            let denied = if rules[*number].action == Action::Deny { DENIED } else { 0 };
            counters[*number] | denied
        };
        let mut ends: Vec<u16> = of.numbers.iter().map(end).collect();
        ends.push(counters[rules.len()] | DENIED);
        let counts = of.rules.iter().any(|rule| rule.action == Action::Count);
        let this = Self {
            kind: of.kinds()?,
            source: address(|rule| &rule.source)?,
            destination: address(|rule| &rule.destination)?,
            source_port: first_port(&of)?,
            destination_port: narrow(|rule| &rule.destination_ports)?,
            dscp: marked.then(|| of.table(64, has_dscp)).transpose()?,
            outer_vlan: narrow(|rule| &rule.outer_vlans)?,
            inner_vlan: narrow(|rule| &rule.inner_vlans)?,
            lines: of.lines,
            ends: ends.into(),
            counts: counts.then(|| of.row(|rule| rule.action == Action::Count)),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            instructions: Instructions::of_this_processor(),
        };
        if this.memory() > super::MAX_BYTES { Err(AclError::TooLarge) } else { Ok(this) }
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        fn of<S>(field: Option<&Field<S>>, search: impl Fn(&S) -> usize) -> usize {
            field.map_or(0, |field| size_of_val(&*field.rows) + search(&field.search))
        }
        of(Some(&self.kind), |numbers| size_of_val(&**numbers))
            + of(self.dscp.as_ref(), |numbers| size_of_val(&**numbers))
            + of(self.source.as_ref(), A::memory)
            + of(self.destination.as_ref(), A::memory)
            + [&self.source_port, &self.destination_port, &self.outer_vlan, &self.inner_vlan]
                .into_iter()
                .map(|field| of(field.as_ref(), Flat::memory))
                .sum::<usize>()
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
        let mut found = Numbers { fields: 0, of: [[0; BURST]; FIELDS], rows: [&[]; FIELDS] };
        found.add(Some(&self.kind), |numbers, into| {
            for (into, kind) in into.iter_mut().zip(&keys.kind[..len]) {
                *into = numbers.get(usize::from(*kind) & (KINDS - 1)).copied().unwrap_or(0);
            }
        });
        found.add(self.source.as_ref(), |s, into| A::find::<WIDE>(s, &keys.source[..len], into));
        found.add(self.destination.as_ref(), |s, into| A::find::<WIDE>(s, &keys.destination[..len], into));
        found.add(self.source_port.as_ref(), |s, into| s.find::<WIDE>(&keys.source_port[..len], into));
        found.add(self.destination_port.as_ref(), |s, into| {
            s.find::<WIDE>(&keys.destination_port[..len], into);
        });
        found.add(self.dscp.as_ref(), |numbers, into| {
            for (into, dscp) in into.iter_mut().zip(&keys.dscp[..len]) {
                *into = numbers.get(usize::from(*dscp) & 63).copied().unwrap_or(0);
            }
        });
        found.add(self.outer_vlan.as_ref(), |s, into| s.find::<WIDE>(&keys.outer_vlan[..len], into));
        found.add(self.inner_vlan.as_ref(), |s, into| s.find::<WIDE>(&keys.inner_vlan[..len], into));
        if let Some(counts) = &self.counts {
            return self.first_counting(len, &found, ends, counts, counted);
        }
        match found.fields {
            1 => self.first::<WIDE, 1>(len, &found, ends),
            2 => self.first::<WIDE, 2>(len, &found, ends),
            3 => self.first::<WIDE, 3>(len, &found, ends),
            4 => self.first::<WIDE, 4>(len, &found, ends),
            5 => self.first::<WIDE, 5>(len, &found, ends),
            _ => self.first::<WIDE, FIELDS>(len, &found, ends),
        }
    }

    /// ANDs the rows of each packet. Rows of `USED` fields are read; those beyond the fields in use are the first one's.
    #[inline(always)]
    fn first<const WIDE: bool, const USED: usize>(
        &self,
        len: usize,
        found: &Numbers<'_>,
        ends: &mut Ends,
    ) -> u64 {
        let field = |at: usize| if at < found.fields { at } else { 0 };
        let rows: [&[Row]; USED] = std::array::from_fn(|at| found.rows[field(at)]);
        let numbers: [&[u16; BURST]; USED] = std::array::from_fn(|at| &found.of[field(at)]);
        let mut denied = 0;
        for at in 0..len {
            let mut bit = self.ends.len() - 1;
            for line in 0..self.lines {
                let row = |of: usize| {
                    rows[of].get(usize::from(numbers[of][at]) * self.lines + line).unwrap_or(&Row::NONE)
                };
                if let Some(first) = first_of::<WIDE, USED>(std::array::from_fn(row)) {
                    bit = line * PER_ROW + first;
                    break;
                }
            }
            let end = self.ends.get(bit).copied().unwrap_or(DENIED);
            ends[at] = end;
            denied |= u64::from(end >> 15) << at;
        }
        denied
    }

    /// The same where rules count packets on their way.
    #[inline(always)]
    fn first_counting(
        &self,
        len: usize,
        found: &Numbers<'_>,
        ends: &mut Ends,
        counts: &[Row],
        mut counted: impl FnMut(usize, u16),
    ) -> u64 {
        let mut denied = 0;
        for at in 0..len {
            let mut end = DENIED;
            'packet: for (line, counts) in counts.iter().enumerate() {
                let mut row = Row([u64::MAX; 8]);
                for (rows, numbers) in found.rows.iter().zip(&found.of).take(found.fields) {
                    let number = usize::from(numbers[at]) * self.lines + line;
                    row.and(rows.get(number).unwrap_or(&Row::NONE));
                }
                while let Some(first) = row.first() {
                    let (word, bit) = (first / 64, 1 << (first % 64));
                    end = self.ends.get(line * PER_ROW + first).copied().unwrap_or(DENIED);
                    // The implicit end has a bit among those that count, and ends all the same.
                    if counts.0[word] & bit == 0 || line * PER_ROW + first + 1 == self.ends.len() {
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

/// Source ports and ICMP's types with codes are the same two bytes.
fn first_port(of: &OfFamily<'_>) -> Result<Option<Field<Flat<u16>>>, AclError> {
    let ranges = |rule: &Rule| {
        let some = [&rule.source_ports, &rule.icmp].into_iter().find(|ranges| !ranges.is_empty());
        some.cloned()
    };
    let found = intervals::<u16>(of, ranges)?;
    Ok(found.map(|Intervals { ends, numbers, rows }| Field { search: Flat::new(&ends, &numbers), rows }))
}

/// The lowest bit that all rows have.
#[inline(always)]
fn first_of<const WIDE: bool, const USED: usize>(rows: [&Row; USED]) -> Option<usize> {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if WIDE {
        // SAFETY: `WIDE` says that the processor has the features.
        #[allow(unsafe_code)]
        return unsafe { wide_first_of(rows) };
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
fn wide_first_of<const USED: usize>(rows: [&Row; USED]) -> Option<usize> {
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
    let bit = (_mm_cvtsi128_si64(first) as u64).trailing_zeros();
    (words != 0).then(|| (words.trailing_zeros() * 64 + bit) as usize)
}
