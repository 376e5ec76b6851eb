//! A process that cannot start reports why.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::process::{any_ports, nave};

#[test]
fn a_process_without_a_broker_says_so_after_two_seconds() {
    let start = |command: &[&str]| {
        // This port is closed.
        let at = ["--bus", "kafka", "--brokers", "127.0.0.1:1", "--log", "off"];
        let args = [command, &at, &any_ports(command)].concat();
        nave(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for mut child in [start(&["up"]), start(&["run", "--role", "hub"])] {
        // The process ends when the brokers have not answered within the request timeout.
        let lines: Vec<String> = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{lines:?}");
        assert_eq!(lines[0], "not ready after 2 s: no broker has answered yet at 127.0.0.1:1", "{lines:?}");
        assert_eq!(lines.last().unwrap(), "error: the bus is unavailable: no broker answers", "{lines:?}");
    }
}
