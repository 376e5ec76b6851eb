//! Child processes of `nave`. They run this same program: see `main`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// A process of `nave`. Dropping it kills the process.
pub(crate) struct Nave {
    child: Child,
    /// The lines that it printed at its start.
    banner: Vec<String>,
}

impl Drop for Nave {
    fn drop(&mut self) {
        // Fails only if the process has already ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Nave {
    /// Starts it with these arguments and waits for its banner.
    pub(crate) fn start(args: &[String]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?).args(args).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let mut nave = Self { child, banner: Vec::new() };
        for line in lines {
            nave.banner.push(line?);
            if nave.banner.last().is_some_and(|line| line.contains("Ctrl-C")) {
                return Ok(nave);
            }
        }
        anyhow::bail!("nave {} did not start; its output is above", args.join(" "))
    }

    /// Runs it to its end and checks its exit status.
    pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
        let status = Command::new(std::env::current_exe()?).args(args).stdout(Stdio::null()).status()?;
        anyhow::ensure!(status.success(), "nave {}: {status}", args.join(" "));
        Ok(())
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The address of an interface in the banner: `REST`, `health`.
    pub(crate) fn address(&self, interface: &str) -> anyhow::Result<SocketAddr> {
        let url = self.banner.iter().find_map(|line| line.trim_start().strip_prefix(interface));
        let address = url.and_then(|url| url.split_whitespace().next()?.strip_prefix("http://"));
        Ok(address.with_context(|| format!("no address of {interface} in {:?}", self.banner))?.parse()?)
    }

    /// Stops it with SIGTERM and checks its exit status.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot send SIGTERM")?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "nave stopped with {status}");
        Ok(())
    }

    /// The sum of a counter over all labels, from its metrics.
    pub(crate) fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let mut stream = TcpStream::connect(self.address("health")?)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let of = |line: &str| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<u64>().ok();
        Ok(text.lines().filter_map(of).sum())
    }
}
