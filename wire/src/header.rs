//! The names of the headers of a record: `CloudEvents` attributes in Kafka's binary mode, and
//! `traceparent`. [`crate::Envelope`] explains their values.

/// All headers of an envelope, in the order in which they are written.
pub const ALL: [&str; 17] = [
    SPEC_VERSION,
    ID,
    SOURCE,
    TYPE,
    SUBJECT,
    TIME,
    OPERATION,
    IDEMPOTENCY_KEY,
    CORRELATION_ID,
    CAUSATION_ID,
    EXPIRY_TIME,
    CALL_ID,
    ATTEMPT,
    UNDOES,
    REPLY_TO,
    REPLY_PARTITION,
    TRACE_PARENT,
];

/// The version of `CloudEvents`.
pub const SPEC_VERSION: &str = "ce_specversion";
/// The id of the message.
pub const ID: &str = "ce_id";
/// The sender.
pub const SOURCE: &str = "ce_source";
/// The kind of the message.
pub const TYPE: &str = "ce_type";
/// The subject of the message.
pub const SUBJECT: &str = "ce_subject";
/// The time of sending.
pub const TIME: &str = "ce_time";
/// The operation.
pub const OPERATION: &str = "ce_operation";
/// The client's name for a request.
pub const IDEMPOTENCY_KEY: &str = "ce_idempotencykey";
/// The client's id for all messages that follow from its request.
pub const CORRELATION_ID: &str = "ce_correlationid";
/// The message that this one answers.
pub const CAUSATION_ID: &str = "ce_causationid";
/// The time after which nobody needs the message.
pub const EXPIRY_TIME: &str = "ce_expirytime";
/// The call.
pub const CALL_ID: &str = "ce_callid";
/// The number of the attempt.
pub const ATTEMPT: &str = "ce_attempt";
/// The calls that an undo call undoes.
pub const UNDOES: &str = "ce_undoes";
/// The topic for the answer.
pub const REPLY_TO: &str = "ce_replyto";
/// The partition for the answer.
pub const REPLY_PARTITION: &str = "ce_replypartition";
/// The trace, as in W3C Trace Context.
pub const TRACE_PARENT: &str = "traceparent";
