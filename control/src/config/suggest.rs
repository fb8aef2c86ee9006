//! "Did you mean …?": the nearest of the names that would have been right.

/// The end of a message about an unknown `name`: the nearest candidate, else all of them, else nothing.
pub(super) fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
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
    // Nobody mistypes a name of that length into another; it bounds the work on hostile input.
    const LONGEST: usize = 64;
    let length = name.chars().count();
    if length > LONGEST {
        return None;
    }
    candidates
        .iter()
        .filter(|c| c.len() <= LONGEST)
        .map(|c| (distance(&name.to_lowercase(), &c.to_lowercase()), *c))
        .filter(|(d, c)| *d <= (length.max(c.chars().count()) / 3).max(1) && *d < c.chars().count().max(2))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Levenshtein distance in characters, one row at a time; swapped neighbours count as 2.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let here = (diagonal + usize::from(ca != *cb)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshtein() {
        for (a, b, want) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("vlan", "vlna", 2)]
        {
            assert_eq!(distance(a, b), want, "{a} {b}");
            assert_eq!(distance(b, a), want, "{b} {a}");
        }
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(hint("wam0", ["lan0", "wan0"]), "; did you mean \"wan0\"?");
        assert_eq!(hint("ctag", ["c_tag", "s_tag", "kind"]), "; did you mean \"c_tag\"?");
        assert_eq!(hint("something", ["lan0", "wan0"]), "; there are \"lan0\", \"wan0\"");
        assert_eq!(hint("x", ["wan0"]), "; the only one is \"wan0\"");
        assert_eq!(hint("x", []), "");
    }
}
