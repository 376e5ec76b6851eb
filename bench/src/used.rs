//! What a process has used, as Linux counts it.

use anyhow::Context;

/// User and system time of a process so far: in hundredths of a second, as milliseconds.
pub(crate) fn processor_ms(process: &str) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in the second field may hold blanks; it ends with the last bracket.
    let fields = stat.rsplit_once(')').context("a bracket")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? * 10)
}

/// The memory of this process that is in use now.
pub(crate) fn memory_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a line for the memory")?;
    let kb: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kb * 1024)
}
