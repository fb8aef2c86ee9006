//! From single steps to a profile. Who calls whom is seen by the stack: a call puts an address on it and goes elsewhere,
//! and what was called has returned once that address is off it. A function is named by where it was entered.

use std::collections::HashMap;

use super::profile::{Call, Function, Profile};
use super::stepping::Step;

/// The longest instruction, in bytes.
const LONGEST: u64 = 15;

/// The program and its libraries, and where they are.
pub struct Objects(Vec<Object>);

struct Object {
    name: String,
    start: u64,
    end: u64,
}

impl Objects {
    /// Reads the text of `/proc/self/maps`.
    pub fn read(maps: &str) -> Self {
        let mut objects: Vec<Object> = Vec::new();
        for line in maps.lines() {
            let (Some(path), Some((start, rest))) = (line.find('/'), line.split_once('-')) else { continue };
            let end = rest.split(' ').next().unwrap_or_default();
            let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap_or_default());
            let name = &line[path..];
            // What is of one file lies together, from its beginning on.
            match objects.last_mut().filter(|object| object.name == name) {
                Some(object) => object.end = end,
                None => objects.push(Object { name: name.to_owned(), start, end }),
            }
        }
        Self(objects)
    }

    /// Which one an address is in.
    fn find(&self, address: u64) -> Option<usize> {
        self.0.iter().position(|object| (object.start..object.end).contains(&address))
    }

    /// The name of what an address is in, and where in it.
    fn place(&self, address: u64) -> (&str, u64) {
        let object = self.find(address).map(|at| &self.0[at]);
        object.map_or(("", address), |object| (object.name.as_str(), address - object.start))
    }

    fn function(&self, entry: u64) -> Function {
        let (object, address) = self.place(entry);
        Function { object: object.to_owned(), name: format!("{address:#x}") }
    }
}

/// A function that has not returned.
struct Frame {
    entry: u64,
    /// The stack pointer when it was entered: what it returns by lies there.
    stack: u64,
    /// Where it was called from: function and instruction.
    from: Option<(u64, u64)>,
    /// What had been executed when it was entered.
    before: u64,
}

/// Counts steps by function and instruction. An instruction that repeats itself (`rep movsb`) traps each time, and counts
/// once.
pub fn profile(steps: &[Step], objects: &Objects) -> Profile {
    let mut own: HashMap<(u64, u64), u64> = HashMap::new();
    let mut calls: HashMap<(u64, (u64, u64)), u64> = HashMap::new();
    let Some(first) = steps.first() else { return Profile::default() };
    let mut frames = vec![Frame { entry: first.instruction, stack: u64::MAX, from: None, before: 0 }];
    let mut executed = 0;
    let mut last: Option<Step> = None;
    for step in steps {
        if let Some(last) = last {
            if last == *step {
                continue;
            }
            while let Some(returned) = frames.pop_if(|frame| step.stack > frame.stack) {
                count_call(&mut calls, &returned, executed);
            }
            frames.extend(
                entered(&last, step, frames.last(), objects).map(|frame| Frame { before: executed, ..frame }),
            );
        }
        if let Some(frame) = frames.last() {
            *own.entry((frame.entry, step.instruction)).or_default() += 1;
        }
        executed += 1;
        last = Some(*step);
    }
    for frame in &frames {
        count_call(&mut calls, frame, executed);
    }
    let mut profile = Profile::default();
    for ((entry, address), count) in own {
        let costs = profile.own.entry(objects.function(entry)).or_default();
        costs.push((objects.place(address).1, count));
    }
    for ((entry, (caller, address)), instructions) in calls {
        let call = Call { caller: objects.function(caller), address: objects.place(address).1, instructions };
        profile.calls.entry(objects.function(entry)).or_default().push(call);
    }
    profile
}

fn count_call(calls: &mut HashMap<(u64, (u64, u64)), u64>, frame: &Frame, executed: u64) {
    if let Some(from) = frame.from {
        *calls.entry((frame.entry, from)).or_default() += executed - frame.before;
    }
}

