//! `docs/lessons.md` names a test for each lesson, `docs/guarantees.md` one for each guarantee, and
//! these tests exist.

use std::path::{Path, PathBuf};

const LESSONS: &str = "docs/lessons.md";
const GUARANTEES: &str = "docs/guarantees.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rows of all tables: number, problem or guarantee, answer or settings, and tests.
fn rows(file: &str) -> Vec<[String; 4]> {
    let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|fault| panic!("{file}: {fault}"));
    let row = |line: &str| -> Option<[String; 4]> {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").map(|cell| cell.trim().to_owned());
        cells.collect::<Vec<_>>().try_into().ok()
    };
    text.lines().filter_map(row).filter(|[number, ..]| number != "no.").collect()
}

#[test]
fn every_lesson_and_guarantee_is_listed_once_and_in_order() {
    let numbers = |file| rows(file).into_iter().map(|[number, ..]| number).collect::<Vec<_>>();
    let promises: Vec<String> = (1..=24).map(|n| format!("G{n}")).collect();
    assert_eq!(numbers(GUARANTEES), promises);
    let from_other_systems = (1..=40).map(|n| n.to_string()).chain((1..=5).map(|n| format!("W{n}")));
    let own = (41..=51).map(|n: u32| n.to_string());
    let expected: Vec<String> = from_other_systems.chain(own).collect();
    assert_eq!(numbers(LESSONS), expected);
}

#[test]
fn every_referenced_test_exists() {
    for [number, _, _, tests] in [LESSONS, GUARANTEES].into_iter().flat_map(rows) {
        let named: Vec<&str> = tests.split('`').filter(|part| part.contains("::")).collect();
        assert!(
            !named.is_empty() || tests.starts_with("not yet: "),
            "{number} names no test and does not begin with `not yet: `: {tests}"
        );
        for test in named {
            let (file, name) = test.split_once("::").expect("the filter requires `::`");
            let code = std::fs::read_to_string(root().join(file)).unwrap_or_default();
            assert!(!code.is_empty(), "{number}: there is no {file}");
            let found = code.contains(&format!("fn {name}("));
            assert!(found || code.contains(&format!("fn {name}<")), "{number}: no `fn {name}` in {file}");
        }
    }
}

#[test]
fn every_lesson_states_the_problem_and_the_answer() {
    for [number, fault, answer, _] in [LESSONS, GUARANTEES].into_iter().flat_map(rows) {
        assert!(fault.ends_with('.') && answer.ends_with('.'), "{number}: both cells must be sentences");
    }
}
