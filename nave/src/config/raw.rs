//! Configuration values as the user wrote them, each with its source.
//!
//! Each value is a leaf: a path like `rest.listen`, and a value. The leaves of the defaults define
//! all fields; any other path is refused. So files, environment and options share one check, and
//! each error names its source.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::Value;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigError, ConfigErrors};
use super::{BusKind, Config, check, log};
use crate::program::Program;
use crate::suggest;

/// Variables that are not fields; other code reads them.
const OTHER_VARIABLES: [&str; 4] = ["NAVE_CONFIG", "NAVE_URL", "NAVE_TOKEN_FILE", "NAVE_KAFKA_CACHE"];
/// Below this path any name is a field: librdkafka checks them.
const CLIENT: &str = "bus.kafka.client.";
const CLIENT_VARIABLE: &str = "NAVE_BUS_KAFKA_CLIENT_";

/// All given values, from the weakest source to the strongest.
#[derive(Debug, Clone, Default)]
pub struct RawConfig {
    leaves: Vec<Leaf>,
    environment: Vec<(String, String)>,
    options: Vec<Leaf>,
}

/// One value.
#[derive(Debug, Clone)]
struct Leaf {
    path: String,
    value: Value,
    source: String,
}

impl RawConfig {
    /// Adds a configuration file; errors name it as `name`.
    ///
    /// # Errors
    /// If it is not TOML.
    pub fn file(&mut self, name: &str, text: &str) -> Result<(), ConfigErrors> {
        self.parsed(name, text, "")
    }

    /// Adds a file with the layout and the settings of one topology: a [`super::Layout`] alone.
    ///
    /// # Errors
    /// If it is not TOML.
    pub fn topology_file(&mut self, topology: &str, name: &str, text: &str) -> Result<(), ConfigErrors> {
        self.parsed(name, text, &format!("topologies.{topology}."))
    }

