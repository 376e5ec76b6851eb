//! `docs/lessons.md` names a test for each lesson, `docs/guarantees.md` one for each guarantee,
//! `docs/conformance.md` one for each behaviour of the engine, and these tests exist.

use std::path::{Path, PathBuf};

const LESSONS: &str = "docs/lessons.md";
const GUARANTEES: &str = "docs/guarantees.md";
const CONFORMANCE: &str = "docs/conformance.md";

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
    let promises: Vec<String> = (1..=26).map(|n| format!("G{n}")).collect();
    assert_eq!(numbers(GUARANTEES), promises);
    let from_other_systems = (1..=40).map(|n| n.to_string()).chain((1..=5).map(|n| format!("W{n}")));
    let own = (41..=51).map(|n: u32| n.to_string());
    let expected: Vec<String> = from_other_systems.chain(own).collect();
    assert_eq!(numbers(LESSONS), expected);
}

#[test]
fn every_behaviour_of_the_engine_is_listed_once() {
    let mut numbers: Vec<String> = rows(CONFORMANCE).into_iter().map(|[number, ..]| number).collect();
    let graph = [1, 2, 3, 4, 12, 13, 17, 18, 19, 20, 72];
    let acking = [5, 7, 9, 10, 11, 14, 23, 24];
    let transport = [25, 27, 28, 29, 34, 36, 37, 39];
    let state_and_kafka = [50, 51, 52, 53, 55, 56, 57, 60, 62, 64, 65, 66, 67, 68, 69, 70];
    let numbered = [&graph[..], &acking, &transport, &state_and_kafka].concat();
    let mut expected: Vec<String> = numbered.into_iter().map(|n| format!("C{n}")).collect();
    expected.extend((1..=5).map(|n| format!("B{n}")));
    numbers.sort_unstable();
    expected.sort_unstable();
    assert_eq!(numbers, expected);
}

#[test]
fn every_referenced_test_exists() {
    for [number, _, _, tests] in [LESSONS, GUARANTEES, CONFORMANCE].into_iter().flat_map(rows) {
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
    for [number, fault, answer, _] in [LESSONS, GUARANTEES, CONFORMANCE].into_iter().flat_map(rows) {
        assert!(fault.ends_with('.') && answer.ends_with('.'), "{number}: both cells must be sentences");
    }
}
