//! No input makes the parser panic, and each error has its place within the text.

use proptest::prelude::*;

use super::COMPLETE;
use crate::config::{load, parse};

fn check(text: &str) -> Result<(), TestCaseError> {
    let Err(errors) = parse("t.toml", text) else { return Ok(()) };
    prop_assert!(errors.count() > 0);
    let lines: Vec<&str> = text.split('\n').collect();
    let mut last = (0, 0);
    for error in &errors {
        let place = error.place.expect("a text's errors have places");
        prop_assert!(place >= last, "sorted");
        last = place;
        let line = lines.get(place.0 - 1);
        prop_assert!(line.is_some_and(|l| place.1 <= l.chars().count() + 1), "{error:?} in {text:?}");
        prop_assert!(!error.message.is_empty() && !error.message.contains('\n'), "{error:?}");
    }
    prop_assert_eq!(
        errors.to_string().lines().count(),
        errors.count() + 1,
        "one line an error, and the count"
    );
    Ok(())
}

/// What tends to be in TOML, so that mutations get past the tokenizer.
fn snippet() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        proptest::sample::select(vec![
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            "\n",
            "\"",
            ".",
            ",",
            "0",
            "-1",
            "true",
            "nan",
            "1e9",
            "0x8100",
            "\"10.0.0.0/29\"",
            "\"::/0\"",
            "\"\\u0000\"",
            "[]",
            "{}",
            "9223372036854775807",
            "\n[[circuit]]\n",
            "\n[circuit]\n",
            "\n[bgp.peer]\n",
            "\n[[port]]\n",
            "name = \"\"\n",
            "a.b.c = 1\n",
            "'",
            "\"\"\"",
            "#",
            "ü",
            "\"255.255.255.255/30\"",
            "\"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/126\"",
            "\r\n",
            "4095",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn any_text_of_snippets(parts in proptest::collection::vec(snippet(), 0..20)) {
        check(&parts.concat())?;
    }

    #[test]
    fn a_valid_text_with_pieces_replaced(
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), 0usize..40, snippet()), 1..4)
    ) {
        let mut text: Vec<char> = COMPLETE.chars().collect();
        for (at, length, new) in cuts {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, new.chars());
        }
        check(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn a_valid_text_with_values_replaced(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), snippet()), 1..5)
    ) {
        let mut lines: Vec<String> = COMPLETE.lines().map(str::to_owned).collect();
        for (at, new) in changes {
            let index = at.index(lines.len());
            if let Some((key, _)) = lines[index].split_once('=') {
                lines[index] = format!("{key}= {new}");
            }
        }
        check(&lines.join("\n"))?;
    }

    #[test]
    fn a_valid_text_with_lines_moved(swaps in proptest::collection::vec(any::<[proptest::sample::Index; 2]>(), 1..6)) {
        let mut lines: Vec<&str> = COMPLETE.lines().collect();
        for [a, b] in swaps {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
        }
        check(&lines.join("\n"))?;
    }
}

#[test]
fn every_prefix_of_a_valid_text() {
    for (end, _) in COMPLETE.char_indices() {
        check(&COMPLETE[..end]).unwrap();
    }
}

fn load_error(path: &std::path::Path) -> String {
    load(path).expect_err("must not load").to_string()
}

#[test]
fn files_that_are_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load_error(&folder.path().join("none.toml"));
    assert!(missing.contains("none.toml: no such file"), "{missing}");
    let directory = load_error(folder.path());
    assert!(directory.contains("is a directory"), "{directory}");

    let file = folder.path().join("t.toml");
    std::fs::write(&file, b"name = 1\n# \xff\xfe\n").unwrap();
    let binary = load_error(&file);
    assert!(binary.contains("t.toml:2:3: not UTF-8"), "{binary}");
    std::fs::write(&file, [0u8; 64]).unwrap();
    let zeros = load_error(&file);
    assert!(zeros.contains("t.toml:1:1: not valid TOML"), "{zeros}");
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    let large = load_error(&file);
    assert!(large.contains("larger than 1048576 bytes"), "{large}");
    std::fs::write(&file, "").unwrap();
    let empty = load_error(&file);
    assert!(empty.contains("there is no [[port]]") && empty.contains("there is no [[interface]]"), "{empty}");
    std::fs::write(&file, COMPLETE).unwrap();
    load(&file).unwrap();
}
