//! Stable codes of all errors that users see: `NAVE-0012`.

use std::borrow::Cow;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// A stable code with an HTTP status and a title. A number is never reused.
///
/// An application declares its own codes as constants. JSON has all three parts, so that each reader
/// of a problem knows them: a type with a code adds them as members, with `#[serde(flatten)]`.
///
/// ```
/// # use wire::{Code, Problem};
/// const NO_ROOM: Code = Code::new("TRIP-0001", 409, "the hotel has no room");
/// let json = r#"{"code":"TRIP-0001","status":409,"title":"the hotel has no room","detail":"it is May"}"#;
/// assert_eq!(serde_json::to_string(&Problem::new(NO_ROOM, "it is May"))?, json);
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Code {
    #[serde(rename = "code")]
    number: Cow<'static, str>,
    #[serde(deserialize_with = "error_status")]
    status: u16,
    title: Cow<'static, str>,
}

/// Reads a status that HTTP has for errors.
fn error_status<'de, D: Deserializer<'de>>(json: D) -> Result<u16, D::Error> {
    let status = u16::deserialize(json)?;
    if !(400..600).contains(&status) {
        return Err(D::Error::custom(format!("status {status} is not one from 400 to 599")));
    }
    Ok(status)
}

impl Code {
    /// A code: its number as users see it, the HTTP status of a problem with it, and what happened in
    /// a few words.
    pub const fn new(number: &'static str, status: u16, title: &'static str) -> Self {
        assert!(400 <= status && status < 600, "the status is that of an error");
        Self { number: Cow::Borrowed(number), status, title: Cow::Borrowed(title) }
    }

    /// The code as users see it.
    pub fn as_str(&self) -> &str {
        &self.number
    }

