//! What librdkafka's faults mean to a bus.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::BusError;

/// The fault of doing `what`: one that may pass, or a refusal for good.
pub(super) fn bus(what: &str, fault: &KafkaError) -> BusError {
    let text = format!("{what}: {fault}");
    match fault {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => BusError::Refused(text),
        other => by_code(code(other), text),
    }
}

/// The fault of doing `what`, where there is only a code.
pub(super) fn bus_code(what: &str, code: Code) -> BusError {
    by_code(Some(code), format!("{what}: {code}"))
}

fn by_code(code: Option<Code>, text: String) -> BusError {
    if code.is_some_and(is_refusal) { BusError::Refused(text) } else { BusError::Unavailable(text) }
}

/// The code of a fault, where it has one.
pub(super) fn code(fault: &KafkaError) -> Option<Code> {
    match fault {
        KafkaError::Transaction(fault) => Some(fault.code()),
        KafkaError::OffsetFetch(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Whether somebody else has taken over what this client was: another producer with its name, or the rest of its group.
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

/// Whether nobody answered, as against somebody who refused.
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
