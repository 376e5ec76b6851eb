//! Configuration errors: source, field, value and allowed values.

use std::fmt;

use wire::Code;

/// One error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Source of the value: `nave.toml, line 12`, `NAVE_REST_LISTEN`, `--rest`, or `the defaults`.
    pub source: String,
    /// Path of the field.
    pub field: String,
    /// Problem and allowed values.
    pub message: String,
}

impl ConfigError {
    /// A value that is not allowed.
    pub(super) fn value(source: String, field: &str, value: &str, allowed: &str) -> Self {
        Self { source, field: field.into(), message: format!("is {value}; allowed is {allowed}") }
    }

    /// A file that cannot be used.
    pub(crate) fn file(source: &str, path: &str, error: &dyn fmt::Display) -> Self {
        Self { source: source.to_owned(), field: path.into(), message: format!("cannot be used: {error}") }
    }

    /// A field that does not exist.
    pub(super) fn unknown(source: String, field: &str, known: &str) -> Self {
        Self { source, field: field.into(), message: format!("is not a field; known fields: {known}") }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}` {}", self.source, self.field, self.message)
    }
}

/// All errors of a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl From<ConfigError> for ConfigErrors {
    fn from(fault: ConfigError) -> Self {
        ConfigErrors(vec![fault])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, faults) = (self.0.len(), if self.0.len() == 1 { "fault" } else { "faults" });
        write!(f, "{}: the configuration cannot be used ({count} {faults})", Code::BadConfig)?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigErrors {}
