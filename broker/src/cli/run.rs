//! `grid-broker run`: the broker until a signal ends it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use grid_broker::settings::Listen;
use grid_broker::{BrokerError, Reload, Settings, Sockets, Source};
use grid_service::settings::SettingsError;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

/// Run the broker until SIGINT or SIGTERM. The log goes to stderr; RUST_LOG sets its level.
///
/// Without a configuration it is open to everybody, and so only on loopback. With one it lets in who has a certificate of
/// the site or a password, and reads users, rights, certificates and revocations again at SIGHUP, without dropping anybody
/// who may stay.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  grid-broker run --listen 127.0.0.1:1883\n  grid-broker run --config \
                        /etc/grid/broker.toml\n\nExit codes: 0 stopped by a signal, 1 the broker failed, 2 wrong \
                        arguments or settings, or address not available.")]
pub struct Arguments {
    /// The broker's settings (TOML). The environment goes over it: GRID__LIMITS__MAX_CLIENTS=100
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on, for MQTT 3.1.1 and 5; goes over `mqtt` in the section `[listen]`. Without a
    /// configuration: 127.0.0.1:1883.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Listen on an address that others can reach, without any login: anyone on the network may then read every message
    /// and command every device.
    #[arg(long)]
    open: bool,
    /// Print the settings in force with all limits, and end. Password hashes are not shown.
    #[arg(long)]
    print_config: bool,
}

/// Why the broker did not start, or ended.
#[derive(Debug, Error)]
pub enum Failure {
    /// Settings or files that they name are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Settings cannot be printed.
    #[error("the settings cannot be printed: {0}")]
    Print(#[from] toml::ser::Error),
    /// An address is not available.
    #[error("cannot listen on {address}: {source}; choose another address at {key}, or stop what uses it")]
    Bind { key: &'static str, address: SocketAddr, source: std::io::Error },
    /// The system gives no threads or signals.
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl Failure {
    /// 1 where a new start may help.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Print(_) | Self::Bind { .. } | Self::Start(_) => 2,
            Self::Broker(_) => 1,
        }
    }
}

impl Arguments {
    /// Runs the broker, or prints its settings.
    pub fn execute(self) -> Result<(), Failure> {
        let source = Source { config: self.config, listen: self.listen, open: self.open };
        let settings = source.read()?;
        if self.print_config {
            settings.check()?;
            print!("{}", toml::to_string(&settings)?);
            return Ok(());
        }
        let runtime = tokio::runtime::Runtime::new().map_err(Failure::Start)?;
        let result = runtime.block_on(run(source, settings));
        // Without waiting: a thread may be stuck on a router that died.
        runtime.shutdown_background();
        result
    }
}

async fn run(source: Source, settings: Settings) -> Result<(), Failure> {
    let shutdown = grid_service::shutdown::signalled();
    let (listen, limits) = (settings.listen.clone(), settings.limits.clone());
    let is_open = settings.access.open;
    // Without a configuration there is nothing to read again, and SIGHUP ends the broker together with its terminal.
    let hangup = source.file().map(|_| signal(SignalKind::hangup())).transpose().map_err(Failure::Start)?;
    let (reload, access) = Reload::start(source, settings)?;
    let sockets = bind(&listen).await?;
    if is_open {
        warn!("open: nobody is asked who he is, and everybody may do everything");
    }
    let broker = grid_broker::run(sockets, limits, access, shutdown);
    match hangup {
        None => Ok(broker.await?),
        Some(hangup) => tokio::select! {
            result = broker => Ok(result?),
            never = reload.run(hangup) => match never {},
        },
    }
}

/// Takes every address of the settings.
async fn bind(listen: &Listen) -> Result<Sockets, Failure> {
    Ok(Sockets {
        mqtt: socket("listen.mqtt (--listen)", listen.mqtt).await?,
        mqtts: socket("listen.mqtts", listen.mqtts).await?,
        ws: socket("listen.ws", listen.ws).await?,
        wss: socket("listen.wss", listen.wss).await?,
        http: socket("listen.http", listen.http).await?,
    })
}

async fn socket(key: &'static str, address: Option<SocketAddr>) -> Result<Option<TcpListener>, Failure> {
    let Some(address) = address else { return Ok(None) };
    TcpListener::bind(address).await.map(Some).map_err(|source| Failure::Bind { key, address, source })
}
