//! Names to indices, with an error for a name given twice and a suggestion for one that nothing has.

use std::collections::BTreeMap;

use super::errors::{At, Place, Report};
use super::suggest::hint;

/// The names of one kind of thing.
pub(super) struct Names {
    /// What has them, with its article: "a port".
    kind: &'static str,
    by_name: BTreeMap<String, (usize, Place)>,
    /// Whether each had a name: else a reference may mean one that could not be read, which is reported.
    whole: bool,
}

impl Names {
    /// Indexes `names` in order; one that could not be read keeps its index.
    pub fn index<'a>(
        kind: &'static str,
        names: impl IntoIterator<Item = Option<&'a At<String>>>,
        report: &mut Report<'_>,
    ) -> Self {
        let mut by_name: BTreeMap<String, (usize, Place)> = BTreeMap::new();
        let mut whole = true;
        for (index, name) in names.into_iter().enumerate() {
            let Some(name) = name else {
                whole = false;
                continue;
            };
            if let Some((_, first)) = by_name.get(&name.value) {
                let line = report.line(*first);
                let message =
                    format!("{:?} is the name of {kind} already (line {line}): choose another", name.value);
                report.error(name.place, message);
            } else {
                by_name.insert(name.value.clone(), (index, name.place));
            }
        }
        Self { kind, by_name, whole }
    }

    /// The index of the thing that `reference` names.
    pub fn resolve(&self, reference: &At<String>, report: &mut Report<'_>) -> Option<usize> {
        if let Some((index, _)) = self.by_name.get(&reference.value) {
            return Some(*index);
        }
        if self.whole {
            let hint = hint(&reference.value, self.by_name.keys().map(String::as_str));
            report.error(
                reference.place,
                format!("{:?} is not the name of {}{hint}", reference.value, self.kind),
            );
        }
        None
    }
}