    /// The HTTP status of a problem with this code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The title: what happened, in a few words; the same for each occurrence.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// True if the same request may be accepted later: a limit is reached, or the system is not
    /// ready. HTTP status 429 or 503: clients rely on these two.
    pub fn is_temporary(&self) -> bool {
        matches!(self.status, 429 | 503)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $status:literal, $title:literal;)*) => {
        /// The codes of the framework.
        #[expect(non_upper_case_globals, reason = "a code reads as a variant")]
        impl Code {
            $($(#[$doc])* pub const $name: Code = Code::new($number, $status, $title);)*

            /// Every code of the framework.
            pub const ALL: &[Code] = &[$(Code::$name,)*];
        }
    };
}

codes! {
    /// The body is not JSON.
    NotJson = "NAVE-0001", 400, "the body is not JSON";
    /// A field has a value that is not allowed.
    InvalidField = "NAVE-0002", 422, "a field has a value that is not allowed";
    /// An idempotency key was used again, for another request.
    KeyReused = "NAVE-0003", 422, "this Idempotency-Key was used for another request";
    /// The maximum number of operations that wait for one resource is reached.
    QueueFull = "NAVE-0004", 429, "too many operations wait for this resource";
    /// The lane has its maximum number of operations.
    Busy = "NAVE-0005", 429, "too many operations are running";
    /// The system accepts no requests now.
    NotReady = "NAVE-0006", 503, "the system is not ready";
    /// This northbound does not know the operation.
    UnknownOperation = "NAVE-0007", 404, "unknown operation";
    /// No such path.
    UnknownPath = "NAVE-0008", 404, "no such path";
    /// The path does not support this method.
    WrongMethod = "NAVE-0009", 405, "the path does not support this method";
    /// The body is larger than is allowed.
    TooLarge = "NAVE-0010", 413, "the body is too large";
    /// The request is not valid HTTP, or not valid for this interface.
    BadRequest = "NAVE-0011", 400, "the request cannot be read";
    /// The request lacks the token of this interface, or has a wrong one.
    Unauthorized = "NAVE-0012", 401, "the token is missing or wrong";
    /// The maximum number of concurrent requests is reached.
    Overloaded = "NAVE-0013", 503, "too many requests at once";
    /// The request has more headers, or longer ones, than allowed.
    HeadersTooLarge = "NAVE-0014", 431, "too many headers, or headers too long";
    /// The request did not arrive completely within the allowed time.
    TooSlow = "NAVE-0015", 408, "the request did not arrive in time";
    /// A header of a record is missing, or cannot be read.
    BadHeader = "NAVE-0016", 422, "a header of the request cannot be read";
    /// The path and query of the request are longer than the HTTP parser accepts.
    UriTooLong = "NAVE-0017", 414, "the path and query are too long";
    /// The topology cannot be built.
    CannotBuild = "NAVE-0031", 500, "the topology cannot be built";
    /// A topic has other settings than the topology requires.
    WrongTopic = "NAVE-0032", 500, "a topic has the wrong settings";
    /// The code of a process lacks a part of the submitted topology.
    OtherGraph = "NAVE-0033", 409, "the code lacks a part of the submitted topology";
    /// A submission would change a property that is fixed as long as the topics exist.
    FixedForLife = "NAVE-0034", 409, "the submission changes a fixed property of the topology";
    /// A topology of this name is being killed.
    NameTaken = "NAVE-0035", 409, "the topology of this name has not ended yet";
    /// A process has no code for a submitted topology, or for a stage that it should run.
    NoCode = "NAVE-0036", 500, "this program has no code for the topology or stage";
    /// The configuration cannot be used.
    BadConfig = "NAVE-0037", 500, "the configuration cannot be used";
    /// A topic of a topology was deleted or created again.
    TopicReplaced = "NAVE-0038", 409, "a topic was deleted or replaced";
    /// The bus may lose acknowledged records, or stop when one broker fails.
    WeakBus = "NAVE-0039", 500, "the bus may lose acknowledged records";
    /// A workflow broke a rule of the hub and was parked.
    Parked = "NAVE-0040", 500, "the workflow broke a rule and was parked";
    /// An operation was cancelled before its turn, or at the client's request.
    Cancelled = "NAVE-0041", 409, "the operation was cancelled";
    /// An operation cannot accept this command in its current state.
    NotNow = "NAVE-0042", 409, "the operation cannot take this command now";
    /// The client's deadline passed before the turn of the operation.
    TooLate = "NAVE-0043", 504, "the deadline of the request passed before its turn";
    /// An operator aborted a parked operation.
    Aborted = "NAVE-0044", 500, "the operation was aborted";
    /// A workflow failed, and its answer has no code.
    WorkflowFailed = "NAVE-0045", 502, "the workflow failed";
    /// A workflow declined a request until it is paid for.
    PaymentRequired = "NAVE-0046", 402, "the workflow requires a payment";
    /// A workflow does not allow the request.
    Forbidden = "NAVE-0047", 403, "the workflow does not allow the request";
    /// A workflow found nothing with the name in the request.
    NotFound = "NAVE-0048", 404, "the workflow did not find the resource";
    /// The request conflicts with the current state, as the workflow found it.
    Conflict = "NAVE-0049", 409, "the workflow found a conflict";
    /// A workflow read the request and cannot process it.
    Unprocessable = "NAVE-0054", 422, "the workflow cannot process the request";
    /// A workflow waited for a service or a person until its deadline.
    WorkflowTimeout = "NAVE-0055", 504, "the workflow did not get an answer in time";
    /// No topology of that name was submitted.
    UnknownTopology = "NAVE-0050", 404, "no such topology was submitted";
    /// The topology is being killed and accepts no new requests.
    TopologyEnds = "NAVE-0051", 409, "the topology is being killed";
    /// The topology has no workflow of that name.
    UnknownWorkflow = "NAVE-0052", 404, "the topology has no such workflow";
    /// No submitted topology uses this service.
    UnknownService = "NAVE-0053", 404, "no topology uses this service";
    /// The topology is inactive and accepts no new requests.
    TopologyInactive = "NAVE-0056", 503, "the topology is inactive";
    /// The topology has no source of that name that clients can POST to.
    UnknownSource = "NAVE-0057", 404, "the topology has no such source";
    /// A lane cannot be saved, or its snapshot is corrupt.
    SnapshotDamaged = "NAVE-0060", 500, "a lane cannot be saved, or restored from its snapshot";
    /// Another build saved or decided the lane, and this build cannot continue from there.
    StateIncompatible = "NAVE-0061", 500, "this build is incompatible with the state of another build";
    /// An inbox lacks records that its lane has yet to read again.
    InboxCut = "NAVE-0062", 500, "the inbox lacks records that its lane needs";
    /// An inbox may soon lose records that its lane would have to read again.
    InboxShort = "NAVE-0063", 500, "the inbox may soon lose records that its lane needs";
    /// A topic that a stage writes to does not exist.
    NoTopic = "NAVE-0064", 500, "a topic that the stage writes to does not exist";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_number() {
        let mut seen: Vec<&str> = Code::ALL.iter().map(Code::as_str).collect();
        let given = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), given);
        assert!(seen.iter().all(|code| code.len() == 9 && code.starts_with("NAVE-")));
    }
}
