//! Reads one TOML table key by key. What is asked for is what is known: keys that nobody asked for are errors.

use toml_span::Value;
use toml_span::value::Table;

use super::errors::{At, Place, Report};
use super::suggest::hint;

/// One table that is being read.
pub(super) struct Section<'v, 'r, 't> {
    name: &'static str,
    offset: usize,
    table: Option<&'v Table<'v>>,
    asked: Vec<&'static str>,
    /// Where errors go.
    pub report: &'r mut Report<'t>,
}

/// Reads the table `value` as section `name`, then reports the keys that `read` did not ask for. A section that
/// is absent is read as an empty one.
pub(super) fn read<'v, 't, T>(
    name: &'static str,
    value: Option<&'v Value<'v>>,
    report: &mut Report<'t>,
    read: impl FnOnce(&mut Section<'v, '_, 't>) -> T,
) -> T {
    let mut section = Section {
        name,
        offset: value.map_or(0, |v| v.span.start),
        table: value.and_then(Value::as_table),
        asked: Vec::new(),
        report,
    };
    let result = read(&mut section);
    section.report_unknown_keys();
    result
}

impl<'v> Section<'v, '_, '_> {
    fn get(&mut self, key: &'static str) -> Option<&'v Value<'v>> {
        self.asked.push(key);
        self.report.knows(self.name, key);
        self.table.and_then(|t| t.get(key))
    }

    /// Whether the key is there, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    /// Whether the key is absent or an empty list.
    pub fn is_absent_or_empty(&self, key: &str) -> bool {
        let value = self.table.and_then(|t| t.get(key));
        value.is_none_or(|v| v.as_array().is_some_and(Vec::is_empty))
    }

    /// The place of `key`'s value, or of the section when it is absent.
    pub fn place(&self, key: &'static str) -> Place {
        let offset = self.table.and_then(|t| t.get(key)).map_or(self.offset, |v| v.span.start);
        Place { offset, section: self.name, key }
    }

    /// The place of the section itself.
    pub fn here(&self) -> Place {
        Place { offset: self.offset, section: self.name, key: "" }
    }

    /// Records an error at `key`.
    pub fn error(&mut self, key: &'static str, message: impl Into<String>) {
        let place = self.place(key);
        self.report.error(place, message);
    }

    /// The value of `key` by `convert`; `None` when it is absent or wrong (then with an error).
    pub fn opt<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(&'v Value<'v>) -> Result<T, String>,
    ) -> Option<At<T>> {
        let value = self.get(key)?;
        match convert(value) {
            Ok(value) => Some(At { value, place: self.place(key) }),
            Err(message) => {
                self.error(key, message);
                None
            }
        }
    }

    /// As [`Self::opt`], but its absence is an error that shows `example`.
    pub fn need<T>(
        &mut self,
        key: &'static str,
        example: &str,
        convert: impl FnOnce(&'v Value<'v>) -> Result<T, String>,
    ) -> Option<At<T>> {
        if !self.has(key) {
            self.error(key, format!("missing; add for example {key} = {example}"));
        }
        self.opt(key, convert)
    }

    /// As [`Self::opt`], with `default` when it is absent; still `None` when it is wrong.
    pub fn opt_or<T>(
        &mut self,
        key: &'static str,
        default: T,
        convert: impl FnOnce(&'v Value<'v>) -> Result<T, String>,
    ) -> Option<At<T>> {
        let found = self.opt(key, convert);
        if self.has(key) { found } else { Some(At { value: default, place: self.place(key) }) }
    }

    /// The value of `key`, or `default` when it is absent or wrong (then with an error).
    pub fn value_or<T>(
        &mut self,
        key: &'static str,
        default: T,
        convert: impl FnOnce(&'v Value<'v>) -> Result<T, String>,
    ) -> T {
        self.opt(key, convert).map_or(default, |at| at.value)
    }

    /// A list; a single value counts as a list of one. `None` when absent; a wrong element is `None`, with an
    /// error.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        convert: impl Fn(&'v Value<'v>) -> Result<T, String>,
    ) -> Option<Vec<Option<At<T>>>> {
        let value = self.get(key)?;
        let elements = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let mut list = Vec::with_capacity(elements.len());
        for element in elements {
            let place = Place { offset: element.span.start, section: self.name, key };
            let element = convert(element).map_err(|message| self.report.error(place, message));
            list.push(element.ok().map(|value| At { value, place }));
        }
        Some(list)
    }

    /// A table under `key`, for [`read`].
    pub fn table(&mut self, key: &'static str) -> Option<&'v Value<'v>> {
        let value = self.get(key)?;
        if value.as_table().is_some() {
            return Some(value);
        }
        let message = match value.as_array() {
            Some(_) => format!("is one table, not a list: write [{key}] with single brackets"),
            None => format!("must be a table, found {}", value.as_ref().type_str()),
        };
        self.error(key, message);
        None
    }

    /// The tables of the array `key`, for [`read`].
    pub fn tables(&mut self, key: &'static str) -> Vec<&'v Value<'v>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let header = Place { offset: value.span.start, section: self.name, key };
        let dot = if self.name.is_empty() { "" } else { "." };
        let double = format!("write [[{}{dot}{key}]] with double brackets", self.name);
        if value.as_table().is_some() {
            self.report.error(header, format!("is a list of tables: {double}"));
            return vec![value];
        }
        let Some(array) = value.as_array() else {
            self.report
                .error(header, format!("must be tables, found {}: {double}", value.as_ref().type_str()));
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(array.len());
        for element in array {
            if element.as_table().is_some() {
                tables.push(element);
            } else {
                let place = Place { offset: element.span.start, ..header };
                let found = element.as_ref().type_str();
                self.report.error(place, format!("must be a table, found {found}: {double}"));
            }
        }
        tables
    }

    fn report_unknown_keys(&mut self) {
        for key in self.table.into_iter().flat_map(Table::keys) {
            if !self.asked.contains(&key.name.as_ref()) {
                let hint = hint(&key.name, self.asked.iter().copied());
                self.report.unknown_key(key.span.start, self.name, &key.name, format!("unknown key{hint}"));
            }
        }
    }
}
