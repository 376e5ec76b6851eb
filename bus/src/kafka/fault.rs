//! Maps librdkafka errors to bus errors.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::BusError;

/// Converts the error of the operation `what`: temporary, or permanent.
pub(super) fn bus(what: &str, fault: &KafkaError) -> BusError {
    let text = format!("{what}: {fault}");
    match fault {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => BusError::Refused(text),
        other => by_code(code(other), text),
    }
}

/// Converts an error code of the operation `what`.
pub(super) fn bus_code(what: &str, code: Code) -> BusError {
    by_code(Some(code), format!("{what}: {code}"))
}

fn by_code(code: Option<Code>, text: String) -> BusError {
    if code.is_some_and(is_refusal) { BusError::Refused(text) } else { BusError::Unavailable(text) }
}

/// Returns the code of an error, if any.
pub(super) fn code(fault: &KafkaError) -> Option<Code> {
    match fault {
        KafkaError::Transaction(fault) => Some(fault.code()),
        KafkaError::OffsetFetch(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// True if another client took over: a producer with the same transactional id, or the rest of the
/// group.
pub(super) fn is_fencing(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::InvalidProducerIdMapping
            | Code::UnknownMemberId
            | Code::IllegalGeneration
            | Code::FencedInstanceId
            | Code::AssignmentLost
    )
}

/// True if there was no response, as opposed to a rejection.
pub(super) fn is_silence(code: Code) -> bool {
    matches!(
        code,
        Code::MessageTimedOut
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
    )
}

/// True if a topic or its partitions may no longer exist.
pub(super) fn is_unknown_topic(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
}

/// True if a write with this code may have failed because its topic does not exist.
pub(super) fn may_be_unknown_topic(code: Code) -> bool {
    is_unknown_topic(code) || code == Code::MessageTimedOut
}

fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::InvalidTopic
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::InvalidRecord
            | Code::InvalidSessionTimeout
            | Code::InvalidTransactionTimeout
            | Code::InconsistentGroupProtocol
            | Code::OffsetMetadataTooLarge
            | Code::PolicyViolation
    )
}
