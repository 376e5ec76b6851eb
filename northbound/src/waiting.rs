//! Reasons why requests have to wait: `/readyz` names all of them, and a request is refused for
//! those that concern it.
//!
//! A stalled lane concerns only its own requests: the other lanes continue.

use std::fmt;

use serde_json::{Value, json};

/// A reason to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The requests that it concerns.
    pub of: Of,
    /// The text for people.
    pub line: String,
}

/// The requests that have to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// All requests.
    All,
    /// The requests of a topology.
    Topology(String),
    /// The requests of a lane: a partition of an inbox.
    Lane(String, u32),
    /// None: a temporary pause that ends by itself.
    Nobody,
}

impl Waiting {
    /// A reason that concerns all requests.
    pub fn all(line: impl Into<String>) -> Self {
        Self { of: Of::All, line: line.into() }
    }

    /// A reason that concerns the requests of a topology.
    pub fn of_topology(name: &str, line: impl Into<String>) -> Self {
        Self { of: Of::Topology(name.to_owned()), line: line.into() }
    }

    /// A reason that concerns the requests of a lane.
    pub fn of_lane(inbox: &str, lane: u32, line: impl Into<String>) -> Self {
        Self { of: Of::Lane(inbox.to_owned(), lane), line: line.into() }
    }

    /// A pause that concerns no request: a full inbox, or an append without an answer.
    pub fn held_up(line: impl Into<String>) -> Self {
        Self { of: Of::Nobody, line: line.into() }
    }

    /// True if a request to this lane of this topology has to wait.
    pub fn concerns(&self, topology: &str, inbox: &str, lane: u32) -> bool {
        match &self.of {
            Of::All => true,
            Of::Topology(name) => name == topology,
            Of::Lane(of, number) => of == inbox && *number == lane,
            Of::Nobody => false,
        }
    }

    /// Checks that no reason concerns requests.
    ///
    /// # Errors
    /// The texts of all reasons that do, as one.
    pub fn check<'a>(waiting: impl IntoIterator<Item = &'a Waiting>) -> Result<(), String> {
        let of_requests = waiting.into_iter().filter(|waiting| waiting.of != Of::Nobody);
        let lines: Vec<&str> = of_requests.map(|waiting| waiting.line.as_str()).collect();
        if lines.is_empty() { Ok(()) } else { Err(lines.join("; ")) }
    }

    /// The body of `/readyz`: the status, and the text of each pause.
    ///
    /// # Errors
    /// The reasons why requests wait.
    pub fn readiness(waiting: &[Waiting]) -> Result<Value, String> {
        Self::check(waiting)?;
        let held_up: Vec<&str> = waiting.iter().map(|waiting| waiting.line.as_str()).collect();
        Ok(if held_up.is_empty() { json!({"status": "ready"}) } else { json!({"status": "ready", "held_up": held_up}) })
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_lane_concerns_only_its_own_requests() {
        let lane = Waiting::of_lane("nave.flows.hub.in", 1, "lane 1: silent");
        assert!(lane.concerns("flows", "nave.flows.hub.in", 1));
        assert!(!lane.concerns("flows", "nave.flows.hub.in", 2));
        assert!(!lane.concerns("flows", "nave.flows.worker.in", 1));
        let topology = Waiting::of_topology("trips", "topology `trips` is not run here");
        assert!(topology.concerns("trips", "nave.trips.hub.in", 0));
        assert!(!topology.concerns("flows", "nave.flows.hub.in", 0));
        assert!(Waiting::all("answers are not read").concerns("flows", "nave.flows.hub.in", 0));
        assert_eq!(Waiting::check([&lane, &topology]).unwrap_err(), "lane 1: silent; topology `trips` is not run here");
        assert_eq!(Waiting::check([]), Ok(()));
    }

    #[test]
    fn a_ready_process_reports_its_pauses() {
        let full = Waiting::held_up("stage a waits: inbox `b` is full");
        assert!(!full.concerns("flows", "b", 0));
        assert_eq!(Waiting::readiness(&[]), Ok(json!({"status": "ready"})));
        let ready = json!({"status": "ready", "held_up": ["stage a waits: inbox `b` is full"]});
        assert_eq!(Waiting::readiness(std::slice::from_ref(&full)), Ok(ready));
        let silent = Waiting::of_lane("nave.flows.hub.in", 1, "lane 1: silent");
        assert_eq!(Waiting::readiness(&[full, silent]), Err("lane 1: silent".to_owned()));
    }
}
