//! Every example of `docs/rest.md`, sent to a running `nave up` in the order of the page, gets the
//! documented answer. Every path in `docs/codes.md` exists. The guide shows the files of the first
//! crate.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// An example of `docs/rest.md`.
struct Example {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    status: u16,
    /// Fields that the answer must contain.
    expected_fields: Value,
}

fn examples() -> Vec<Example> {
    let page = include_str!("../../docs/rest.md");
    let blocks = page.split("```http\n").skip(1);
    blocks.map(|block| parse(block.split("```").next().expect("a block ends"))).collect()
}

fn parse(block: &str) -> Example {
    let (request, answer) = block.split_once("\n\n").unwrap_or_else(|| panic!("no answer in {block}"));
    let mut lines = request.lines();
    let (method, path) = lines.next().and_then(|line| line.split_once(' ')).expect("a method and a path");
    let (body, headers): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with('{'));
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (status, expected_fields) = answer.trim().split_once(' ').unwrap_or((answer.trim(), "null"));
    Example {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: headers.into_iter().map(|line| header(line).expect("a header")).collect(),
        body: body.concat(),
        status: status.parse().expect("a status"),
        expected_fields: serde_json::from_str(expected_fields)
            .unwrap_or_else(|error| panic!("{error} in {expected_fields}")),
    }
}

/// A `nave up`. It is killed when this is dropped.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn up() -> (Up, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_nave"))
        .args(["up", "--rest", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines().map_while(Result::ok);
    let mut url = None;
    for line in lines {
        if line.trim_start().starts_with("REST") {
            url = line.split_whitespace().nth(1).map(str::to_owned);
        }
        if line.contains("Ctrl-C") {
            break;
        }
    }
    (Up(child), url.expect("it prints the URL of its REST interface"))
}

#[test]
fn every_example_in_the_rest_docs_is_answered_as_documented() {
    let examples = examples();
    assert!(examples.len() > 30, "{} examples", examples.len());
    let (_up, url) = up();
    let config =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30)));
    let agent: ureq::Agent = config.build().into();
    let mut operation = String::new();
    for Example { method, path, headers, body, status, expected_fields } in examples {
        let mut request = ureq::http::Request::builder()
            .method(method.as_str())
            .uri(format!("{url}{}", path.replace("OPERATION", &operation)));
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let mut response = agent.run(request.body(body).expect("a request")).expect("it answers");
        let answer = response.body_mut().read_to_string().expect("it answers with text");
        assert_eq!(response.status().as_u16(), status, "{method} {path}: {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap_or(Value::Null);
        for (name, value) in expected_fields.as_object().into_iter().flatten() {
            let expected = value.as_str().map_or(value.clone(), |text| text.replace("OPERATION", &operation).into());
            assert_eq!(answer[name], expected, "`{name}` of {method} {path}: {answer}");
        }
        if let Some(named) = answer["operation"].as_str() {
            named.clone_into(&mut operation);
        }
    }
}

#[test]
fn every_path_in_the_code_docs_exists() {
    let document: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).expect("JSON");
    let quoted = include_str!("../../docs/codes.md").split('`').skip(1).step_by(2);
    let named: Vec<&str> = quoted.filter(|text| text.starts_with('/')).collect();
    assert!(!named.is_empty(), "codes.md quotes paths in backquotes");
    let unknown: Vec<&&str> = named.iter().filter(|path| document["paths"].get(path).is_none()).collect();
    assert!(unknown.is_empty(), "docs/openapi.json has no {unknown:?}");
}

#[test]
fn the_guide_shows_the_files_of_the_first_crate() {
    let page = include_str!("../../docs/guide/first-crate.md");
    for (language, file) in [
        ("toml", include_str!("../../examples/first-crate/Cargo.toml")),
        ("rust", include_str!("../../examples/first-crate/src/main.rs")),
    ] {
        assert!(
            page.contains(&format!("\n```{language}\n{file}```\n")),
            "docs/guide/first-crate.md differs in {language}"
        );
    }
}
