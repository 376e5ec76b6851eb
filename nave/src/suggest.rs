//! Suggestions for misspelt names.

use strsim::osa_distance;

/// Returns the nearest of `known` if it differs by at most two letters, and by at most a third of
/// the word.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).min(2);
    let near =
        known.into_iter().map(|known| (osa_distance(word, known), known)).filter(|(far, _)| (1..=limit).contains(far));
    near.min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_the_nearest_name_and_another_word_finds_none() {
        let known = ["NAVE_REST_LISTEN", "NAVE_BUS_KIND"];
        assert_eq!(nearest("NAVE_REST_LISTN", known), Some("NAVE_REST_LISTEN"));
        assert_eq!(nearest("NAVE_PORT_8088_TCP", known), None);
        assert_eq!(nearest("NAVE_BUS_KIND", known), None, "an exact match is no typo");
        assert_eq!(nearest("wran", ["error", "warn"]), Some("warn"), "swapped neighbours are one difference");
    }
}
