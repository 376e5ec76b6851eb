//! The transition table at the head of a workflow's file: parses it, compares it with the code, and
//! draws it.
//!
//! A row is `| state | event | next | effects |`. A pair of state and event may have several rows
//! if the next state depends on more than the pair.

use std::collections::BTreeSet;

use serde_json::Value;
use wire::OperationId;

use crate::event::Event;
use crate::fx::Fx;
use crate::machine::AnyMachine;
use crate::workflow::{Workflow, WorkflowState as _};

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The state.
    pub state: String,
    /// The event.
    pub event: String,
    /// The next state.
    pub next: String,
    /// Description of the effects.
    pub effects: String,
}

/// Parses the first table with the columns state, event, next, effects in a source file.
pub fn table(source: &str) -> Vec<Row> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_start_matches("//!").trim();
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    source
        .lines()
        .skip_while(|line| cells(line) != ["state", "event", "next", "effects"])
        .skip(2)
        .map(cells)
        .map_while(|cells| match &cells[..] {
            [state, event, next, effects] => {
                Some(Row { state: state.clone(), event: event.clone(), next: next.clone(), effects: effects.clone() })
            }
            _ => None,
        })
        .collect()
}

/// Loads the saved state of a workflow of any version that this build reads, and returns it as this
/// build saves it. For tests that keep golden states of each version.
///
/// # Errors
/// The reason for which the lane would be held.
pub fn load<W: Workflow>(saved: &str) -> Result<String, String> {
    let machine: AnyMachine<W> = serde_json::from_str(saved).map_err(|error| error.to_string())?;
    serde_json::to_string(&machine).map_err(|error| error.to_string())
}

/// Lists the differences between table and code. `seen` holds state, event and next state of
/// observed transitions; `legal` holds the pairs of state and event that the code handles.
pub fn differences(
    rows: &[Row],
    legal: &BTreeSet<(String, String)>,
    seen: &BTreeSet<(String, String, String)>,
) -> Vec<String> {
    let written: BTreeSet<(String, String)> = rows.iter().map(|row| (row.state.clone(), row.event.clone())).collect();
    let mut differences = Vec::new();
    for (state, event) in legal.difference(&written) {
        differences.push(format!("the code handles `{event}` in `{state}`; the table has no such row"));
    }
    for (state, event) in written.difference(legal) {
        differences.push(format!("the table has `{event}` in `{state}`; the code treats it as illegal"));
    }
    for (state, event, next) in seen {
        if !rows.iter().any(|row| row.state == *state && row.event == *event && row.next == *next) {
            differences.push(format!("`{event}` led from `{state}` to `{next}`; the table has no such row"));
        }
    }
    differences
}

/// Applies events one after the other to a new workflow, without making its calls. Returns state,
/// event and next state of each, by name. The next state is `None` if the workflow returns
/// [`crate::Illegal`], which ends the walk.
///
/// # Panics
/// If the workflow does not accept `request`, or panics itself.
pub fn walk<W: Workflow>(
    lane: &mut W::Lane,
    key: &str,
    request: &Value,
    events: &[Event],
) -> Vec<(String, String, Option<String>)> {
    let operation = OperationId::new("walk").expect("letters are allowed");
    let mut workflow = W::read(&operation, key, request).unwrap_or_else(|problem| panic!("{problem}"));
    let mut state = Some(W::State::ALL[0]);
    let mut walked = Vec::new();
    for event in events {
        let Some(from) = state else { break };
        state = workflow.on(from, event, &mut Fx::new(lane)).ok();
        walked.push((from.name().to_owned(), event.name().to_owned(), state.map(|next| next.name().to_owned())));
    }
    walked
}

/// Draws the table as a Mermaid diagram.
pub fn diagram(rows: &[Row]) -> String {
    let name = |state: &str| if state == "-" || state == "ended" { "[*]".to_owned() } else { state.replace(' ', "_") };
    let mut arrows: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| row.state != row.next) {
        let arrow = format!("    {} --> {}: {}\n", name(&row.state), name(&row.next), row.event);
        if !arrows.contains(&arrow) {
            arrows.push(arrow);
        }
    }
    format!("stateDiagram-v2\n{}", arrows.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! Text.\n//!\n//! | state | event | next | effects |\n//! |---|---|---|---|\n\
        //! | - | requested | working | one call |\n//! | working | all replied | ended | answer |\n//!\n//! More | text.\n";

    #[test]
    fn a_table_is_parsed_and_drawn() {
        let rows = table(SOURCE);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            diagram(&rows),
            "stateDiagram-v2\n    [*] --> working: requested\n    working --> [*]: all replied\n"
        );
    }

    #[test]
    fn differences_between_table_and_code_are_listed() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let legal = BTreeSet::from([pair("-", "requested"), pair("working", "failed")]);
        let seen = BTreeSet::from([("-".to_owned(), "requested".to_owned(), "ended".to_owned())]);
        assert_eq!(
            differences(&table(SOURCE), &legal, &seen),
            [
                "the code handles `failed` in `working`; the table has no such row",
                "the table has `all replied` in `working`; the code treats it as illegal",
                "`requested` led from `-` to `ended`; the table has no such row",
            ]
        );
    }
}
