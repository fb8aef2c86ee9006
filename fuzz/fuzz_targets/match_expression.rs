//! Match expressions on arbitrary frames: text that parses becomes a program within its bounds, and the program's
//! answers hold together whatever the frame.
#![no_main]

use control::watch::expression;
use dataplane::packet::StrippedTags;
use dataplane::verdict::{DropReason, PuntReason, Verdict};
use dataplane::watch::Fields;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8], u16, u16, u8, u8)| {
    let (text, frame, outer, inner, stripped, reason) = input;
    let stripped = match stripped % 3 {
        0 => StrippedTags::None,
        1 => StrippedTags::One(outer),
        _ => StrippedTags::Two { outer, inner },
    };
    let fields = Fields::of(frame, stripped);
    let program = match expression::parse(text) {
        Ok(program) => program,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    // An answer that needs no verdict is the same for each of them.
    let early = program.matches(&fields, None);
    let verdicts = [
        Verdict::Forward,
        Verdict::Drop(DropReason::ALL[usize::from(reason) % DropReason::COUNT]),
        Verdict::Punt(PuntReason::ALL[usize::from(reason) % PuntReason::COUNT]),
    ];
    let negated = expression::parse(&format!("not ({text})"));
    for verdict in verdicts {
        let answer = program.matches(&fields, Some(verdict));
        assert!(answer.is_some(), "no answer with a verdict");
        assert!(early.is_none() || early == answer);
        // Deeper by two, or longer by one, it may be over the limits; an empty one is no term.
        if let Ok(negated) = &negated {
            assert_eq!(negated.matches(&fields, Some(verdict)), answer.map(|answer| !answer));
        }
    }
});
