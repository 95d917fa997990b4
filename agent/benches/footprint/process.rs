//! What a process has used so far, thread by thread (proc(5)).

use std::fs;
use std::path::Path;
use std::time::Duration;

/// The thread that reads the meter, as the agent calls it.
const METER: &str = "meter";

pub struct Usage {
    pub resident_kb: u64,
    pub threads: usize,
    /// Processor time of all threads.
    pub processor: Duration,
    /// That of the thread that reads the meter.
    pub meter: Duration,
}

impl Usage {
    pub fn of(process: u32) -> Self {
        let folder = Path::new("/proc").join(process.to_string());
        let (mut threads, mut processor, mut meter) = (0, Duration::ZERO, Duration::ZERO);
        for thread in fs::read_dir(folder.join("task")).unwrap() {
            let thread = thread.unwrap().path();
            let used = processor_time(&thread);
            threads += 1;
            processor += used;
            if fs::read_to_string(thread.join("comm")).unwrap().trim() == METER {
                meter += used;
            }
        }
        Self { resident_kb: resident_kb(&folder), threads, processor, meter }
    }

    /// What was used since then, and what is resident now.
    pub fn since(self, before: &Self) -> Self {
        Self { processor: self.processor - before.processor, meter: self.meter - before.meter, ..self }
    }
}

/// The first number of `schedstat` is nanoseconds on a processor (Linux, Documentation/scheduler/sched-stats.rst).
fn processor_time(thread: &Path) -> Duration {
    let text = fs::read_to_string(thread.join("schedstat")).unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn resident_kb(folder: &Path) -> u64 {
    let status = fs::read_to_string(folder.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
