//! What is wrong with a configuration: where it was said, the field, the value, and what is allowed.

use std::fmt;

use wire::Code;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Who said it: `nave.toml, line 12`, `NAVE_REST_LISTEN`, `--rest`, or `the defaults`.
    pub said_by: String,
    /// The path of the field.
    pub field: String,
    /// What is wrong with it, and what is allowed.
    pub what: String,
}

impl Fault {
    /// A field with a value that is not allowed.
    pub(super) fn value(said_by: String, field: &str, value: &str, allowed: &str) -> Self {
        Self { said_by, field: field.into(), what: format!("is {value}; allowed is {allowed}") }
    }

    /// A file that a field names and that cannot be used.
    pub(crate) fn file(said_by: &str, path: &str, error: &dyn fmt::Display) -> Self {
        Self { said_by: said_by.to_owned(), field: path.into(), what: format!("cannot be used: {error}") }
    }

    /// A field that is not one.
    pub(super) fn unknown(said_by: String, field: &str, known: &str) -> Self {
        Self { said_by, field: field.into(), what: format!("is not a field; there are: {known}") }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}` {}", self.said_by, self.field, self.what)
    }
}

/// All faults of a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Faults(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, faults) = (self.0.len(), if self.0.len() == 1 { "fault" } else { "faults" });
        write!(f, "{}: the configuration cannot be used ({count} {faults})", Code::BadConfig)?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}