/// What was entered between two steps, if anything was.
fn entered(last: &Step, step: &Step, top: Option<&Frame>, objects: &Objects) -> Option<Frame> {
    let top = top?;
    let goes_on = (1..=LONGEST).contains(&step.instruction.wrapping_sub(last.instruction));
    let called = step.stack.wrapping_add(8) == last.stack && !goes_on;
    // A jump into a library from the end of a function: it returns to where that would have returned to.
    let jumped = !goes_on
        && step.stack <= last.stack
        && objects.find(step.instruction) != objects.find(last.instruction);
    let stack = if called { step.stack } else { top.stack };
    (called || jumped).then_some(Frame {
        entry: step.instruction,
        stack,
        from: Some((top.entry, last.instruction)),
        before: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "5000-6000 r--p 00000000 fe:00 7    /bin/perf\n6000-9000 r-xp 00001000 fe:00 7    /bin/perf\n\
                        9000-a000 rw-p 00000000 00:00 0 \n70000-90000 r-xp 00000000 fe:00 9    /lib/libc.so.6\n\
                        f0000-ff000 rw-p 00000000 00:00 0    [stack]\n";

    fn function(object: &str, name: &str) -> Function {
        Function { object: object.into(), name: name.into() }
    }

    fn profile_of(steps: &[(u64, u64)]) -> Profile {
        let steps: Vec<_> = steps.iter().map(|&(instruction, stack)| Step { instruction, stack }).collect();
        profile(&steps, &Objects::read(MAPS))
    }

    fn own(profile: &Profile, object: &str, name: &str) -> Vec<(u64, u64)> {
        let mut costs = profile.own[&function(object, name)].clone();
        costs.sort_unstable();
        costs
    }

    #[test]
    fn calls_are_seen_by_the_stack() {
        let profile = profile_of(&[
            (0x6000, 0x100),
            (0x6001, 0xf8), // A push.
            (0x6002, 0xf8), // Calls what is behind it,
            (0x7000, 0xf0),
            (0x7001, 0xe0), // which makes room,
            (0x7005, 0xe0), // calls memcpy,
            (0x70010, 0xd8),
            (0x70014, 0xd8), // which repeats itself,
            (0x70014, 0xd8),
            (0x70014, 0xd8),
            (0x70016, 0xd8), // and returns,
            (0x700a, 0xe0),
            (0x700c, 0xf0), // and returns,
            (0x6007, 0xf8), // and goes back for another turn.
            (0x6002, 0xf8),
            (0x7000, 0xf0),
            (0x6007, 0xf8),
        ]);
        assert_eq!(
            own(&profile, "/bin/perf", "0x1000"),
            [(0x1000, 1), (0x1001, 1), (0x1002, 2), (0x1007, 2)]
        );
        assert_eq!(
            own(&profile, "/bin/perf", "0x2000"),
            [(0x2000, 2), (0x2001, 1), (0x2005, 1), (0x200a, 1), (0x200c, 1)]
        );
        assert_eq!(own(&profile, "/lib/libc.so.6", "0x10"), [(0x10, 1), (0x14, 1), (0x16, 1)]);
        let [call] = &profile.calls[&function("/bin/perf", "0x2000")][..] else { panic!("{profile:?}") };
        assert_eq!((call.caller.name.as_str(), call.address, call.instructions), ("0x1000", 0x1002, 9));
        let [call] = &profile.calls[&function("/lib/libc.so.6", "0x10")][..] else { panic!("{profile:?}") };
        assert_eq!((call.caller.name.as_str(), call.address, call.instructions), ("0x2000", 0x2005, 3));
    }

    #[test]
    fn a_jump_into_a_library_is_a_call_and_one_at_home_is_none() {
        let profile = profile_of(&[
            (0x6000, 0x100),
            (0x7000, 0xf8),
            (0x7500, 0xf8), // Elsewhere in the same function, or another: that of the call counts.
            (0x70000, 0xf8), // Ends in memcpy,
            (0x70001, 0xf8), // which returns for it.
            (0x6005, 0x100),
            (0x6006, 0x108), // More returns than calls.
            (0x8000, 0x110),
        ]);
        assert_eq!(
            own(&profile, "/bin/perf", "0x1000"),
            [(0x1000, 1), (0x1005, 1), (0x1006, 1), (0x3000, 1)]
        );
        assert_eq!(own(&profile, "/bin/perf", "0x2000"), [(0x2000, 1), (0x2500, 1)]);
        assert_eq!(own(&profile, "/lib/libc.so.6", "0x0"), [(0, 1), (1, 1)]);
        let [call] = &profile.calls[&function("/lib/libc.so.6", "0x0")][..] else { panic!("{profile:?}") };
        assert_eq!((call.caller.name.as_str(), call.address, call.instructions), ("0x2000", 0x2500, 2));
        let [call] = &profile.calls[&function("/bin/perf", "0x2000")][..] else { panic!("{profile:?}") };
        assert_eq!(call.instructions, 4);
        assert!(profile_of(&[]).own.is_empty());
        // What is in no file has its own address.
        assert_eq!(own(&profile_of(&[(0xf0001, 0)]), "", "0xf0001"), [(0xf0001, 1)]);
    }
}
