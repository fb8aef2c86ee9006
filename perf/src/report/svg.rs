//! Plots as inline SVG: lines over categories, and bars. They take their colours from the page's style, so that print
//! has its own.

use std::fmt::Write as _;

/// Text made safe for HTML and SVG, attributes included.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // What XML has no place for.
            c if c.is_control() && c != '\n' && c != '\t' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// A line in a plot: a value for each category, where there is one.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// The values.
    pub values: Vec<Option<f64>>,
}

/// A horizontal line across a plot.
#[derive(Clone, Debug)]
pub struct Mark {
    /// What it means.
    pub name: String,
    /// Where.
    pub value: f64,
}

/// Lines over categories, with a logarithmic axis.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    /// What it shows, for those who do not see it.
    pub title: &'a str,
    /// Unit of the axis.
    pub unit: &'a str,
    /// What the categories are.
    pub across: &'a str,
    /// The categories.
    pub categories: Vec<String>,
    /// The lines.
    pub series: Vec<Series>,
    /// Lines to measure by.
    pub marks: Vec<Mark>,
}

const WIDTH: f64 = 720.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 28.0;
const PLOT: f64 = 260.0;

impl Lines<'_> {
    /// Least and greatest power-of-ten-like bounds around all values.
    fn bounds(&self) -> Option<(f64, f64)> {
        let values = self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let all: Vec<f64> = values
            .chain(self.marks.iter().map(|mark| mark.value))
            .filter(|v| *v > 0.0 && v.is_finite())
            .collect();
        let (low, high) = all.iter().fold((f64::MAX, 0.0_f64), |(low, high), v| (low.min(*v), high.max(*v)));
        (high > 0.0).then(|| (step_below(low), step_above(high)))
    }

    /// The picture, or nothing when there is no value.
    pub fn draw(&self) -> String {
        let Some((low, high)) = self.bounds() else { return String::new() };
        let bottom = TOP + PLOT;
        let y = |value: f64| bottom - (value.max(low) / low).log10() / (high / low).log10() * PLOT;
        let span = WIDTH - LEFT - RIGHT;
        let x = |i: usize| LEFT + span * (i as f64 + 0.5) / self.categories.len().max(1) as f64;
        let mut svg = open(self.title, bottom + 44.0);
        for tick in ticks(low, high) {
            let at = y(tick);
            line(&mut svg, "grid", (LEFT, at), (WIDTH - RIGHT, at));
            label(&mut svg, "end", (LEFT - 6.0, at + 4.0), &short(tick));
        }
        label(&mut svg, "start", (4.0, TOP - 16.0), self.unit);
        for (i, name) in self.categories.iter().enumerate() {
            label(&mut svg, "middle", (x(i), bottom + 16.0), name);
        }
        label(&mut svg, "middle", (LEFT + span / 2.0, bottom + 34.0), self.across);
        // Marks have their names at the right end of their lines, series below each other in a legend where there is room.
        for mark in &self.marks {
            let at = y(mark.value);
            line(&mut svg, "mark", (LEFT, at), (WIDTH - RIGHT, at));
            label(&mut svg, "start", (WIDTH - RIGHT + 6.0, at + 4.0), &mark.name);
        }
        let legend = if self.marks.is_empty() { TOP + 12.0 } else { self.legend_below(y, low) };
        for (n, series) in self.series.iter().enumerate() {
            let class = format!("s{}", n % 6);
            let points: Vec<(f64, f64)> = series
                .values
                .iter()
                .enumerate()
                .filter_map(|(i, value)| value.filter(|v| *v > 0.0).map(|v| (x(i), y(v))))
                .collect();
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = write!(svg, "<polyline class=\"line {class}\" points=\"{}\"/>", path.join(" "));
            for (x, y) in points {
                dot(&mut svg, &class, n, x, y);
            }
            let at = legend + 18.0 * n as f64;
            dot(&mut svg, &class, n, WIDTH - RIGHT + 14.0, at - 4.0);
            label(&mut svg, "start", (WIDTH - RIGHT + 24.0, at), &series.name);
        }
        svg + "</svg>"
    }

    /// Where the legend starts: under the lowest mark, or at the plot's foot.
    fn legend_below(&self, y: impl Fn(f64) -> f64, low: f64) -> f64 {
        let lowest = self.marks.iter().map(|mark| mark.value).fold(f64::MAX, f64::min).max(low);
        let room = TOP + PLOT - 18.0 * self.series.len() as f64;
        (y(lowest) + 28.0).min(room + 12.0)
    }
}

