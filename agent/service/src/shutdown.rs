//! When to end: on SIGINT (Ctrl-C) or SIGTERM (systemd).

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGINT or SIGTERM, for services that take their end as a future. Where signals cannot be handled it
/// says so in the log and resolves at once.
pub async fn signalled() {
    if let Err(error) = requested().await {
        tracing::error!(%error, "signals cannot be handled");
    }
}

/// Resolves at the first SIGINT or SIGTERM. Fails only where the process may not handle signals.
pub async fn requested() -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
