//! Suggestions for misspelt names.

/// Returns the nearest of `known` if it differs by at most two letters, and by at most a third of
/// the word.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).min(2);
    let near =
        known.into_iter().map(|known| (distance(word, known), known)).filter(|(far, _)| (1..=limit).contains(far));
    near.min().map(|(_, known)| known)
}

/// Returns how many letters to change, add, remove or swap with their neighbour: the optimal string
/// alignment distance (Damerau 1964, Levenshtein 1965).
fn distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|word| word.chars().collect::<Vec<char>>());
    let first: Vec<usize> = (0..=b.len()).collect();
    let mut rows = vec![first];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(x != y);
            let is_swap = i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y;
            let swapped = if is_swap { rows[i - 1][j - 1] + 1 } else { usize::MAX };
            row.push(replaced.min(rows[i][j + 1] + 1).min(row[j] + 1).min(swapped));
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
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
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "")), (3, 3, 3));
        assert_eq!((distance("wran", "warn"), distance("ca", "abc")), (1, 3));
        assert_eq!(nearest("wran", ["error", "warn"]), Some("warn"));
    }
}