/// A bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// How long.
    pub value: f64,
    /// What is written at its end.
    pub note: String,
    /// Which colour.
    pub colour: usize,
}

/// Horizontal bars from zero, with an upright line at `mark`, if there is one.
pub fn bars(title: &str, unit: &str, bars: &[Bar], mark: Option<Mark>) -> String {
    const NAMES: f64 = 330.0;
    const NOTES: f64 = 110.0;
    const ROW: f64 = 24.0;
    // A figure's or letter's width in bars' notes, at most.
    const LETTER: f64 = 7.5;
    let longest =
        bars.iter().map(|bar| bar.value).chain(mark.iter().map(|mark| mark.value)).fold(0.0, f64::max);
    if bars.is_empty() || longest <= 0.0 || !longest.is_finite() {
        return String::new();
    }
    let span = WIDTH - NAMES - NOTES;
    let x = |value: f64| NAMES + value.max(0.0) / longest * span;
    let foot = TOP + ROW * bars.len() as f64;
    let mut svg = open(title, foot + 24.0);
    for (i, bar) in bars.iter().enumerate() {
        let top = TOP + ROW * i as f64;
        label(&mut svg, "end", (NAMES - 8.0, top + 15.0), &bar.name);
        let _ = write!(
            svg,
            "<rect class=\"f{}\" x=\"{NAMES:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            bar.colour % 6,
            top + 3.0,
            x(bar.value) - NAMES,
            ROW - 7.0
        );
        // A note that would stand on the mark's line stands behind it.
        let (end, room) = (x(bar.value), 12.0 + LETTER * bar.note.chars().count() as f64);
        let at = mark.as_ref().map(|mark| x(mark.value)).filter(|at| (end..end + room).contains(at));
        label(&mut svg, "start", (at.unwrap_or(end) + 6.0, top + 15.0), &bar.note);
    }
    if let Some(mark) = mark {
        let at = x(mark.value);
        line(&mut svg, "mark", (at, TOP), (at, foot));
        label(&mut svg, "middle", (at, foot + 15.0), &mark.name);
    }
    label(&mut svg, "end", (NAMES - 8.0, foot + 15.0), unit);
    svg + "</svg>"
}

