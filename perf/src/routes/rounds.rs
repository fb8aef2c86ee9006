//! What a worker sees of control: how long it takes from one look at its queues to the next, as a histogram, and what
//! kept it from its core.

use serde::Serialize;

use super::lab::worker_tasks;

/// Upper ends of the histogram's rows, in microseconds; the last row has no end.
const ENDS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0, 10_000.0];

/// Times between looks at the queues, of all workers together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rounds {
    pub p999_us: f64,
    pub max_us: f64,
    /// How many were no longer than so many microseconds, and longer than those of the row before; the last row has no
    /// end.
    pub histogram: Vec<(Option<f64>, u64)>,
}

/// A histogram as turnpike tells it: nanoseconds, and how many.
pub type Counts = Vec<(u64, u64)>;

impl Rounds {
    /// What was added between two looks at a histogram.
    pub fn between(before: &Counts, after: &Counts) -> Self {
        let had = |time: u64| before.iter().find(|(at, _)| *at == time).map_or(0, |(_, count)| *count);
        let added: Counts = after
            .iter()
            .map(|(time, count)| (*time, count.saturating_sub(had(*time))))
            .filter(|(_, n)| *n > 0)
            .collect();
        let total: u64 = added.iter().map(|(_, count)| count).sum();
        let mut left = (total as f64 * 0.999).ceil() as u64;
        let mut rounds = Self { histogram: ends().map(|end| (end, 0)).collect(), ..Self::default() };
        for (time, count) in added {
            let us = time as f64 / 1e3;
            if left > 0 && count >= left {
                rounds.p999_us = us;
            }
            left = left.saturating_sub(count);
            rounds.max_us = us;
            let fits = |end: &Option<f64>| end.is_none_or(|end| us <= end);
            if let Some((_, n)) = rounds.histogram.iter_mut().find(|(end, _)| fits(end)) {
                *n += count;
            }
        }
        rounds
    }

    /// Rows for people, of several trials side by side.
    pub fn table(trials: &[(&str, &Self)]) -> String {
        let mut text = format!("{:>24}", "time between polls");
        let row = |text: &mut String, name: &str, cell: &dyn Fn(&Self) -> String| {
            *text += &format!("\n{name:>24}");
            for (_, rounds) in trials {
                *text += &format!(" {:>14}", cell(rounds));
            }
        };
        for (name, _) in trials {
            text += &format!(" {name:>14}");
        }
        for (i, end) in ends().enumerate() {
            let name = end.map_or_else(|| "longer".to_owned(), |end| format!("up to {end:.0} us"));
            row(&mut text, &name, &|rounds| rounds.histogram.get(i).map_or(0, |(_, n)| *n).to_string());
        }
        row(&mut text, "99.9 % up to", &|rounds| format!("{:.1} us", rounds.p999_us));
        row(&mut text, "longest", &|rounds| format!("{:.1} us", rounds.max_us));
        text
    }
}

fn ends() -> impl Iterator<Item = Option<f64>> {
    ENDS.into_iter().map(Some).chain([None])
}

/// What kept workers from their cores, since they were started.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Kept {
    /// Milliseconds for which a worker was ready to run, and another thread had its core.
    pub waited_ms: f64,
    /// How often that happened.
    pub switches: u64,
    /// Milliseconds that the hypervisor gave to others, of all cores.
    pub stolen_ms: f64,
}

impl Kept {
    /// Reads it for the workers of these processes.
    pub fn read(pids: &[u32]) -> Self {
        let mut kept = Self::default();
        for (task, _) in worker_tasks(pids) {
            let read = |file: &str| std::fs::read_to_string(task.join(file)).unwrap_or_default();
            // Time on a core, time waited for one, and how often it got one.
            let waited = read("schedstat").split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok());
            kept.waited_ms += waited.unwrap_or(0.0) / 1e6;
            let status = read("status");
            let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
            kept.switches += line.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        // user, nice, system, idle, iowait, irq, softirq, steal: in hundredths of a second.
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let stolen = stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse::<f64>().ok());
        kept.stolen_ms = stolen.unwrap_or(0.0) * 10.0;
        kept
    }

    /// What was added since.
    pub fn since(self, before: Self) -> Self {
        Self {
            waited_ms: self.waited_ms - before.waited_ms,
            switches: self.switches - before.switches,
            stolen_ms: self.stolen_ms - before.stolen_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_in_its_row() {
        let before = vec![(500, 10), (3000, 1)];
        let after = vec![(500, 9_990), (900, 10), (3000, 10), (20_000_000, 1)];
        let rounds = Rounds::between(&before, &after);
        let some: Vec<_> = rounds.histogram.iter().copied().filter(|(_, n)| *n > 0).collect();
        assert_eq!(some, [(Some(1.0), 9_990), (Some(5.0), 9), (None, 1)]);
        assert_eq!((rounds.p999_us, rounds.max_us), (0.9, 20_000.0));
        let text = Rounds::table(&[("quiet", &rounds), ("changing", &rounds)]);
        assert!(text.contains("up to 1 us           9990           9990"), "{text}");
        assert!(text.ends_with("longest     20000.0 us     20000.0 us"), "{text}");
    }
}
