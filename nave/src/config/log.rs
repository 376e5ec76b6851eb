//! Checks the filter in `log`. The parser of the filter accepts any word as the name of a crate, so
//! a misspelt level would silently turn logging off.

use tracing_subscriber::EnvFilter;

use crate::suggest;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The crates that log: ours, and dependencies with useful log lines.
const CRATES: [&str; 19] = [
    "axum",
    "bus",
    "coordinator",
    "floodlight_sim",
    "flows",
    "hub",
    "hyper",
    "hyper_util",
    "librdkafka",
    "mio",
    "nave",
    "northbound",
    "rdkafka",
    "spoke",
    "tokio",
    "topology",
    "ureq",
    "wire",
    "workers",
];

/// Returns why a filter is refused and what is allowed; none if it is valid. `own` is the crate of
/// the program. A program with its own topologies may have further crates, so there only names
/// close to a known one are refused.
pub(super) fn fault(filter: &str, own: &str, has_other_crates: bool) -> Option<String> {
    let known: Vec<&str> = LEVELS.into_iter().chain(CRATES).chain([own]).collect();
    if filter.trim().is_empty() {
        return Some(format!("is empty; allowed is a level ({}), or levels by crate", LEVELS.join(", ")));
    }
    for directive in filter.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        let (target, level) =
            directive.rsplit_once('=').map_or((directive, None), |(target, level)| (target, Some(level)));
        let name = target.split([':', '[']).next().unwrap_or_default();
        let level = level.filter(|level| !is_level(level) && !level.ends_with([']', '}']));
        if let Some(level) = level {
            return Some(format!("has the level `{level}`{}; allowed is {}", meant(level, &LEVELS), LEVELS.join(", ")));
        }
        let is_known = name.is_empty() || is_level(name) || CRATES.contains(&name) || name == own;
        let meant = meant(name, &known);
        let is_foreign = has_other_crates && meant.is_empty();
        if !is_known && !is_foreign {
            let (levels, crates) = (LEVELS.join(", "), CRATES.join(", "));
            return Some(format!("names `{name}`{meant}; allowed is a level ({levels}) or a crate ({crates})"));
        }
    }
    let unreadable = EnvFilter::try_new(filter).err()?;
    Some(format!("cannot be read: {unreadable}; allowed is a filter, like \"info\" or \"warn,topology=debug\""))
}

fn is_level(name: &str) -> bool {
    LEVELS.contains(&name.to_ascii_lowercase().as_str())
}

fn meant(name: &str, known: &[&str]) -> String {
    let near = suggest::nearest(&name.to_ascii_lowercase(), known.iter().copied());
    near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_level_or_crate_is_refused_with_the_nearest_name() {
        for (filter, message) in [
            ("wran", "names `wran` (did you mean `warn`?)"),
            ("", "is empty"),
            (" ", "is empty"),
            ("warn,topolgy=debug", "names `topolgy` (did you mean `topology`?)"),
            ("topology=debgu", "has the level `debgu` (did you mean `debug`?)"),
            ("elsewhere=info", "names `elsewhere`; allowed is a level (off, error"),
            ("hub::table::=", "has the level ``"),
        ] {
            let fault = fault(filter, "nave", false).expect(filter);
            assert!(fault.contains(message), "{filter}: {fault}");
        }
    }

    #[test]
    fn levels_crates_modules_and_spans_are_accepted() {
        for filter in
            ["info", "WARN", "off,nave=trace", "hub::table=debug", "[request{route=x}]=debug", "librdkafka=info"]
        {
            assert_eq!(fault(filter, "nave", false), None, "{filter}");
        }
        assert_eq!(fault("my_program=debug", "my_program", false), None);
        assert_eq!(fault("a_library_of_mine=debug", "my_program", true), None);
        assert!(fault("wran", "my_program", true).is_some());
    }
}
