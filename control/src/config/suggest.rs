//! "Did you mean …?": the nearest of the names that would have been right.

/// The end of a message about an unknown `name`: the nearest candidate, else all of them, else nothing.
pub(crate) fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(near) = nearest(name, &candidates) {
        return format!("; did you mean {near:?}?");
    }
    match candidates.as_slice() {
        [] => String::new(),
        [one] => format!("; the only one is {one:?}"),
        many => {
            let shown: Vec<String> = many.iter().take(20).map(|c| format!("{c:?}")).collect();
            let more = if many.len() > shown.len() { ", …" } else { "" };
            format!("; there are {}{more}", shown.join(", "))
        }
    }
}

fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // Nobody mistypes a name of that length into another, and nobody picks one among that many: bounds for the
    // work on hostile input.
    const LONGEST: usize = 64;
    const MOST: usize = 1000;
    let name: Vec<char> = name.chars().collect();
    if name.len() > LONGEST || candidates.len() > MOST {
        return None;
    }
    let close = |candidate: &&'a str| {
        let length = candidate.chars().count();
        // A third of the letters may differ, but not all of them.
        let limit = (name.len().max(length) / 3).max(1).min(length.saturating_sub(1));
        let distance = if length > LONGEST { None } else { distance(&name, candidate, limit) };
        distance.map(|d| (d, *candidate))
    };
    candidates.iter().filter_map(close).min_by_key(|(d, _)| *d).map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters whatever their case, one row at a time; `None` above `limit`. Swapped
/// neighbours count as 2.
fn distance(a: &[char], b: &str, limit: usize) -> Option<usize> {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, cb) in b.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut least = left;
        for (cell, ca) in row.iter_mut().skip(1).zip(a) {
            let here = (diagonal + usize::from(!ca.eq_ignore_ascii_case(&cb))).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
            least = least.min(here);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        if least > limit {
            return None;
        }
    }
    row.last().copied().filter(|d| *d <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshtein() {
        for (a, b, want) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("vlan", "vlna", 2)]
        {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(distance(&chars(a), b, 9), Some(want), "{a} {b}");
            assert_eq!(distance(&chars(b), a, want), Some(want), "{b} {a}");
            if want > 0 {
                assert_eq!(distance(&chars(a), b, want - 1), None, "{a} {b}");
            }
        }
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(hint("wam0", ["lan0", "wan0"]), "; did you mean \"wan0\"?");
        assert_eq!(hint("ctag", ["c_tag", "s_tag", "kind"]), "; did you mean \"c_tag\"?");
        assert_eq!(hint("something", ["lan0", "wan0"]), "; there are \"lan0\", \"wan0\"");
        assert_eq!(hint("x", ["wan0"]), "; the only one is \"wan0\"");
        assert_eq!(hint("WAN0", ["lan0", "wan0"]), "; did you mean \"wan0\"?");
        assert_eq!(hint("a", ["b", "c"]), "; there are \"b\", \"c\"", "one letter is no likeness");
        assert_eq!(hint("x", []), "");
    }
}
