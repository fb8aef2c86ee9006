//! The files that users start from, and the page that explains every key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::COMPLETE;
use crate::config::errors::Report;
use crate::config::{load, sections, warnings};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_example_is_valid_and_without_warnings() {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(repository().join("examples")).expect("examples/ is there") {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let config = load(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(warnings(&config), Vec::<String>::new(), "{}", path.display());
        seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    seen.sort();
    assert_eq!(seen, ["lab-tap.toml", "provider-dot1q.toml", "two-nics.toml"]);
}

#[test]
fn two_nics_has_both_peerings_over_both_links() {
    let config = load(&repository().join("examples/two-nics.toml")).unwrap_or_else(|e| panic!("{e}"));
    let links: Vec<_> = config.sub_interfaces.iter().filter(|s| s.link.is_some()).collect();
    assert_eq!(links.len(), 4);
    assert!(links.iter().all(|s| s.addresses.len() == 2), "both families on each");
    assert_eq!(config.bgp.map(|b| b.peers.len()), Some(2));
}

/// Every (section, key) that the parser asked for while it read `COMPLETE`.
fn known_keys() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let root = toml_span::parse(COMPLETE).unwrap();
    let mut report = Report::new(COMPLETE);
    sections::document(&root, &mut report);
    let mut known: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (section, key) in report.known() {
        known.entry(*section).or_default().insert(*key);
    }
    known
}

/// The (section, key) pairs of the page's headings and tables.
fn documented_keys(page: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let mut section = "";
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## `") {
            section = heading.trim_end_matches('`').trim_matches(['[', ']']);
            found.entry(section).or_default();
        } else if let Some((key, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) {
            assert_eq!(rest.matches('|').count(), 4, "four columns, each filled: {line}");
            assert!(rest.split('|').skip(1).take(3).all(|cell| !cell.trim().is_empty()), "{line}");
            assert!(found.entry(section).or_default().insert(key), "{section}.{key} stands twice");
        }
    }
    found
}

#[test]
fn the_page_has_every_key_that_the_parser_knows_and_no_other() {
    let page = std::fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let mut known = known_keys();
    let top = known.remove("").expect("the sections");
    let first_parts: BTreeSet<_> = known.keys().filter_map(|s| s.split('.').next()).collect();
    assert_eq!(top, first_parts, "COMPLETE has every section");
    assert_eq!(documented_keys(&page), known);
}

#[test]
fn the_pages_own_example_is_valid() {
    let page = std::fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    crate::config::parse("page", example).unwrap_or_else(|e| panic!("{e}"));
}