    fn parsed(&mut self, name: &str, text: &str, under: &str) -> Result<(), ConfigErrors> {
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(1, |span| line(span.start));
            let source = format!("{name}, line {at}");
            ConfigErrors(vec![ConfigError {
                source,
                field: "the file".into(),
                message: format!("is not TOML: {}", error.message()),
            }])
        })?;
        let mut offsets = BTreeMap::new();
        offsets_of(table.get_ref(), "", &mut offsets);
        let values: toml::Table = toml::from_str(text).map_err(|error| {
            let source = name.to_owned();
            ConfigErrors(vec![ConfigError {
                source,
                field: "the file".into(),
                message: format!("is not TOML: {}", error.message()),
            }])
        })?;
        let mut leaves = BTreeMap::new();
        flatten(&Value::Table(values), "", &mut leaves);
        for (path, value) in leaves {
            let at = offsets.get(&path).map_or(1, |at| line(*at));
            self.leaves.push(Leaf { path: format!("{under}{path}"), value, source: format!("{name}, line {at}") });
        }
        Ok(())
    }

    /// Adds the variables whose names begin with `NAVE_`.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        self.environment.extend(variables.into_iter().filter(|(name, _)| name.starts_with("NAVE_")));
    }

    /// Adds an option of the command line.
    pub fn option(&mut self, option: &str, path: &str, value: impl Into<Value>) {
        self.options.push(Leaf { path: path.into(), value: value.into(), source: option.into() });
    }

    /// Adds `PATH=VALUE` from the command line. A value that is not TOML is a string.
    ///
    /// # Errors
    /// If there is no `=`.
    pub fn assignment(&mut self, text: &str) -> Result<(), ConfigErrors> {
        let Some((path, value)) = text.split_once('=') else {
            return Err(ConfigErrors(vec![ConfigError::value("--set".into(), text, "no assignment", "PATH=VALUE")]));
        };
        let parsed = toml::from_str::<toml::Table>(&format!("value = {value}")).ok();
        let value =
            parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(value.to_owned()));
        self.option("--set", path.trim(), value);
        Ok(())
    }

    /// Merges all sources into a checked configuration.
    ///
    /// # Errors
    /// All errors, as far as one does not hide another.
    pub fn resolve(&self, program: &Program) -> Result<Config, ConfigErrors> {
        let fields = self.defaults(program);
        let mut faults = Vec::new();
        let mut merged: BTreeMap<String, (Value, String)> = BTreeMap::new();
        let given = self.leaves.iter().cloned().chain(self.variables(&fields, &mut faults)).chain(self.options.clone());
        for leaf in given {
            match field(&leaf, &fields) {
                Ok(Some(value)) => drop(merged.insert(leaf.path, (value, leaf.source))),
                Ok(None) => {}
                Err(fault) => faults.push(fault),
            }
        }
        let mut table = toml::Table::new();
        for (path, value) in &fields {
            insert(&mut table, path, merged.get(path).map_or(value, |(value, _)| value).clone());
        }
        let mut client = toml::Table::new();
        for (path, (value, _)) in &merged {
            if let Some(property) = path.strip_prefix(CLIENT) {
                client.insert(property.to_owned(), value.clone());
            }
        }
        insert(&mut table, CLIENT.trim_end_matches('.'), Value::Table(client));
        let source = |path: &str| merged.get(path).map_or("the defaults".to_owned(), |(_, source)| source.clone());
        let config = serde_path_to_error::deserialize::<_, Config>(Value::Table(table)).map_err(|error| {
            let path = error.path().to_string();
            let value = merged.get(&path).map_or_else(String::new, |(value, _)| value.to_string());
            let allowed = check::allowed(&path).map_or_else(|| error.inner().message().to_owned(), str::to_owned);
            ConfigError::value(source(&path), &path, &value, &allowed)
        });
        match config {
            Ok(config) => {
                faults.extend(check::faults(&config, &source));
                let given = merged.iter().map(|(path, (value, source))| (path.as_str(), value, source.as_str()));
                faults.extend(check::without_effect(&config, given, |path| fields.get(path).cloned()));
                let has_other_crates = program.about() != Program::nave();
                faults.extend(log::fault(&config.log, &own_crate(), has_other_crates).map(|message| ConfigError {
                    source: source("log"),
                    field: "log".into(),
                    message,
                }));
                if faults.is_empty() { Ok(config) } else { Err(ConfigErrors(faults)) }
            }
            Err(fault) => {
                faults.push(fault);
                Err(ConfigErrors(faults))
            }
        }
    }

    /// Returns the leaves of the defaults. Some depend on other fields: on the kind of bus, and lanes and
    /// threads of a stage on those of its topology and of the process.
    fn defaults(&self, program: &Program) -> BTreeMap<String, Value> {
        let kind = self.peek("bus.kind").and_then(|kind| kind.as_str().map(str::to_owned));
        let kind = if kind.as_deref() == Some("kafka") { BusKind::Kafka } else { BusKind::Embedded };
        let mut fields = leaves_of(&Config::defaults(program, kind));
        let number = |path: &str| self.peek(path).filter(|value| value.as_integer().is_some_and(|number| number > 0));
        for (name, _) in program.topologies() {
            for (field, of_process) in [("lanes", None), ("threads", number("threads"))] {
                let (of_topology, stages) =
                    (format!("topologies.{name}.{field}"), format!("topologies.{name}.stages."));
                let Some(given) = number(&of_topology).or(of_process) else { continue };
                for (path, default) in &mut fields {
                    if *path == of_topology || (path.starts_with(&stages) && path.ends_with(field)) {
                        *default = given.clone();
                    }
                }
            }
        }
        fields
    }

    fn peek(&self, path: &str) -> Option<Value> {
        let of = |leaves: &[Leaf]| leaves.iter().rfind(|leaf| leaf.path == path).map(|leaf| leaf.value.clone());
        let name = variable(path);
        let found = self.environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        let of_variable = || {
            let text = found?;
            Some(text.parse().map_or_else(|_| Value::String(text.clone()), Value::Integer))
        };
        of(&self.options).or_else(of_variable).or_else(|| of(&self.leaves))
    }

    /// Sets `field` of every stage of `program`, for an option that applies to all stages.
    pub fn option_for_all_stages(&mut self, option: &str, field: &str, value: i64, program: &Program) {
        for path in leaves_of(&Config::defaults(program, BusKind::Embedded)).into_keys() {
            if is_of_stages(&path, field) {
                self.option(option, &path, value);
            }
        }
    }

    fn variables(&self, fields: &BTreeMap<String, Value>, faults: &mut Vec<ConfigError>) -> Vec<Leaf> {
        let names: BTreeMap<String, &String> = fields.keys().map(|path| (variable(path), path)).collect();
        let mut leaves = Vec::new();
        for (name, text) in &self.environment {
            let source = name.clone();
            if let Some(path) = names.get(name) {
                let value = typed(text, &fields[*path]);
                leaves.push(Leaf { path: (*path).clone(), value, source });
            } else if let Some(property) = name.strip_prefix(CLIENT_VARIABLE) {
                let path = format!("{CLIENT}{}", property.to_lowercase().replace('_', "."));
                leaves.push(Leaf { path, value: Value::String(text.clone()), source });
            } else if !OTHER_VARIABLES.contains(&name.as_str())
                && let Some(meant) = suggest::nearest(name, names.keys().map(String::as_str))
            {
                // Ignore other variables: the platform may set some with this prefix. Report a
                // likely typo.
                faults.push(ConfigError {
                    source,
                    field: name.clone(),
                    message: format!("is not known; did you mean {meant}?"),
                });
            }
        }
        leaves
    }
}