/// Horizontal bars, each of several parts in a row; the sum stands at the end. `names`: those of the parts.
pub fn stacked(title: &str, unit: &str, rows: &[(String, Vec<f64>)], names: &[&str]) -> String {
    const LABELS: f64 = 330.0;
    const SUMS: f64 = 60.0;
    const ROW: f64 = 30.0;
    const LEGEND: usize = 3;
    let sum = |parts: &[f64]| parts.iter().sum::<f64>();
    let longest = rows.iter().map(|(_, parts)| sum(parts)).fold(0.0, f64::max);
    if longest <= 0.0 || !longest.is_finite() {
        return String::new();
    }
    let foot = TOP + ROW * rows.len() as f64;
    let mut svg = open(title, foot + 20.0 + 18.0 * names.len().div_ceil(LEGEND) as f64);
    for (i, (name, parts)) in rows.iter().enumerate() {
        let top = TOP + ROW * i as f64;
        label(&mut svg, "end", (LABELS - 8.0, top + 18.0), name);
        let mut x = LABELS;
        for (colour, part) in parts.iter().enumerate() {
            let width = part.max(0.0) / longest * (WIDTH - LABELS - SUMS);
            let _ = write!(
                svg,
                "<rect class=\"part f{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
                colour % 6,
                top + 3.0,
                ROW - 8.0
            );
            if width > 22.0 {
                let _ = write!(
                    svg,
                    "<text class=\"inside\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{part:.0}</text>",
                    x + width / 2.0,
                    top + 18.0
                );
            }
            x += width;
        }
        label(&mut svg, "start", (x + 6.0, top + 18.0), &short(sum(parts)));
    }
    label(&mut svg, "start", (LABELS, TOP - 8.0), unit);
    for (n, name) in names.iter().enumerate() {
        let (x, y) = (160.0 + 190.0 * (n % LEGEND) as f64, foot + 10.0 + 18.0 * (n / LEGEND) as f64);
        let _ =
            write!(svg, "<rect class=\"f{}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"10\" height=\"10\"/>", n % 6);
        label(&mut svg, "start", (x + 14.0, y + 9.0), name);
    }
    svg + "</svg>"
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>",
        escape(title)
    )
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = write!(
        svg,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn label(svg: &mut String, anchor: &str, at: (f64, f64), text: &str) {
    let text = escape(text);
    let _ = write!(svg, "<text text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>", at.0, at.1);
}

/// A point whose shape tells its series too, for those who do not see colours, and for print.
fn dot(svg: &mut String, class: &str, series: usize, x: f64, y: f64) {
    let _ = match series % 3 {
        0 => write!(svg, "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"),
        1 => write!(
            svg,
            "<rect class=\"dot {class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"/>",
            x - 3.5,
            y - 3.5
        ),
        _ => write!(
            svg,
            "<polygon class=\"dot {class}\" points=\"{x:.1},{:.1} {:.1},{:.1} {:.1},{:.1}\"/>",
            y - 5.0,
            x - 4.5,
            y + 3.5,
            x + 4.5,
            y + 3.5
        ),
    };
}

/// 1, 2 or 5 times a power of ten, at most `value`.
fn step_below(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step <= value * 1.000_001)
        .unwrap_or(power)
}

/// 1, 2 or 5 times a power of ten, at least `value`.
fn step_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= value)
        .unwrap_or(power * 10.0)
}

/// All of 1, 2 and 5 times powers of ten between two bounds; powers of ten only when those are many.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let mut all = Vec::new();
    let many = (high / low).log10() > 4.0;
    let mut at = low;
    while at <= high * 1.000_001 && all.len() < 64 {
        let leading = at / 10_f64.powf((at * 1.000_001).log10().floor());
        if !many || leading < 1.5 {
            all.push(at);
        }
        at *= if (1.5..3.0).contains(&leading) { 2.5 } else { 2.0 };
    }
    all
}

/// A number with no more digits than it needs.
pub fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1000.0 {
        let whole = format!("{value:.0}");
        let split = whole.len() - 3;
        return format!("{},{}", &whole[..split], &whole[split..]);
    }
    let text = if magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes() {
        assert_eq!(escape("<b a=\"1\" c='2'>&\u{7}"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;\u{fffd}");
    }

    #[test]
    fn axes_have_round_ends() {
        assert_eq!((step_below(3.3), step_above(3.3)), (2.0, 5.0));
        assert_eq!((step_below(100.0), step_above(100.0)), (100.0, 100.0));
        assert_eq!((step_below(0.07), step_above(99.0)), (0.05, 100.0));
        assert_eq!(
            ticks(2.0, 100.0).iter().map(|t| short(*t)).collect::<Vec<_>>(),
            ["2", "5", "10", "20", "50", "100"]
        );
    }

    #[test]
    fn numbers_are_short() {
        let all: Vec<_> = [0.5, 1.0, 9.876, 14.88, 148.81, 1234.5, 12_345.0].map(short).into();
        assert_eq!(all, ["0.5", "1", "9.88", "14.9", "149", "1,234", "12,345"]);
    }

    #[test]
    fn nothing_to_draw_is_nothing() {
        let empty = Lines {
            title: "",
            unit: "",
            across: "",
            categories: vec!["64".into()],
            series: vec![],
            marks: vec![],
        };
        assert_eq!(empty.draw(), "");
        assert_eq!(bars("t", "u", &[], None), "");
        let none = Series { name: "s".into(), values: vec![None, Some(0.0), Some(f64::NAN)] };
        assert_eq!(Lines { series: vec![none], ..empty }.draw(), "");
    }
}
