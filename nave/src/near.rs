//! Which of the known words somebody may have meant.

/// The nearest of `known`, where one is so near that a slip of the pen explains it: two letters at most, and never more than a
/// third of the word.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).min(2);
    let near =
        known.into_iter().map(|known| (distance(word, known), known)).filter(|(far, _)| (1..=most).contains(far));
    near.min().map(|(_, known)| known)
}

/// How many letters have to be changed, added or taken away (Levenshtein 1965).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = replaced.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_forgiven_and_another_word_is_not() {
        let known = ["NAVE_REST_LISTEN", "NAVE_BUS_KIND"];
        assert_eq!(nearest("NAVE_REST_LISTN", known), Some("NAVE_REST_LISTEN"));
        assert_eq!(nearest("NAVE_PORT_8088_TCP", known), None);
        assert_eq!(nearest("NAVE_BUS_KIND", known), None, "what is known is not near, but there");
        assert_eq!((distance("kitten", "sitting"), distance("", "abc")), (3, 3));
    }
}
