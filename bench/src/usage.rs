//! The resource usage of a process, from `/proc`.

use anyhow::Context;

/// The user and system time of a process in milliseconds, with a resolution of 10 ms.
pub(crate) fn processor_ms(process: &str) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in the second field may contain blanks; it ends with the last parenthesis.
    let fields = stat.rsplit_once(')').context("a closing parenthesis")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? * 10)
}

/// The resident memory of this process, in bytes.
pub(crate) fn memory_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a line for the memory")?;
    let kb: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kb * 1024)
}
