//! The trip as a program: its banner, and the statuses of its answers.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nave::serde_json::{Value, json};

/// A process that is killed when this is dropped.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn trip(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trip"));
    command.args(args);
    command
}

#[test]
fn the_program_prints_its_name_and_returns_the_statuses_of_its_workflow() {
    let up = trip(&["up", "--rest", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn();
    let mut up = Up(up.expect("the binary starts"));
    let mut banner: Vec<String> = Vec::new();
    for line in BufReader::new(up.0.stdout.take().expect("stdout is piped")).lines() {
        banner.push(line.expect("the banner is text"));
        if banner.last().is_some_and(|line| line.contains("Ctrl-C")) {
            break;
        }
    }
    let own = concat!("trip ", env!("CARGO_PKG_VERSION"), " ");
    assert!(banner.first().is_some_and(|line| line.starts_with(own)), "{banner:?}");
    assert!(!banner.concat().contains("rest-api.http"), "rest-api.http belongs to the binary nave: {banner:?}");
    let url = banner.iter().find_map(|line| line.trim_start().strip_prefix("REST")?.split_whitespace().next());
    let url = url.expect("the banner has the REST address");
    let to_rome = |key: &str| -> Value {
        let args = ["operations", "start", "trip", key, "--body", r#"{"to": "Rome"}"#, "--url", url, "--json"];
        let output = trip(&args).output().expect("the binary starts");
        let body = if output.status.success() { &output.stdout } else { &output.stderr };
        nave::serde_json::from_slice(body).unwrap_or_else(|fault| panic!("{fault}: {output:?}"))
    };
    for key in ["monday", "tuesday", "friday"] {
        assert_eq!(to_rome(key), json!({"to": "Rome", "price": 900}));
    }
    let refused = to_rome("saturday");
    assert_eq!((&refused["status"], &refused["code"]), (&json!(409), &json!("NAVE-0049")), "{refused}");
    let version = trip(&["--version"]).output().expect("the binary starts").stdout;
    assert_eq!(String::from_utf8_lossy(&version).trim(), own.trim());
}
