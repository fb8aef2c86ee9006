//! The figures, as a table for people or one JSON object a row.

use serde_json::json;

use super::case::Case;

/// The same figure of several rounds.
#[derive(Default)]
pub struct Series(Vec<f64>);

impl Series {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The median; `None` without any round.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        Some(if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[middle - 1], upper) } else { upper })
    }

    /// What the highest tenth begins with: of rates, the one that neighbours on the machine have disturbed least.
    fn fastest(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        sorted.get(last - last / 10).copied()
    }

    /// [`Self::fastest`] of both, one against the other.
    fn at_best(&self, other: &Self) -> Option<f64> {
        Some(self.fastest()? / other.fastest()?)
    }

    /// How far the extremes lie apart, in relation to the median; `None` unless there were several rounds.
    fn spread(&self) -> Option<f64> {
        let most = self.0.iter().copied().fold(f64::MIN, f64::max);
        let least = self.0.iter().copied().fold(f64::MAX, f64::min);
        self.median().filter(|_| self.0.len() > 1).map(|median| (most - least) / median)
    }

    /// The wider spread of the two.
    fn wider_spread(&self, other: &Self) -> Option<f64> {
        self.spread().into_iter().chain(other.spread()).reduce(f64::max)
    }
}

/// One case on so many cores.
pub struct Row {
    pub case: Case,
    pub cores: usize,
    pub mpps: Series,
    pub cycles: Series,
    pub peer_mpps: Series,
}

impl Row {
    fn title(&self) -> String {
        match self.cores {
            1 => self.case.title().to_owned(),
            cores => format!("{}, {cores} cores", self.case.title()),
        }
    }

    /// Of each round, so that what the machine does meanwhile meets both sides; then the median.
    fn ratio(&self) -> Option<f64> {
        let mut ratios = Series::default();
        self.mpps.0.iter().zip(&self.peer_mpps.0).for_each(|(ours, peer)| ratios.push(ours / peer));
        ratios.median()
    }
}

pub struct Report {
    json: bool,
    rows: Vec<Row>,
}

/// The peer of most rows.
pub const PEER: &str = "testpmd io";

impl Report {
    /// `peer`: what ours is held against.
    pub fn new(json: bool, peer: &str) -> Self {
        if !json {
            println!(
                "{:52} {:>8} {:>12} {:>7} {:>7} {:>7} {:>8}",
                "case", "Mpps", peer, "ratio", "at best", "spread", "cycles"
            );
        }
        Self { json, rows: Vec::new() }
    }

    pub fn note(&self, note: &str) {
        if self.json {
            println!("{}", json!({ "note": note }));
        } else {
            println!("note: {note}");
        }
    }

    pub fn row(&mut self, row: Row) {
        let (mpps, peer, ratio) =
            (row.mpps.median().unwrap_or_default(), row.peer_mpps.median(), row.ratio());
        let ratios = [ratio, row.mpps.at_best(&row.peer_mpps)];
        let spread = row.mpps.wider_spread(&row.peer_mpps);
        let cycles = row.cycles.median();
        self.print(&row.title(), mpps, PEER, peer, ratios, spread, cycles);
        self.rows.push(row);
    }

    /// A row of ours against another of ours, round by round.
    pub fn against(&self, title: &str, mpps: &Series, cycles: &Series, other_name: &str, other: &Series) {
        let mut ratios = Series::default();
        mpps.0.iter().zip(&other.0).for_each(|(one, other)| ratios.push(one / other));
        let spread = mpps.wider_spread(other);
        let (median, ratios) = (mpps.median().unwrap_or_default(), [ratios.median(), mpps.at_best(other)]);
        self.print(title, median, other_name, other.median(), ratios, spread, cycles.median());
    }

    #[allow(clippy::too_many_arguments)] // The columns of a row.
    fn print(
        &self,
        case: &str,
        mpps: f64,
        peer_name: &str,
        peer: Option<f64>,
        [ratio, at_best]: [Option<f64>; 2],
        spread: Option<f64>,
        cycles: Option<f64>,
    ) {
        if self.json {
            println!(
                "{}",
                json!({ "case": case, "mpps": mpps, "peer": peer.map(|_| peer_name), "peer_mpps": peer,
                    "ratio": ratio, "ratio_at_best": at_best, "spread": spread, "cycles_per_packet": cycles })
            );
            return;
        }
        let number = |value: Option<f64>, digits| value.map_or("-".into(), |v| format!("{v:.digits$}"));
        println!(
            "{case:52} {mpps:>8.2} {:>12} {:>7} {:>7} {:>7} {:>8}",
            number(peer, 2),
            number(ratio, 3),
            number(at_best, 3),
            spread.map_or("-".into(), |spread| format!("{:.1}%", spread * 100.0)),
            number(cycles, 1)
        );
    }

    /// What rows say in relation to each other.
    pub fn finish(&self) {
        let find = |case: Case, cores| self.rows.iter().find(|row| row.case == case && row.cores == cores);
        let median = |row: &Row| row.mpps.median();
        if let (Some(full), Some(wide)) = (find(Case::TaggedFull, 1), find(Case::TaggedWide, 1))
            && let (Some(ours), Some(other)) = (median(full), median(wide))
        {
            let spread = full.mpps.wider_spread(&wide.mpps);
            let peer = "turnpike, 10 k routes";
            let title = "1 M routes against 10 k, same capture";
            let ratios = [Some(ours / other), full.mpps.at_best(&wide.mpps)];
            self.print(title, ours, peer, Some(other), ratios, spread, None);
        }
        for row in self.rows.iter().filter(|row| row.cores > 1) {
            let Some(one) = find(row.case, 1) else { continue };
            let (Some(two_cores), Some(one_core)) = (median(row), median(one)) else { continue };
            let spread = row.mpps.wider_spread(&one.mpps);
            let title = format!("{} cores against one: {}", row.cores, row.case.name());
            self.print(
                &title,
                two_cores,
                "turnpike, 1 core",
                Some(one_core),
                [Some(two_cores / one_core), row.mpps.at_best(&one.mpps)],
                spread,
                None,
            );
            if let (Some(two_cores), Some(one_core)) = (row.peer_mpps.median(), one.peer_mpps.median()) {
                let title = format!("{} cores against one: testpmd io", row.cores);
                let ratios = [Some(two_cores / one_core), row.peer_mpps.at_best(&one.peer_mpps)];
                self.print(&title, two_cores, "testpmd io, 1 core", Some(one_core), ratios, spread, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_tenth_begins_behind_the_others() {
        let of = |count: u32| Series((0..count).rev().map(f64::from).collect()).fastest();
        assert_eq!(
            [0, 1, 3, 10, 11, 40].map(of),
            [None, Some(0.0), Some(2.0), Some(9.0), Some(9.0), Some(36.0)]
        );
        let series = |rates: &[f64]| Series(rates.to_vec());
        assert_eq!(series(&[30.0, 20.0]).at_best(&series(&[50.0, 60.0])), Some(0.5));
        assert_eq!(series(&[30.0]).at_best(&series(&[])), None);
    }

    #[test]
    fn one_round_has_no_spread() {
        let [none, one, two, three] =
            [&[][..], &[40.0], &[38.0, 42.0], &[30.0, 45.0, 40.0]].map(|rounds| Series(rounds.to_vec()));
        assert_eq!([&none, &one, &two, &three].map(Series::spread), [None, None, Some(0.1), Some(0.375)]);
        assert_eq!((one.wider_spread(&none), one.wider_spread(&one)), (None, None));
        assert_eq!((two.wider_spread(&three), three.wider_spread(&none)), (Some(0.375), Some(0.375)));
    }
}
