//! Compares this broker with mosquitto: how quick, how fast and how large they are.
//!
//! ```text
//! cargo run --release -p grid-broker --example compare
//! cargo run --release -p grid-broker --example compare -- --quick --only throughput
//! ```
//!
//! Both brokers run in processes of their own on free ports of the loopback address and are spoken to by the same
//! clients: raw sockets, MQTT 3.1.1, TCP_NODELAY. Rounds alternate between the brokers, so that whatever else the
//! machine does hits both. Ours is this program, started by itself with its budgets per client raised, since a single
//! client here sends what a street does; all other limits are the defaults. mosquitto has `set_tcp_nodelay true` and no
//! limit on queues. Goals are stated and not asserted. The program ends by itself with what it started.
//!
//! | module | what it measures or holds |
//! |---|---|
//! | `latency` | from publish to one subscriber, at a steady rate |
//! | `throughput` | messages a second, as many as go |
//! | `memory` | resident memory with clients, and after a million messages |
//! | `burst` | whether many messages at once arrive, all of them |
//! | `brokers`, `client`, `flood` | what these need |
//! | `figures` | the table |

mod brokers;
mod burst;
mod client;
mod figures;
mod flood;
mod latency;
mod memory;
mod throughput;

use clap::{Parser, ValueEnum};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Compares this broker with mosquitto.
#[derive(Parser)]
struct Arguments {
    /// Fewer and shorter rounds, some 15 s in all; the figures then say little.
    #[arg(long)]
    quick: bool,
    /// Measure only this part; may be given more than once.
    #[arg(long, value_enum)]
    only: Vec<What>,
    /// What this process is: used by the program when it starts itself.
    #[arg(hide = true)]
    role: Option<brokers::Role>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Latency,
    Throughput,
    Memory,
    Burst,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if let Some(role) = arguments.role {
        return brokers::run(role);
    }
    // A thousand clients need more files than a shell usually gives; the brokers inherit this.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: files.maximum, ..files };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all)?;

    let runtime = tokio::runtime::Runtime::new()?;
    let wanted = |what| arguments.only.is_empty() || arguments.only.contains(&what);
    figures::heading();
    if wanted(What::Latency) {
        latency::compare(arguments.quick)?;
    }
    if wanted(What::Throughput) {
        throughput::compare(arguments.quick, &runtime)?;
    }
    if wanted(What::Memory) {
        memory::compare(arguments.quick, &runtime)?;
    }
    if wanted(What::Burst) {
        burst::compare()?;
    }
    Ok(())
}
