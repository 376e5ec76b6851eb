//! The output of a command: aligned columns for people, JSON for programs.

use std::fmt;

use serde_json::{Value, json};
use wire::{Problem, WallTime};

use super::sim::BrokenSeed;
use crate::client::Refused;

/// The output of a command.
#[derive(Debug)]
pub(super) enum Output {
    /// None: the command printed while it ran.
    Nothing,
    /// The same text for people and programs: a script, a file.
    Raw(String),
    /// A text for people, and its data for programs.
    Text {
        /// For people.
        text: String,
        /// For programs.
        json: Value,
    },
}

impl Output {
    /// Returns rows under their headings.
    pub(super) fn table(headings: &[&str], rows: &[Vec<String>], json: Value) -> Self {
        Output::Text { text: aligned(headings, rows), json }
    }

    /// Appends a line for people.
    #[must_use]
    pub(super) fn with_line(mut self, line: Option<String>) -> Self {
        if let (Output::Text { text, .. }, Some(line)) = (&mut self, line) {
            text.push('\n');
            text.push_str(&line);
        }
        self
    }

    /// Returns its data as one line.
    pub(super) fn json_line(&self) -> String {
        match self {
            Output::Nothing | Output::Raw(_) => String::new(),
            Output::Text { json, .. } => format!("{json}\n"),
        }
    }

    pub(super) fn text(self, json: bool) -> String {
        match self {
            Output::Nothing => String::new(),
            Output::Raw(text) => text,
            Output::Text { json: value, .. } if json => {
                let mut text = serde_json::to_string_pretty(&value).expect("JSON can be written");
                text.push('\n');
                text
            }
            Output::Text { mut text, .. } => {
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                text
            }
        }
    }
}

/// Invalid arguments.
#[derive(Debug)]
pub(super) struct Usage(pub(super) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Returns an error as JSON: the problem as received, or its text.
pub(super) fn error_json(error: &anyhow::Error) -> Value {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return refused.body.clone();
    }
    if let Some(broken) = error.downcast_ref::<BrokenSeed>() {
        return broken.json.clone();
    }
    let code = error.downcast_ref::<Problem>().map(|problem| problem.code.as_str());
    json!({"detail": format!("{error:#}"), "code": code})
}

/// Returns the items of a list: the body itself, or the first list in it.
pub(super) fn items(body: &Value) -> Vec<&Value> {
    let list = body.as_array().or_else(|| body.as_object()?.values().find_map(Value::as_array));
    list.map(|items| items.iter().collect()).unwrap_or_default()
}

/// Returns a field of an item for people: `-` if it is missing.
pub(super) fn cell(item: &Value, pointer: &str) -> String {
    match item.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::Array(items)) => {
            let names = items.iter().map(|item| match item {
                Value::String(text) => text.clone(),
                Value::Object(_) => cell(item, if item.get("name").is_some() { "/name" } else { "/instance" }),
                other => other.to_string(),
            });
            names.collect::<Vec<_>>().join(", ")
        }
        Some(other) => match (other.as_u64(), pointer.rsplit('/').next()) {
            (Some(ms), Some("at" | "ends" | "heard" | "begun")) => WallTime(ms).to_string(),
            (Some(_) | None, _) => other.to_string(),
        },
    }
}

/// Returns a list as a table: a heading and a JSON pointer per column.
pub(super) fn listing(body: Value, columns: &[(&str, &str)]) -> Output {
    let row = |item: &Value| columns.iter().map(|(_, pointer)| cell(item, pointer)).collect::<Vec<_>>();
    let rows: Vec<_> = items(&body).into_iter().map(row).collect();
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    Output::table(&headings, &rows, body)
}

/// Returns the fields of an object, one per line; nested values stay JSON.
pub(super) fn fields(body: Value) -> Output {
    let Value::Object(of) = &body else { return Output::Text { text: body.to_string(), json: body } };
    let widest = of.keys().map(String::len).max().unwrap_or(0);
    let lines = of.iter().map(|(name, value)| {
        let value = match value {
            Value::String(text) if text.contains('\n') => format!("\n    {}", text.trim_end().replace('\n', "\n    ")),
            Value::Array(_) | Value::Object(_) => value.to_string(),
            plain => cell(plain, ""),
        };
        format!("{name:<widest$}  {value}")
    });
    Output::Text { text: lines.collect::<Vec<_>>().join("\n"), json: body }
}

fn aligned(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let of = rows.iter().map(|row| row[column].chars().count());
        of.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let body = json!({"operations": [{"id": "a", "state": "installing"}, {"id": "longer", "live": true}]});
        let output = listing(body.clone(), &[("ID", "/id"), ("STATE", "/state"), ("LIVE", "/live")]);
        assert_eq!(
            output.text(false),
            "ID       STATE        LIVE\na        installing   -\nlonger   -            yes\n"
        );
        let output = listing(body.clone(), &[("ID", "/id")]);
        assert_eq!(serde_json::from_str::<Value>(&output.text(true)).unwrap(), body);
    }
}
