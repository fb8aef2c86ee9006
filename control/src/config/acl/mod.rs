//! `[[acl]]`: access lists, whose rules are lines of text (`rule`).

mod rule;
mod words;

use dataplane::acl::{Acl, MAX_RULES, Rule};
use toml_span::Value;

use super::draft::NamedList;
use super::errors::{At, Place, Report};
use super::model::{AccessList, AccessRule};
use super::section::Section;
use super::values::{name, string};

pub use rule::{RuleError, parse_rule};

/// Most rules of all lists together, so that the counters of new rules have room beside those of the old.
const MOST_RULES: usize = 16_384;

/// The smallest list, for messages.
const EXAMPLE: &str = "[\"permit tcp from 10.0.0.0/8 to any port 443\"]";

/// Reads one `[[acl]]`.
pub(super) fn list(s: &mut Section<'_, '_, '_>) -> NamedList {
    let name = s.need("name", "\"from-cloud\"", name);
    if !s.has("rules") {
        s.error("rules", format!("missing; add for example rules = {EXAMPLE}"));
    }
    let texts = s.list("rules", |value: &Value<'_>| string(value).map(str::to_owned)).unwrap_or_default();
    let whole = texts.iter().all(Option::is_some);
    let mut rules = Vec::new();
    for text in texts.into_iter().flatten() {
        lines(&text, s.report, &mut rules);
    }
    NamedList { place: s.place("rules"), name, rules, whole }
}

/// The rules in one string: one a line. Empty lines, and what follows a `#`, say nothing.
fn lines(text: &At<String>, report: &mut Report<'_>, rules: &mut Vec<Option<AccessRule>>) {
    // With escapes in it a string is not as it stands in the file; then the error is at its beginning.
    let start = report.start_of(text.place, &text.value);
    let mut offset = 0;
    for line in text.value.split_inclusive('\n') {
        let stated = line.split('#').next().unwrap_or_default();
        if !stated.trim().is_empty() {
            match parse_rule(stated) {
                Ok(rule) => rules.push(Some(AccessRule { text: spaced(stated), rule })),
                Err(error) => {
                    let at = start.map_or(text.place.offset, |start| start + offset + error.at);
                    report.error(Place { offset: at, ..text.place }, error.message);
                    rules.push(None);
                }
            }
        }
        offset += line.len();
    }
}

/// With single spaces, and one after each comma: two rules are the same if they are the same so.
fn spaced(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace(" ,", ",").replace(", ", ",").replace(',', ", ")
}

/// Checks the lists as the data plane will.
pub(super) fn lists(drafts: Vec<NamedList>, report: &mut Report<'_>) -> Option<Vec<AccessList>> {
    let mut lists = Vec::with_capacity(drafts.len());
    let mut whole = true;
    let mut total = 0;
    for draft in drafts {
        total += draft.rules.len() + 1;
        if total > MOST_RULES {
            let message = format!("more than {MOST_RULES} rules and lists in all: use fewer");
            report.error(draft.place, message);
            return None;
        }
        let rules: Option<Vec<AccessRule>> = draft.rules.into_iter().collect();
        let (Some(name), Some(rules), true) = (draft.name, rules, draft.whole) else {
            whole = false;
            continue;
        };
        if let Err(error) = compile(&rules) {
            report.error(draft.place, error);
            whole = false;
        }
        lists.push(AccessList { name: name.value, rules });
    }
    whole.then_some(lists)
}

/// Compiles the rules, only to see whether they can be.
fn compile(rules: &[AccessRule]) -> Result<(), String> {
    if rules.len() > MAX_RULES {
        return Err(format!(
            "{} rules, and a list has at most {MAX_RULES}: a rule takes several prefixes and ports, with commas",
            rules.len()
        ));
    }
    let counters: Vec<u16> = (0..=rules.len() as u16).collect();
    let rules: Vec<Rule> = rules.iter().map(|rule| rule.rule.clone()).collect();
    Acl::new(&rules, &counters).map(|_| ()).map_err(|error| error.to_string())
}
