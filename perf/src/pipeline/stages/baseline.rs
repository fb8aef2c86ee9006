//! The instructions that each stage took when the baseline was made, and what is more than that now. Counts depend on the
//! compiler, so each version of it has its own.

use std::collections::BTreeMap;
use std::path::Path;

use super::PARTS;

/// Instructions a packet, by case and part.
pub type Counts = BTreeMap<String, BTreeMap<String, f64>>;

/// What may come on top before it is a regression.
const TOLERANCE: f64 = 0.02;
/// A stage that grows by less than this, in instructions a packet, has not changed.
const LEAST: f64 = 0.25;
/// All parts together.
pub const ALL: &str = "all";

/// The compiler and the instructions that the worker uses; what counts can be compared between.
pub fn key(level: &str) -> String {
    format!("{}, {} {level}", env!("PERF_RUSTC"), std::env::consts::ARCH)
}

/// Baselines by [`key`].
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Baselines(BTreeMap<String, Counts>);

impl Baselines {
    /// Those in a file; none if there is no file.
    pub fn load(file: &Path) -> Result<Self, String> {
        match std::fs::read_to_string(file) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", file.display())),
        }
    }

    /// The counts of a compiler.
    pub fn get(&self, key: &str) -> Option<&Counts> {
        self.0.get(key)
    }

    /// The compilers that there are counts of.
    pub fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Replaces a compiler's counts of these cases, and writes the file.
    pub fn renew(&mut self, key: String, counts: Counts, file: &Path) -> Result<(), String> {
        self.0.entry(key).or_default().extend(counts);
        let failed = |error| format!("{}: {error}", file.display());
        let mut text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        text.push('\n');
        std::fs::write(file, text).map_err(failed)
    }
}

/// A case's counts as they are kept: to hundredths, ports left out, with the sum.
pub fn rounded(counted: &[f64; PARTS.len()]) -> BTreeMap<String, f64> {
    let hundredths = |count: f64| (count * 100.0).round() / 100.0;
    let own = || PARTS.iter().zip(counted).filter(|(part, _)| !part.starts_with("ports"));
    let all = own().map(|(_, count)| count).sum();
    let mut parts: BTreeMap<_, _> =
        own().map(|(part, count)| ((*part).to_owned(), hundredths(*count))).collect();
    parts.insert(ALL.to_owned(), hundredths(all));
    parts
}

/// What takes more than the baseline allows, a line each: a whole case, or a stage of a case that has not got cheaper in
/// all. Work that only moved between stages, and saved something, is none.
pub fn regressions(now: &Counts, baseline: &Counts) -> Vec<String> {
    let mut lines = Vec::new();
    for (case, parts) in now {
        let Some(before) = baseline.get(case) else {
            lines.push(format!("{case}: this case is not in the baseline"));
            continue;
        };
        let of = |counts: &BTreeMap<String, f64>, part: &str| counts.get(part).copied().unwrap_or(0.0);
        let cheaper = of(parts, ALL) < of(before, ALL);
        for (part, count) in parts {
            let was = of(before, part);
            let more = count - was;
            let grown = more > was * TOLERANCE && (more >= LEAST || part == ALL);
            if grown && !cheaper {
                let what = if part == ALL { "all stages take" } else { part };
                let takes = if part == ALL { "" } else { " takes" };
                lines.push(format!(
                    "{case}: {what}{takes} {count:.2} instructions a packet, {was:.2} in the baseline: {}",
                    if was > 0.0 { format!("{:.1} % more", more / was * 100.0) } else { "new".into() }
                ));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(parse: f64, lookup: f64) -> Counts {
        let parts = [("parse", parse), ("lookup", lookup), (ALL, parse + lookup)];
        [("mix".to_owned(), parts.map(|(name, count)| (name.to_owned(), count)).into())].into()
    }

    #[test]
    fn more_than_two_percent_is_a_regression() {
        let before = counts(50.0, 10.0);
        assert_eq!(regressions(&counts(50.9, 10.2), &before), Vec::<String>::new());
        let lines = regressions(&counts(50.0, 10.5), &before);
        assert_eq!(
            lines,
            ["mix: lookup takes 10.50 instructions a packet, 10.00 in the baseline: 5.0 % more"]
        );
        let lines = regressions(&counts(60.0, 10.0), &before);
        assert_eq!(
            lines[0],
            "mix: all stages take 70.00 instructions a packet, 60.00 in the baseline: 16.7 % more"
        );
        assert_eq!(lines.len(), 2);
        // Moved to where it costs less in all.
        assert!(regressions(&counts(40.0, 15.0), &before).is_empty());
        assert_eq!(regressions(&counts(1.0, 1.0), &Counts::new()), ["mix: this case is not in the baseline"]);
    }

    #[test]
    fn a_renewed_baseline_is_what_is_read() {
        let file = tempfile::tempdir().unwrap();
        let file = file.path().join("b.json");
        let mut all = Baselines::load(&file).unwrap();
        assert!(all.get("a").is_none());
        all.renew("a".into(), counts(1.0, 2.0), &file).unwrap();
        all.renew("b".into(), counts(3.0, 4.0), &file).unwrap();
        let read = Baselines::load(&file).unwrap();
        assert_eq!(read.get("a"), Some(&counts(1.0, 2.0)));
        assert_eq!(read.keys(), ["a", "b"]);
        std::fs::write(&file, "{").unwrap();
        assert!(Baselines::load(&file).unwrap_err().contains("b.json"));
    }

    #[test]
    fn ports_in_memory_are_left_out() {
        let parts = rounded(&[100.0, 1.0, 2.004, 3.0, 4.0, 5.0, 6.0, 100.0]);
        assert_eq!((parts[ALL], parts["parse"], parts.len()), (21.0, 2.0, 7));
    }
}
