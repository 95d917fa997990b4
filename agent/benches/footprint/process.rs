//! What a process has used so far (proc(5)).

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Linux tells processor time in hundredths of a second (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

pub struct Usage {
    pub resident_kb: u64,
    pub threads: usize,
    /// Processor time, in the program and in the kernel on its behalf.
    pub processor: Duration,
}

impl Usage {
    pub fn of(process: u32) -> Self {
        let folder = Path::new("/proc").join(process.to_string());
        let threads = fs::read_dir(folder.join("task")).unwrap().count();
        let stat = fs::read_to_string(folder.join("stat")).unwrap();
        // The name in brackets may hold spaces. utime and stime are the 14th and 15th field; the 3rd comes after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |place: usize| TICK * fields[place].parse::<u32>().unwrap();
        Self { resident_kb: resident_kb(&folder), threads, processor: ticks(11) + ticks(12) }
    }

    /// What was used since then, and what is resident now.
    pub fn since(self, before: &Self) -> Self {
        Self { processor: self.processor - before.processor, ..self }
    }
}

fn resident_kb(folder: &Path) -> u64 {
    let status = fs::read_to_string(folder.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
