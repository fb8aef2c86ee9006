//! IPv4 options (RFC 791, section 3.1): walked, and sorted by what a router has to do about them.

/// End of the list.
pub const END: u8 = 0;
/// No operation: one byte of padding.
pub const NOP: u8 = 1;
/// Record route.
pub const RECORD_ROUTE: u8 = 7;
/// Internet timestamp.
pub const TIMESTAMP: u8 = 68;
/// Loose source and record route.
pub const LOOSE_SOURCE_ROUTE: u8 = 131;
/// Strict source and record route.
pub const STRICT_SOURCE_ROUTE: u8 = 137;
/// Router alert (RFC 2113).
pub const ROUTER_ALERT: u8 = 148;

/// One option as it lies in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its type.
    pub kind: u8,
    /// Where it starts, in bytes from the first option.
    pub at: usize,
    /// Its length with type and length, in bytes; at least 2.
    pub len: usize,
}

/// An option whose length is wrong: it starts so many bytes from the first option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub usize);

/// The options longer than a byte, in order. After a malformed one there are no more.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    options: &'a [u8],
    at: usize,
}

/// Walks the options of a header: the bytes behind its first 20.
pub const fn walk(options: &[u8]) -> Walk<'_> {
    Walk { options, at: 0 }
}

impl Iterator for Walk<'_> {
    type Item = Result<Found, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self.at;
            match *self.options.get(at)? {
                END => {
                    self.at = self.options.len();
                    return None;
                }
                NOP => self.at += 1,
                kind => {
                    let len = self.options.get(at + 1).map_or(0, |len| usize::from(*len));
                    if len < 2 || at + len > self.options.len() {
                        self.at = self.options.len();
                        return Some(Err(Malformed(at)));
                    }
                    self.at += len;
                    return Some(Ok(Found { kind, at, len }));
                }
            }
        }
    }
}

/// What a router has to do about the options of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing: the packet goes on with its options as they are.
    Passive,
    /// There is a source route, and nothing else to act on.
    SourceRoute,
    /// Record, stamp, look at, or answer with an error.
    Active,
}

/// Sorts the options of a header: the bytes behind its first 20.
pub fn classify(options: &[u8]) -> Class {
    let mut class = Class::Passive;
    for option in walk(options) {
        match option {
            Err(_) => return Class::Active,
            Ok(Found { kind: RECORD_ROUTE | TIMESTAMP | ROUTER_ALERT, .. }) => return Class::Active,
            Ok(Found { kind: LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, at, len }) => {
                // One with a pointer that points nowhere, or a second one, is an error of its own (RFC 1812,
                // section 5.2.4.1).
                if len < 3 || options[at + 2] < 4 || class == Class::SourceRoute {
                    return Class::Active;
                }
                class = Class::SourceRoute;
            }
            Ok(_) => {}
        }
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn options_are_sorted() {
        for (options, class) in [
            (&[1, 1, 1, 0][..], Class::Passive),
            (&[130, 4, 0, 0], Class::Passive),
            (&[0, 7, 7, 7], Class::Passive),
            (&[7, 3, 4, 0], Class::Active),
            (&[1, 68, 4, 5], Class::Active),
            (&[148, 4, 0, 0], Class::Active),
            (&[131, 3, 4, 0], Class::SourceRoute),
            (&[137, 3, 4, 1], Class::SourceRoute),
            (&[131, 3, 3, 0], Class::Active),
            (&[131, 2, 9, 0], Class::Active),
            (&[131, 3, 4, 137, 3, 4, 0, 0], Class::Active),
            (&[131, 3, 4, 7, 3, 4, 0, 0], Class::Active),
            (&[130, 1, 0, 0], Class::Active),
            (&[130, 5, 0, 0], Class::Active),
            (&[1, 1, 1, 130], Class::Active),
        ] {
            assert_eq!(classify(options), class, "{options:?}");
        }
    }

    proptest! {
        #[test]
        fn a_walk_stays_within_and_ends(options in prop::collection::vec(any::<u8>(), 0..=40)) {
            let mut end = 0;
            for option in walk(&options) {
                match option {
                    Ok(found) => {
                        prop_assert!(found.at >= end && found.len >= 2);
                        end = found.at + found.len;
                        prop_assert!(end <= options.len());
                    }
                    Err(Malformed(at)) => prop_assert!((end..options.len()).contains(&at)),
                }
            }
        }
    }
}
