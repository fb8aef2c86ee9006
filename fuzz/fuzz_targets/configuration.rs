//! The text of a configuration: read, checked, told of, and when it is right, made into all that the data plane has of
//! it.
#![no_main]

use control::config::{parse, warnings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match parse("fuzz.toml", text) {
        Ok(config) => {
            for warning in warnings(&config) {
                assert!(!warning.is_empty());
            }
            control::router::fuzz::build(&config);
        }
        Err(errors) => {
            let lines = text.lines().count().max(1) + 1;
            for error in errors.iter() {
                assert!(!error.message.is_empty());
                assert!(error.place.is_none_or(|(line, column)| (1..=lines).contains(&line) && column > 0));
            }
        }
    }
});
