//! The limits of a hub.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::answer::Answer;
use wire::{Code, Problem};

/// Maximum number of characters of a refusal's detail: a sentence and room for a list. The detail
/// may quote foreign data.
const MAX_DETAIL_CHARS: usize = 8_000;

/// The limits of a hub in one lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubSettings {
    /// Maximum number of live operations, queued ones included; further requests are refused. A
    /// thousand operations of a thousand calls each take 1 GB; of ten calls each, 10 MB.
    pub live: usize,
    /// Maximum number of running operations that are not answered; further ones wait. So a started
    /// operation ends at full speed under any load (lesson 28). 256 keep a spoke of 10 ms busy with
    /// 25,000 operations per second.
    pub active: usize,
    /// Maximum number of operations that wait for one key. A client that sends more requests for
    /// one key does not wait for its answers.
    pub waiting_per_key: usize,
    /// Number of remembered outcomes, refusals and cancellations included. With about 2 KB each, 4
    /// MB.
    pub remembered: usize,
    /// Maximum size of an answer in bytes: half of what a Kafka broker accepts, since the history
    /// travels with it.
    pub answer_bytes: usize,
}

impl HubSettings {
    /// Returns the answer. If it is larger than the bus accepts, returns the same outcome with a
    /// body that says so (lesson 30).
    pub(super) fn fit(&self, answer: Answer) -> Answer {
        let cut = |body: Value| {
            let bytes = body.to_string().len();
            if bytes <= self.answer_bytes {
                return body;
            }
            let detail = format!("the answer has {bytes} bytes; the limit is {}", self.answer_bytes);
            serde_json::json!(Problem::new(Code::TooLarge, detail))
        };
        match answer {
            Answer::Done(body) => Answer::Done(cut(body)),
            Answer::Failed(body) => Answer::Failed(cut(body)),
            Answer::Refused(problem) => {
                let detail = problem.detail.chars().take(MAX_DETAIL_CHARS).collect();
                Answer::Refused(Problem { detail, ..problem })
            }
        }
    }
}

impl Default for HubSettings {
    fn default() -> Self {
        Self { live: 1_024, active: 256, waiting_per_key: 8, remembered: 2_048, answer_bytes: 512 << 10 }
    }
}
