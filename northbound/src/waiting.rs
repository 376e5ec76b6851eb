//! What requests would have to wait for: `/readyz` names all of it, and a request is refused for what concerns it.
//!
//! A lane that stands still holds up nobody but those who ask it: the others go on.

use std::fmt;

use serde_json::{Value, json};

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Whom it concerns.
    pub of: Of,
    /// What people read of it.
    pub line: String,
}

/// Whose requests have to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// All.
    All,
    /// Those of a topology.
    Topology(String),
    /// Those of a lane: a partition of an inbox.
    Lane(String, u32),
    /// Nobody's: something stops for a while, as it must, and goes on by itself.
    Nobody,
}

impl Waiting {
    /// Concerns whoever asks for anything.
    pub fn all(line: impl Into<String>) -> Self {
        Self { of: Of::All, line: line.into() }
    }

    /// Concerns those who ask for something of a topology.
    pub fn of_topology(name: &str, line: impl Into<String>) -> Self {
        Self { of: Of::Topology(name.to_owned()), line: line.into() }
    }

    /// Concerns those who ask a lane.
    pub fn of_lane(inbox: &str, lane: u32, line: impl Into<String>) -> Self {
        Self { of: Of::Lane(inbox.to_owned(), lane), line: line.into() }
    }

    /// Something waits that is no request: an inbox that is full, an append that got no answer.
    pub fn held_up(line: impl Into<String>) -> Self {
        Self { of: Of::Nobody, line: line.into() }
    }

    /// True where a request to this lane of this topology has to wait for it.
    pub fn concerns(&self, topology: &str, inbox: &str, lane: u32) -> bool {
        match &self.of {
            Of::All => true,
            Of::Topology(name) => name == topology,
            Of::Lane(of, number) => of == inbox && *number == lane,
            Of::Nobody => false,
        }
    }

    /// Their lines as one; none where requests wait for nothing.
    ///
    /// # Errors
    /// The lines.
    pub fn nothing<'a>(waiting: impl IntoIterator<Item = &'a Waiting>) -> Result<(), String> {
        let of_requests = waiting.into_iter().filter(|waiting| waiting.of != Of::Nobody);
        let lines: Vec<&str> = of_requests.map(|waiting| waiting.line.as_str()).collect();
        if lines.is_empty() { Ok(()) } else { Err(lines.join("; ")) }
    }

    /// Returns the body of `/readyz`: that the process is ready, and a line for everything that is held up.
    ///
    /// # Errors
    /// The reasons for which requests wait.
    pub fn readiness(waiting: &[Waiting]) -> Result<Value, String> {
        Self::nothing(waiting)?;
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
    fn a_lane_that_stands_still_concerns_those_who_ask_it() {
        let lane = Waiting::of_lane("nave.flows.hub.in", 1, "lane 1: silent");
        assert!(lane.concerns("flows", "nave.flows.hub.in", 1));
        assert!(!lane.concerns("flows", "nave.flows.hub.in", 2));
        assert!(!lane.concerns("flows", "nave.flows.worker.in", 1));
        let topology = Waiting::of_topology("trips", "topology `trips` is not run here");
        assert!(topology.concerns("trips", "nave.trips.hub.in", 0));
        assert!(!topology.concerns("flows", "nave.flows.hub.in", 0));
        assert!(Waiting::all("answers are not read").concerns("flows", "nave.flows.hub.in", 0));
        assert_eq!(
            Waiting::nothing([&lane, &topology]).unwrap_err(),
            "lane 1: silent; topology `trips` is not run here"
        );
        assert_eq!(Waiting::nothing([]), Ok(()));
    }

    #[test]
    fn what_is_held_up_is_said_by_a_process_that_is_ready() {
        let full = Waiting::held_up("stage a waits: inbox `b` is full");
        assert!(!full.concerns("flows", "b", 0));
        assert_eq!(Waiting::readiness(&[]), Ok(json!({"status": "ready"})));
        let ready = json!({"status": "ready", "held_up": ["stage a waits: inbox `b` is full"]});
        assert_eq!(Waiting::readiness(std::slice::from_ref(&full)), Ok(ready));
        let silent = Waiting::of_lane("nave.flows.hub.in", 1, "lane 1: silent");
        assert_eq!(Waiting::readiness(&[full, silent]), Err("lane 1: silent".to_owned()));
    }
}
