//! `grid-broker`: the broker as a program.

mod ca;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use grid_broker::{Access, BrokerError, Limits};
use thiserror::Error;
use tokio::net::TcpListener;
use tracing::error;

/// MQTT broker for the devices behind one transformer.
#[derive(Debug, Parser)]
#[command(version, after_help = "Example:\n  grid-broker run --listen 127.0.0.1:1883")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker until SIGINT or SIGTERM. The log goes to stderr; RUST_LOG sets its level.
    #[command(
        after_help = "Example:\n  grid-broker run --listen 127.0.0.1:1883\n\nExit codes: 0 stopped by a signal, 1 \
                            the broker failed, 2 wrong arguments or address not available."
    )]
    Run {
        /// Address and port to listen on, for MQTT 3.1.1 and 5.
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1883")]
        listen: SocketAddr,
        /// Listen on an address that others can reach, without any login: anyone on the network may then read every
        /// message and command every device.
        #[arg(long)]
        open: bool,
    },
    /// The site's certificate authority: who may connect, as whom.
    Ca(ca::Arguments),
}

#[derive(Debug, Error)]
enum Failure {
    #[error(
        "will not listen openly on {0}: anyone on the network could read every message and command every device. Listen \
         on a loopback address such as 127.0.0.1:1883, or add --open if that is what you want"
    )]
    Open(SocketAddr),
    #[error("cannot listen on {address}: {source}; choose another address with --listen, or stop what uses it")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Open(_) | Self::Bind { .. } | Self::Start(_) => ExitCode::from(2),
            Self::Broker(_) => ExitCode::FAILURE,
        }
    }
}

fn main() -> ExitCode {
    let (listen, open) = match Arguments::parse().command {
        Command::Run { listen, open } => (listen, open),
        Command::Ca(arguments) => return ca::run(arguments),
    };
    grid_service::log_to_stderr("info");
    match start(listen, open) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure}");
            failure.exit_code()
        }
    }
}

fn start(listen: SocketAddr, open: bool) -> Result<(), Failure> {
    if !listen.ip().is_loopback() && !open {
        return Err(Failure::Open(listen));
    }
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::Start)?;
    let result = runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(|source| Failure::Bind { address: listen, source })?;
        Ok(grid_broker::run(listener.into(), Limits::default(), Access::open(), grid_service::shutdown::signalled())
            .await?)
    });
    // Without waiting: a thread may be stuck on a router that died.
    runtime.shutdown_background();
    result
}