/// Checks the value of a field and converts it to the type of the default; none for a section that
/// is empty.
fn field(leaf: &Leaf, fields: &BTreeMap<String, Value>) -> Result<Option<Value>, ConfigError> {
    let Leaf { path, value, source } = leaf;
    let is_section = |path: &str| path.is_empty() || fields.keys().any(|known| known.starts_with(&format!("{path}.")));
    if let Some(property) = path.strip_prefix(CLIENT) {
        let allowed = "a string, a number, true or false";
        return match value {
            Value::String(text) => Ok(Some(Value::String(text.clone()))),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(Some(Value::String(value.to_string()))),
            Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                Err(ConfigError::value(source.clone(), &format!("{CLIENT}{property}"), "of another type", allowed))
            }
        };
    }
    match (fields.get(path), value) {
        (Some(_) | None, Value::Table(table)) if table.is_empty() && (is_section(path) || CLIENT.starts_with(path)) => {
            Ok(None)
        }
        (Some(known), value) => match same_type(known, value) {
            Ok(value) => Ok(Some(value)),
            Err(kind) => {
                let allowed = check::allowed(path).unwrap_or(kind);
                Err(ConfigError::value(source.clone(), path, &value.to_string(), allowed))
            }
        },
        (None, value) if is_section(path) => {
            Err(ConfigError::value(source.clone(), path, &value.to_string(), "a section with fields"))
        }
        (None, _) => {
            let mut parent = path.as_str();
            let mut unknown = path.as_str();
            while !is_section(parent) {
                unknown = parent;
                parent = parent.rsplit_once('.').map_or("", |(parent, _)| parent);
            }
            let under = if parent.is_empty() { String::new() } else { format!("{parent}.") };
            let mut known: Vec<&str> = fields
                .keys()
                .filter_map(|path| path.strip_prefix(&under))
                .map(|rest| rest.split('.').next().unwrap_or(rest))
                .collect();
            known.dedup();
            Err(ConfigError::unknown(source.clone(), unknown, &known.join(", ")))
        }
    }
}

