//! What a process has used so far, thread by thread (proc(5)).

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Linux tells processor time in hundredths of a second (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

pub struct Usage {
    pub resident_kb: u64,
    pub threads: usize,
    /// Processor time in the program.
    pub user: Duration,
    /// Processor time in the kernel, on its behalf.
    pub system: Duration,
}

impl Usage {
    pub fn of(process: u32) -> Self {
        let folder = Path::new("/proc").join(process.to_string());
        let threads = fs::read_dir(folder.join("task")).unwrap().count();
        let stat = fs::read_to_string(folder.join("stat")).unwrap();
        // The name in brackets may hold spaces. utime and stime are the 14th and 15th field; the 3rd comes after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |place: usize| TICK * fields[place].parse::<u32>().unwrap();
        Self { resident_kb: resident_kb(&folder), threads, user: ticks(11), system: ticks(12) }
    }

    /// What was used since then, and what is resident now.
    pub fn since(self, before: &Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system, ..self }
    }
}

fn resident_kb(folder: &Path) -> u64 {
    let status = fs::read_to_string(folder.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
