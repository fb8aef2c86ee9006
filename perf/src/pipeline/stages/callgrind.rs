//! Callgrind's output, as far as it is needed. The format is in the Valgrind manual, "Callgrind Format Specification";
//! ours is written without compression.

use super::profile::{Call, Function, Profile};

impl Profile {
    /// Reads an output of `--dump-instr=yes --compress-strings=no --compress-pos=no`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut profile = Self::default();
        let mut here = Function { object: String::new(), name: String::new() };
        let mut callee = here.clone();
        let mut calling = false;
        for (number, line) in text.lines().enumerate() {
            let wrong = || format!("line {}: not understood: {line:?}", number + 1);
            if let Some((key, value)) =
                line.split_once('=').filter(|(key, _)| key.chars().all(char::is_alphabetic))
            {
                match key {
                    "ob" => value.clone_into(&mut here.object),
                    "fn" => {
                        value.clone_into(&mut here.name);
                        // Unless it is said to be elsewhere, a callee is in the caller's object.
                        callee.object.clone_from(&here.object);
                    }
                    "cob" => value.clone_into(&mut callee.object),
                    "cfn" => value.clone_into(&mut callee.name),
                    "calls" => calling = true,
                    _ => {}
                }
                continue;
            }
            if !line.starts_with("0x") {
                continue;
            }
            let mut words = line.split_whitespace();
            let address = words.next().and_then(|word| u64::from_str_radix(word.get(2..)?, 16).ok());
            // Without a cost it was executed and not counted.
            let cost = words.nth(1).map_or(Ok(0), str::parse).map_err(|_| wrong())?;
            let address = address.ok_or_else(wrong)?;
            if std::mem::take(&mut calling) {
                let call = Call { caller: here.clone(), address, instructions: cost };
                profile.calls.entry(callee.clone()).or_default().push(call);
                callee.object.clone_from(&here.object);
            } else {
                profile.own.entry(here.clone()).or_default().push((address, cost));
            }
        }
        if profile.own.is_empty() { Err("nothing was counted".into()) } else { Ok(profile) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_instructions_and_calls_are_told_apart() {
        let text = "version: 1\ncmd: perf pipeline-count --case=mix\npositions: instr line\nevents: Ir\n\nob=/perf\nfl=a.rs\nfn=outer\n\
                    0x10 5 100\nfi=b.rs\n0x14 7 20\ncob=/libc\ncfn=memcpy\ncalls=3 0x99 0\n0x18 8 60\ncfn=inner\n\
                    calls=1 0x30 0\n0x1c 9 7\n\nfn=inner\n0x30 1 7\n\nob=/libc\nfn=memcpy\n0x99 0 60\n\ntotals: 187\n";
        let profile = Profile::parse(text).unwrap();
        let function = |object: &str, name: &str| Function { object: object.into(), name: name.into() };
        assert_eq!(profile.own[&function("/perf", "outer")], [(0x10, 100), (0x14, 20)]);
        assert_eq!(profile.own[&function("/perf", "inner")], [(0x30, 7)]);
        let call = &profile.calls[&function("/libc", "memcpy")][0];
        assert_eq!((call.caller.name.as_str(), call.address, call.instructions), ("outer", 0x18, 60));
        assert!(profile.calls.contains_key(&function("/perf", "inner")));
        assert!(Profile::parse("events: Ir\n").is_err());
        assert!(Profile::parse("fn=a\n0xzz 1 1\n").is_err());
    }
}