/// Returns the value if it has the type of the default; otherwise the name of the expected type.
fn same_type(known: &Value, value: &Value) -> Result<Value, &'static str> {
    match (known, value) {
        (Value::String(_), Value::String(_))
        | (Value::Boolean(_), Value::Boolean(_))
        | (Value::Float(_), Value::Float(_)) => Ok(value.clone()),
        (Value::Integer(known), Value::Integer(given)) if *given >= 0 || *known < 0 => Ok(value.clone()),
        #[expect(clippy::cast_precision_loss, reason = "a number that a person wrote")]
        (Value::Float(_), Value::Integer(given)) => Ok(Value::Float(*given as f64)),
        (Value::String(_), _) => Err("a string"),
        (Value::Boolean(_), _) => Err("true or false"),
        (Value::Float(_), _) => Err("a number"),
        (Value::Integer(_), _) => Err("a whole number from 0"),
        (Value::Datetime(_) | Value::Array(_) | Value::Table(_), _) => Err("a value of the type of the default"),
    }
}

/// Parses the text of a variable as the type of its field; a string if that fails.
fn typed(text: &str, known: &Value) -> Value {
    let as_text = || Value::String(text.to_owned());
    match known {
        Value::Integer(_) => text.parse().map_or_else(|_| as_text(), Value::Integer),
        Value::Float(_) => text.parse().map_or_else(|_| as_text(), Value::Float),
        Value::Boolean(_) => text.parse().map_or_else(|_| as_text(), Value::Boolean),
        Value::String(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => as_text(),
    }
}

/// Returns the crate name of this program, from the name of its binary.
fn own_crate() -> String {
    let binary = std::env::current_exe().ok();
    let name = binary.as_deref().and_then(|path| path.file_stem()).map(|name| name.to_string_lossy().replace('-', "_"));
    name.unwrap_or_else(|| "nave".to_owned())
}

fn variable(path: &str) -> String {
    format!("NAVE_{}", path.to_uppercase().replace(['.', '-'], "_"))
}

fn is_of_stages(path: &str, field: &str) -> bool {
    path.starts_with("topologies.") && path.contains(".stages.") && path.ends_with(&format!(".{field}"))
}

/// Returns all leaves of a configuration.
pub(super) fn leaves_of(config: &Config) -> BTreeMap<String, Value> {
    let json = serde_json::to_value(config).expect("a configuration is plain data");
    let mut leaves = BTreeMap::new();
    flatten(&plain(&json), "", &mut leaves);
    leaves.retain(|path, _| !path.starts_with(CLIENT.trim_end_matches('.')));
    leaves
}

/// Converts JSON to TOML, without nulls: TOML has none, and an optional field is an empty string.
pub(super) fn plain(json: &Json) -> Value {
    match json {
        Json::Null => Value::String(String::new()),
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => number
            .as_i64()
            .map_or_else(|| Value::Float(number.as_f64().expect("a JSON number fits one of these")), Value::Integer),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(plain).collect()),
        Json::Object(fields) => {
            let known = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Table(known.map(|(name, value)| (name.clone(), plain(value))).collect())
        }
    }
}

fn flatten(value: &Value, path: &str, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) if !table.is_empty() => {
            for (name, value) in table {
                flatten(value, &joined(path, name), leaves);
            }
        }
        leaf => drop(leaves.insert(path.to_owned(), leaf.clone())),
    }
}

/// Returns the offset of each leaf in the text.
fn offsets_of(table: &DeTable<'_>, path: &str, offsets: &mut BTreeMap<String, usize>) {
    for (name, value) in table {
        let path = joined(path, name.get_ref());
        offsets.insert(path.clone(), name.span().start);
        if let DeValue::Table(table) = value.get_ref() {
            offsets_of(table, &path, offsets);
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn insert(table: &mut toml::Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(table.insert(path.to_owned(), value)),
        Some((section, rest)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(toml::Table::new()));
            if let Value::Table(section) = section {
                insert(section, rest, value);
            }
        }
    }
}
