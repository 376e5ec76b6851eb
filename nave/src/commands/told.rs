//! What a command prints: aligned columns for people, JSON for programs.

use std::fmt;

use serde_json::{Value, json};
use wire::{Problem, WallTime};

use super::sim::Broken;
use crate::client::Refused;

/// What a command has to say.
#[derive(Debug)]
pub(super) enum Told {
    /// It said everything while it ran.
    Nothing,
    /// The same for people and programs: a script, a file.
    Raw(String),
    /// A text for people, and what it was made of.
    Text {
        /// For people.
        text: String,
        /// For programs.
        json: Value,
    },
}

impl Told {
    /// Rows under their headings.
    pub(super) fn table(headings: &[&str], rows: &[Vec<String>], json: Value) -> Self {
        Told::Text { text: aligned(headings, rows), json }
    }

    /// The same with one more line for people.
    #[must_use]
    pub(super) fn with_line(mut self, line: Option<String>) -> Self {
        if let (Told::Text { text, .. }, Some(line)) = (&mut self, line) {
            text.push('\n');
            text.push_str(&line);
        }
        self
    }

    pub(super) fn text(self, json: bool) -> String {
        match self {
            Told::Nothing => String::new(),
            Told::Raw(text) => text,
            Told::Text { json: value, .. } if json => {
                let mut text = serde_json::to_string_pretty(&value).expect("JSON can be written");
                text.push('\n');
                text
            }
            Told::Text { mut text, .. } => {
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                text
            }
        }
    }
}

/// The command line asks for what there is not.
#[derive(Debug)]
pub(super) struct Usage(pub(super) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error for programs: the problem as it came, or its text.
pub(super) fn fault(error: &anyhow::Error) -> Value {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return refused.body.clone();
    }
    if let Some(broken) = error.downcast_ref::<Broken>() {
        return broken.json.clone();
    }
    let code = error.downcast_ref::<Problem>().map(|problem| problem.code);
    json!({"detail": format!("{error:#}"), "code": code})
}

/// The rows of a list that a program answered: the list itself, or the first list in what it answered.
pub(super) fn items(body: &Value) -> Vec<&Value> {
    let list = body.as_array().or_else(|| body.as_object()?.values().find_map(Value::as_array));
    list.map(|items| items.iter().collect()).unwrap_or_default()
}

/// A field of an item, for people: `-` where it is not there.
pub(super) fn shown(item: &Value, pointer: &str) -> String {
    match item.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::Array(items)) => {
            let names = items.iter().map(|item| match item {
                Value::String(text) => text.clone(),
                Value::Object(_) => shown(item, if item.get("name").is_some() { "/name" } else { "/instance" }),
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

/// A list as a table: a heading and a JSON pointer for each column.
pub(super) fn listing(body: Value, columns: &[(&str, &str)]) -> Told {
    let row = |item: &Value| columns.iter().map(|(_, pointer)| shown(item, pointer)).collect::<Vec<_>>();
    let rows: Vec<_> = items(&body).into_iter().map(row).collect();
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    Told::table(&headings, &rows, body)
}

/// One thing, field by field, as far as its fields are plain.
pub(super) fn fields(body: Value) -> Told {
    let Value::Object(of) = &body else { return Told::Text { text: body.to_string(), json: body } };
    let widest = of.keys().map(String::len).max().unwrap_or(0);
    let lines = of.iter().map(|(name, value)| {
        let value = match value {
            Value::String(text) if text.contains('\n') => format!("\n    {}", text.trim_end().replace('\n', "\n    ")),
            Value::Array(_) | Value::Object(_) => value.to_string(),
            plain => shown(plain, ""),
        };
        format!("{name:<widest$}  {value}")
    });
    Told::Text { text: lines.collect::<Vec<_>>().join("\n"), json: body }
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
        let told = listing(body.clone(), &[("ID", "/id"), ("STATE", "/state"), ("LIVE", "/live")]);
        assert_eq!(
            told.text(false),
            "ID       STATE        LIVE\na        installing   -\nlonger   -            yes\n"
        );
        let told = listing(body.clone(), &[("ID", "/id")]);
        assert_eq!(serde_json::from_str::<Value>(&told.text(true)).unwrap(), body);
    }
}
