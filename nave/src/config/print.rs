//! What `--print-config` shows: every field as it is used, secrets masked.

use super::{Config, said};

/// What stands in place of a secret.
const MASK: &str = "(secret)";

impl Config {
    /// The configuration as TOML: what is printed can be read back, secrets apart.
    pub fn to_toml(&self) -> String {
        let mut shown = self.clone();
        for (property, value) in &mut shown.bus.kafka.client {
            if bus::kafka::is_secret(property) {
                MASK.clone_into(value);
            }
        }
        let json = serde_json::to_value(&shown).expect("a configuration is plain data");
        toml::to_string(&said::plain(&json)).expect("tables, texts and numbers are TOML")
    }
}
