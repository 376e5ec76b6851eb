//! `docs/lessons.md` names a test for each lesson, and `docs/guarantees.md` for each promise; and that test exists.

use std::path::{Path, PathBuf};

const LESSONS: &str = "docs/lessons.md";
const GUARANTEES: &str = "docs/guarantees.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rows of all tables: number, fault or promise, answer or settings, and what holds it.
fn rows(file: &str) -> Vec<[String; 4]> {
    let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|fault| panic!("{file}: {fault}"));
    let row = |line: &str| -> Option<[String; 4]> {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").map(|cell| cell.trim().to_owned());
        cells.collect::<Vec<_>>().try_into().ok()
    };
    text.lines().filter_map(row).filter(|[number, ..]| number != "no.").collect()
}

#[test]
fn every_lesson_has_its_line_in_order_and_once() {
    let numbers = |file| rows(file).into_iter().map(|[number, ..]| number).collect::<Vec<_>>();
    let promises: Vec<String> = (1..=24).map(|n| format!("G{n}")).collect();
    assert_eq!(numbers(GUARANTEES), promises);
    let of_others = (1..=40).map(|n| n.to_string()).chain((1..=5).map(|n| format!("W{n}")));
    let our_own = (41..=51).map(|n: u32| n.to_string());
    let expected: Vec<String> = of_others.chain(our_own).collect();
    assert_eq!(numbers(LESSONS), expected);
}

#[test]
fn every_test_that_is_named_exists_in_the_file_that_is_named() {
    for [number, _, _, held] in [LESSONS, GUARANTEES].into_iter().flat_map(rows) {
        let named: Vec<&str> = held.split('`').filter(|part| part.contains("::")).collect();
        assert!(!named.is_empty() || held.starts_with("not yet: "), "{number} has neither test nor excuse: {held}");
        for test in named {
            let (file, name) = test.split_once("::").expect("just looked");
            let code = std::fs::read_to_string(root().join(file)).unwrap_or_default();
            assert!(!code.is_empty(), "{number}: there is no {file}");
            let found = code.contains(&format!("fn {name}("));
            assert!(found || code.contains(&format!("fn {name}<")), "{number}: no `fn {name}` in {file}");
        }
    }
}

#[test]
fn every_lesson_says_what_went_wrong_and_what_is_done_about_it() {
    for [number, fault, answer, _] in [LESSONS, GUARANTEES].into_iter().flat_map(rows) {
        assert!(fault.ends_with('.') && answer.ends_with('.'), "{number}: two sentences");
    }
}
