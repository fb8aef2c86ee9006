//! The results of earlier runs, read from files of one JSON object a line, whichever program part wrote them.

use serde_json::Value;

/// Rows, sorted by what they tell of.
#[derive(Debug, Default)]
pub struct Data {
    /// Look-up rates of `perf lpm`.
    pub lpm: Vec<Value>,
    /// Rates of `perf pipeline`.
    pub pipeline: Vec<Value>,
    /// Costs by stage.
    pub stages: Vec<Value>,
    /// `perf rfc2544`, by test.
    pub rfc2544: Vec<Value>,
    /// `perf routes`.
    pub routes: Vec<Value>,
    /// What the programs remarked.
    pub notes: Vec<String>,
    /// Names of files whose run was ended early.
    pub partial: Vec<String>,
}

impl Data {
    /// Adds what a file holds; `name` is for messages.
    ///
    /// # Errors
    /// A line that is no JSON object.
    pub fn read(&mut self, name: &str, text: &str) -> Result<(), String> {
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let row: Value = serde_json::from_str(line)
                .map_err(|error| format!("{name}, line {}: no JSON: {error}", number + 1))?;
            if !row.is_object() {
                return Err(format!(
                    "{name}, line {}: each line must be a JSON object, as `--json` prints",
                    number + 1
                ));
            }
            self.sort(name, row);
        }
        Ok(())
    }

    fn sort(&mut self, name: &str, row: Value) {
        let has = |key: &str| row.get(key).is_some_and(|value| !value.is_null());
        if let Some(note) = row["note"].as_str() {
            self.notes.push(note.to_owned());
        } else if row["benchmark"] == "rfc2544" {
            if row["test"] == "end" {
                if row["partial"] == true {
                    self.partial.push(name.to_owned());
                }
            } else {
                self.rfc2544.push(row);
            }
        } else if row["benchmark"] == "routes" {
            self.routes.push(row);
        } else if has("stage") {
            self.stages.push(row);
        } else if has("case") && has("mpps") {
            self.pipeline.push(row);
        } else if has("table") && has("mlps") {
            self.lpm.push(row);
        }
        // Others (loading times, updates) are not in the report.
    }

    /// Rows of one of `perf rfc2544`'s tests.
    pub fn test<'a>(&'a self, test: &'a str) -> impl Iterator<Item = &'a Value> + Clone {
        self.rfc2544.iter().filter(move |row| row["test"] == test)
    }
}

/// A number of a row, if it has it.
pub fn number(row: &Value, key: &str) -> Option<f64> {
    row.get(key).and_then(Value::as_f64)
}

/// A text of a row, numbers included.
pub fn text(row: &Value, key: &str) -> String {
    match &row[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The different texts of a key, in the order in which they come.
pub fn distinct<'a>(rows: impl IntoIterator<Item = &'a Value>, key: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for row in rows {
        let value = text(row, key);
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_apart_and_unknown_ones_tolerated() {
        let mut data = Data::default();
        let text = r#"{"note":"no peer"}
{"table":"turnpike","family":"ipv4","routes":4000,"load_s":0.1}
{"table":"turnpike","family":"ipv4","routes":4000,"workload":"random","in_situ_mb":0,"mlps":500.0,"spread":0.1}

{"case":"untagged","mpps":40.0,"peer":null,"peer_mpps":null,"ratio":null,"spread":0.0}
{"case":"untagged","stage":"lookup","cycles":9.5}
{"benchmark":"rfc2544","test":"throughput","frame":64}
{"benchmark":"rfc2544","test":"end","partial":true}
{"benchmark":"routes","lost":0}
{"something":"else"}"#;
        data.read("a.json", text).unwrap();
        let counts =
            [data.lpm.len(), data.pipeline.len(), data.stages.len(), data.rfc2544.len(), data.routes.len()];
        assert_eq!(counts, [1; 5]);
        assert_eq!((data.notes.len(), data.partial), (1, vec!["a.json".to_owned()]));
    }

    #[test]
    fn what_is_no_json_is_named() {
        let error = Data::default().read("b.json", "{}\nfoo").unwrap_err();
        assert!(error.starts_with("b.json, line 2"), "{error}");
        let error = Data::default().read("b.json", "[1]").unwrap_err();
        assert!(error.contains("line 1"), "{error}");
    }
}
