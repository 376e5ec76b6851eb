//! The codes of problems of flows. docs/codes.md has a page for each.

use wire::Code;

/// Every code of flows.
pub const ALL: &[Code] =
    &[HUB_TIMEOUT, INSTALL_FAILED, VALIDATION_FAILED, POOL_EMPTY, UNKNOWN_FLOW, FLOW_EXISTS, REMOVAL_FAILED];

/// A step did not end before the deadline of the hub.
pub const HUB_TIMEOUT: Code = Code::new("NAVE-0100", 504, "a step did not end in time");
/// A rule was not installed.
pub const INSTALL_FAILED: Code = Code::new("NAVE-0101", 502, "the switch did not confirm a rule");
/// A rule was missing or different when it was read back.
pub const VALIDATION_FAILED: Code = Code::new("NAVE-0102", 502, "a rule is missing on its switch, or differs");
/// All cookies or meters are in use.
pub const POOL_EMPTY: Code = Code::new("NAVE-0103", 503, "no cookie or meter is free");
/// The flow does not exist.
pub const UNKNOWN_FLOW: Code = Code::new("NAVE-0104", 404, "the flow does not exist");
/// The flow already exists.
pub const FLOW_EXISTS: Code = Code::new("NAVE-0105", 409, "the flow already exists");
/// A rule could not be removed.
pub const REMOVAL_FAILED: Code = Code::new("NAVE-0106", 502, "a rule could not be removed");
