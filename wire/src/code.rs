//! What a fault is called, for ever: `NAVE-0012`.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $title:literal;)*) => {
        /// A stable code, and what it says in a few words. A number is never given twice.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $number)] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The code as users see it.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $number,)* }
            }

            /// What happened, in a few words; the same for each occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The body is not JSON.
    NotJson = "NAVE-0001", "the body is not JSON";
    /// A field has a value that is not allowed.
    InvalidField = "NAVE-0002", "a field has a value that is not allowed";
    /// An idempotency key came a second time, with another request.
    KeyReused = "NAVE-0003", "this Idempotency-Key was used for another request";
    /// Too many operations wait for their turn on one resource.
    QueueFull = "NAVE-0004", "too many operations wait for this resource";
    /// The lane has as many operations as it may have.
    Busy = "NAVE-0005", "too many operations are running";
    /// The system cannot take requests now.
    NotReady = "NAVE-0006", "the system is not ready";
    /// No such operation is known here.
    UnknownOperation = "NAVE-0007", "no such operation is known";
    /// No such path.
    UnknownPath = "NAVE-0008", "no such path";
    /// The path does not know this method.
    WrongMethod = "NAVE-0009", "the path does not know this method";
    /// The body is larger than is allowed.
    TooLarge = "NAVE-0010", "the body is too large";
    /// The request is not one that HTTP or this interface knows.
    BadRequest = "NAVE-0011", "the request cannot be read";
    /// The request does not carry the token that this interface was started with.
    Unauthorized = "NAVE-0012", "the request carries no token, or a wrong one";
    /// So many requests are being answered that one more is not taken.
    Overloaded = "NAVE-0013", "too many requests at once";
    /// The headers of the request are more, or longer, than is allowed.
    HeadersTooLarge = "NAVE-0014", "the headers are too many or too long";
    /// The request did not come whole in the time that a client has for it.
    TooSlow = "NAVE-0015", "the request did not come in time";
    /// A header of a record is missing, or cannot be read.
    BadHeader = "NAVE-0016", "a header of the request cannot be read";
    /// The path and query of the request are longer than the HTTP parser reads.
    UriTooLong = "NAVE-0017", "the path and query are too long";
    /// The topology cannot be built.
    CannotBuild = "NAVE-0031", "the topology cannot be built";
    /// A topic is not as the topology needs it.
    WrongTopic = "NAVE-0032", "a topic is not as the topology needs it";
    /// The code of a process lacks a part of the topology that was submitted.
    OtherGraph = "NAVE-0033", "the code lacks a part of the topology that was submitted";
    /// A submission would change what is fixed for the life of a topology's topics.
    FixedForLife = "NAVE-0034", "what was submitted cannot be changed in this way";
    /// The name belongs to a topology that is being killed.
    NameTaken = "NAVE-0035", "the name is taken until what had it has ended";
    /// A process has no code for what was submitted, or for what it was told to run.
    NoCode = "NAVE-0036", "this process has no code for it";
    /// The configuration cannot be used.
    BadConfig = "NAVE-0037", "the configuration cannot be used";
    /// A topic of a topology was deleted and made anew.
    TopicReplaced = "NAVE-0038", "a topic is not the one that was submitted";
    /// The bus may lose what it acknowledged, or stop when one broker does.
    WeakBus = "NAVE-0039", "the bus may lose what it acknowledged";
    /// A workflow broke a rule of the hub and was parked.
    Parked = "NAVE-0040", "the workflow broke a rule and was parked";
    /// An operation was cancelled before its turn, or as its client asked.
    Cancelled = "NAVE-0041", "the operation was cancelled";
    /// A command came to an operation that cannot take it now.
    NotNow = "NAVE-0042", "the operation cannot take this command now";
    /// The client's deadline is too near for what was asked.
    TooLate = "NAVE-0043", "the request cannot be done in the time that is left";
    /// A person ended a parked operation.
    Aborted = "NAVE-0044", "the operation was ended by hand";
    /// A workflow failed, and its answer names no code of its own.
    WorkflowFailed = "NAVE-0045", "the workflow failed";
    /// A workflow declined a request until it is paid for.
    PaymentRequired = "NAVE-0046", "the workflow asks for a payment";
    /// A workflow does not allow what was asked.
    Forbidden = "NAVE-0047", "the workflow does not allow it";
    /// A workflow found nothing under the name that the request gives.
    NotFound = "NAVE-0048", "the workflow did not find it";
    /// The request does not fit the state in which the workflow found things.
    Conflict = "NAVE-0049", "the workflow found a conflict";
    /// A workflow read the request and cannot do what it says.
    Unprocessable = "NAVE-0054", "the workflow cannot do what was asked";
    /// A workflow waited in vain for a service or a person.
    WorkflowTimeout = "NAVE-0055", "the workflow did not get an answer in time";
    /// No topology of that name was submitted.
    UnknownTopology = "NAVE-0050", "no such topology was submitted";
    /// The topology is being killed: it takes no new requests.
    TopologyEnds = "NAVE-0051", "the topology is being killed";
    /// The topology has no workflow of that name.
    UnknownWorkflow = "NAVE-0052", "the topology has no such workflow";
    /// No topology that was submitted names this service.
    UnknownService = "NAVE-0053", "no topology uses such a service";
    /// A lane was saved, and what was saved is not as it was written, or cannot be written.
    SnapshotDamaged = "NAVE-0060", "a lane cannot be saved, or restored from what was saved";
    /// A lane was saved or decided by another build than the one that is to take it over, and that one cannot go on with it.
    StateIncompatible = "NAVE-0061", "this build cannot go on with what another one left";
    /// An inbox no longer has what its lane has yet to read again.
    InboxCut = "NAVE-0062", "an inbox no longer has what its lane needs";
    /// An inbox may soon lose what its lane would have to read again.
    InboxShort = "NAVE-0063", "an inbox is close to losing what its lane needs";
    /// There is no such flow.
    UnknownFlow = "NAVE-0104", "there is no such flow";
    /// There is a flow of that name already.
    FlowExists = "NAVE-0105", "there is a flow of that name already";
    /// A rule could not be taken away.
    RemovalFailed = "NAVE-0106", "a rule could not be taken away";
    /// The hub's own deadline ended a step.
    HubTimeout = "NAVE-0100", "a step did not end in time";
    /// A rule was not installed.
    InstallFailed = "NAVE-0101", "the switch did not confirm a rule";
    /// A rule was not as it should be when it was read back.
    ValidationFailed = "NAVE-0102", "a rule is not on its switch as it should be";
    /// All cookies or meters are taken.
    PoolEmpty = "NAVE-0103", "no cookie or meter is free";
}

impl Code {
    /// True where the same request may be accepted later: there is no room for it, or the system is not ready. HTTP says 429
    /// and 503.
    pub fn is_temporary(self) -> bool {
        matches!(self, Code::QueueFull | Code::Busy | Code::NotReady | Code::Overloaded | Code::PoolEmpty)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice() {
        let mut seen: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let given = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), given);
        assert!(seen.iter().all(|code| code.len() == 9 && code.starts_with("NAVE-")));
    }
}
