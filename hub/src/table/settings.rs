//! What bounds a hub.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::answer::Answer;
use wire::{Code, Problem};

/// The longest detail of a refusal in characters: a sentence, and room for a list. It may quote what a stranger sent.
const LONGEST_DETAIL: usize = 8_000;

/// What bounds a hub in one lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubSettings {
    /// So many operations may live, those that wait for their turn included. A thousand operations of a thousand calls are
    /// a gigabyte; of ten calls, ten megabytes. The next is refused.
    pub live: usize,
    /// So many may work at once, before they are answered; more wait for their turn. So what has begun ends at full speed
    /// however many come (lesson 28): 256 keep a spoke of 10 ms busy with 25,000 operations a second.
    pub active: usize,
    /// So many operations may wait for their turn on one key. A client that sends more than this to one thing does not wait
    /// for answers.
    pub waiting_per_key: usize,
    /// Number of outcomes that are remembered for repeats, refusals and cancellations among them. With some 2 KB each, 4 MB.
    pub remembered: usize,
    /// An answer has at most so many bytes: half of what a Kafka broker takes, since its history travels with it.
    pub answer_bytes: usize,
}

impl HubSettings {
    /// The answer, or, where it is larger than the bus would take, the same outcome with a body that says so (lesson 30).
    pub(super) fn fit(&self, answer: Answer) -> Answer {
        let cut = |body: Value| {
            let bytes = body.to_string().len();
            if bytes <= self.answer_bytes {
                return body;
            }
            let detail = format!("the answer has {bytes} bytes; at most {} are sent", self.answer_bytes);
            serde_json::json!({ "code": Code::TooLarge, "message": "the answer is too large", "detail": detail })
        };
        match answer {
            Answer::Done(body) => Answer::Done(cut(body)),
            Answer::Failed(body) => Answer::Failed(cut(body)),
            Answer::Refused(problem) => {
                let detail = problem.detail.chars().take(LONGEST_DETAIL).collect();
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
