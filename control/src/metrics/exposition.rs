//! Prometheus' text format, version 0.0.4: families of samples with their help and type.

use std::fmt::Write as _;

/// What a response with such text says of it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only goes up, but for a restart.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts of values up to each of some bounds.
    Histogram,
}

impl Kind {
    /// Its name in the text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Labels of a sample, as they stand between its braces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// One label.
    pub fn of(name: &str, value: &str) -> Self {
        Self::default().and(name, value)
    }

    /// One more label. An empty value is the same as no label, and left out.
    pub fn and(mut self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            return self;
        }
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        escape(&mut self.0, value, true);
        self.0.push('"');
        self
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// The text, while it is written.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a family. All its samples follow, and no other family has the name.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.0.push_str("# HELP ");
        self.0.push_str(name);
        self.0.push(' ');
        escape(&mut self.0, help, false);
        // Writing to a string does not fail.
        let _ = write!(self.0, "\n# TYPE {name} {}\n", kind.name());
    }

    /// A sample of the family: by its name, or for a histogram with what its parts have at the end.
    pub fn sample(&mut self, name: &str, labels: &Labels, value: f64) {
        self.0.push_str(name);
        if !labels.0.is_empty() {
            self.0.push('{');
            self.0.push_str(&labels.0);
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_as_the_format_has_it() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "back\\slash, \"quotes\",\nand a line");
        text.sample("a_total", &Labels::default(), 3.0);
        let odd = Labels::of("port", "a\"b\\c\nd").and("none", "").and("vrf", "größe");
        text.sample("a_total", &odd, 1e15);
        text.family("b_seconds", Kind::Gauge, "x");
        text.sample("b_seconds", &Labels::of("core", "1"), 0.000_001);
        let wanted = "# HELP a_total back\\\\slash, \"quotes\",\\nand a line\n# TYPE a_total counter\na_total 3\n\
                      a_total{port=\"a\\\"b\\\\c\\nd\",vrf=\"größe\"} 1000000000000000\n\
                      # HELP b_seconds x\n# TYPE b_seconds gauge\nb_seconds{core=\"1\"} 0.000001\n";
        assert_eq!(text.finish(), wanted);
    }
}
