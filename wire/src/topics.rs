//! Names of topics. Each installation has a prefix, so that several can share a cluster.

/// The default prefix.
pub const DEFAULT_PREFIX: &str = "nave";

/// Topic names of an installation.
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

    /// The prefix of all names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Input of a stage.
    pub fn inbox(&self, topology: &str, stage: &str) -> String {
        format!("{}.{topology}.{stage}.in", self.prefix)
    }

    /// Output of a stage for the outside.
    pub fn egress(&self, topology: &str, stage: &str) -> String {
        format!("{}.{topology}.{stage}.out", self.prefix)
    }

    /// Views of the operations of a stage, compacted.
    pub fn view(&self, topology: &str, stage: &str) -> String {
        format!("{}.{topology}.{stage}.view", self.prefix)
    }

    /// Snapshots of the lanes of a stage, compacted.
    pub fn snapshot(&self, topology: &str, stage: &str) -> String {
        format!("{}.{topology}.{stage}.snap", self.prefix)
    }

    /// Requests to the spokes of a service.
    pub fn spoke(&self, service: &str) -> String {
        format!("{}.spoke.{service}", self.prefix)
    }

    /// Heartbeats of the spokes of a service, compacted.
    pub fn alive(&self, service: &str) -> String {
        format!("{}.spoke.{service}.alive", self.prefix)
    }

    /// Submitted topologies, compacted.
    pub fn control(&self) -> String {
        format!("{}.control", self.prefix)
    }

    /// Dead-letter topic: records that could not be handled, with the reason.
    pub fn dead(&self, topology: &str) -> String {
        format!("{}.{topology}.dead", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_the_documented_pattern() {
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
