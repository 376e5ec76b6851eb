//! Settings that lane code sees. They are part of a lane's state: only an owner record changes them.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The settings in force: one entry for each component that has some.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings(Value);

impl Default for Settings {
    fn default() -> Self {
        Self(Value::Object(serde_json::Map::new()))
    }
}

impl Settings {
    /// Settings from an object with an entry for each component.
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// The same with `settings` for `component`.
    ///
    /// # Panics
    /// Where `settings` cannot be written as JSON, which a plain struct of numbers and texts always can.
    #[must_use]
    pub fn with(mut self, component: &str, settings: &impl serde::Serialize) -> Self {
        self.0[component] = serde_json::to_value(settings).expect("settings are plain data");
        self
    }

    /// Takes the entries of `others` in place of its own.
    pub fn take(&mut self, others: &Settings) {
        if let Value::Object(others) = &others.0 {
            for (component, settings) in others {
                self.0[component.as_str()] = settings.clone();
            }
        }
    }

    /// The settings of `component`; none where there are none, or where they cannot be read as `T`.
    pub fn of<T: DeserializeOwned>(&self, component: &str) -> Option<T> {
        serde_json::from_value(self.0.get(component)?.clone()).ok()
    }

    /// As they stand in an owner record.
    pub fn as_value(&self) -> &Value {
        &self.0
    }
}
