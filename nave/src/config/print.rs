//! The output of `--print-config`: every field with the value in use, secrets masked.

use super::{Config, raw};

/// Replaces a secret in the output.
const MASK: &str = "(secret)";

impl Config {
    /// Returns the configuration as TOML. Except for masked secrets, it can be read back.
    pub fn to_toml(&self) -> String {
        let mut shown = self.clone();
        for (property, value) in &mut shown.bus.kafka.client {
            if bus::kafka::is_secret(property) {
                MASK.clone_into(value);
            }
        }
        let json = serde_json::to_value(&shown).expect("a configuration is plain data");
        toml::to_string(&raw::plain(&json)).expect("tables, texts and numbers are TOML")
    }
}
