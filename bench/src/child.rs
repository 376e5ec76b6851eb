//! `nave` in processes of their own. They are this very program: see `main`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// A process of `nave`. It is killed when this is dropped.
pub(crate) struct Nave {
    child: Child,
    /// What it printed when it began.
    banner: Vec<String>,
}

impl Drop for Nave {
    fn drop(&mut self) {
        // It is gone already, or it is ours to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Nave {
    /// Starts it with these arguments, and waits until it has said where it is.
    pub(crate) fn start(args: &[String]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?).args(args).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("it is piped")?).lines();
        let mut nave = Self { child, banner: Vec::new() };
        for line in lines {
            nave.banner.push(line?);
            if nave.banner.last().is_some_and(|line| line.contains("Ctrl-C")) {
                return Ok(nave);
            }
        }
        anyhow::bail!("nave {} did not begin; what it said is above", args.join(" "))
    }

    /// Runs it to its end, which is to be a good one.
    pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
        let status = Command::new(std::env::current_exe()?).args(args).stdout(Stdio::null()).status()?;
        anyhow::ensure!(status.success(), "nave {}: {status}", args.join(" "));
        Ok(())
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves what it calls so: `REST`, `health`.
    pub(crate) fn address(&self, word: &str) -> anyhow::Result<SocketAddr> {
        let url = self.banner.iter().find_map(|line| line.trim_start().strip_prefix(word));
        let address = url.and_then(|url| url.split_whitespace().next()?.strip_prefix("http://"));
        Ok(address.with_context(|| format!("no address of {word} in {:?}", self.banner))?.parse()?)
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("SIGTERM could not be sent")?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "it stopped with {status}");
        Ok(())
    }

    /// A counter of its metrics, over all labels.
    pub(crate) fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let mut stream = TcpStream::connect(self.address("health")?)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let of = |line: &str| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<u64>().ok();
        Ok(text.lines().filter_map(of).sum())
    }
}
