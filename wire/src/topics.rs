//! What topics are called. One prefix per installation keeps two of them apart on one cluster.

/// The prefix where the user gives none.
pub const DEFAULT_PREFIX: &str = "nave";

/// The names of an installation's topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self::new(DEFAULT_PREFIX)
    }
}

impl Topics {
    /// Topics that start with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The topic that feeds a stage.
    pub fn inbox(&self, topology: &str, stage: &str) -> String {
        format!("{}.{topology}.{stage}.in", self.prefix)
    }

    /// Results of a stage for those outside.
    pub fn egress(&self, topology: &str, stage: &str) -> String {
        format!("{}.{topology}.{stage}.out", self.prefix)
    }

    /// Views of a stage's operations, compacted.
    pub fn view(&self, topology: &str, stage: &str) -> String {
        format!("{}.{topology}.{stage}.view", self.prefix)
    }

    /// Snapshots of a stage's lanes, compacted.
    pub fn snapshot(&self, topology: &str, stage: &str) -> String {
        format!("{}.{topology}.{stage}.snap", self.prefix)
    }

    /// Requests to the spokes of one service.
    pub fn spoke(&self, service: &str) -> String {
        format!("{}.spoke.{service}", self.prefix)
    }

    /// Heartbeats of the spokes of one service, compacted.
    pub fn alive(&self, service: &str) -> String {
        format!("{}.spoke.{service}.alive", self.prefix)
    }

    /// Submitted topologies, compacted.
    pub fn control(&self) -> String {
        format!("{}.control", self.prefix)
    }

    /// Records that could not be handled, with the reason.
    pub fn dead(&self, topology: &str) -> String {
        format!("{}.{topology}.dead", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_called_as_agreed() {
        let topics = Topics::default();
        assert_eq!(topics.inbox("flows", "hub"), "nave.flows.hub.in");
        assert_eq!(topics.egress("flows", "hub"), "nave.flows.hub.out");
        assert_eq!(topics.view("flows", "hub"), "nave.flows.hub.view");
        assert_eq!(topics.spoke("speaker"), "nave.spoke.speaker");
        assert_eq!(topics.alive("speaker"), "nave.spoke.speaker.alive");
        assert_eq!(topics.control(), "nave.control");
        assert_eq!(topics.dead("flows"), "nave.flows.dead");
    }
}
