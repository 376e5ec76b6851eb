//! The settings of lane code. They are part of a lane's state: only an owner record changes them.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The settings of all components: one JSON entry per component.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings(Value);

impl Default for Settings {
    fn default() -> Self {
        Self(Value::Object(serde_json::Map::new()))
    }
}

impl Settings {
    /// Makes settings from an object with one entry per component.
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// Returns the settings with `settings` for `component`.
    ///
    /// # Panics
    /// If `settings` cannot be serialized as JSON; a plain struct of numbers and texts always can.
    #[must_use]
    pub fn with(mut self, component: &str, settings: &impl serde::Serialize) -> Self {
        self.0[component] = serde_json::to_value(settings).expect("settings are plain data");
        self
    }

    /// Replaces the entries that `others` has.
    pub fn take(&mut self, others: &Settings) {
        if let Value::Object(others) = &others.0 {
            for (component, settings) in others {
                self.0[component.as_str()] = settings.clone();
            }
        }
    }

    /// Returns the settings of `component`; `None` if it has none or they cannot be parsed as `T`.
    pub fn of<T: DeserializeOwned>(&self, component: &str) -> Option<T> {
        serde_json::from_value(self.0.get(component)?.clone()).ok()
    }

    /// Returns the settings as they are written into an owner record.
    pub fn as_value(&self) -> &Value {
        &self.0
    }
}
