//! When to end: on SIGINT (Ctrl-C) or SIGTERM (systemd).

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGINT or SIGTERM, for services that take their end as a future. Where signals cannot be handled it
/// says so in the log and resolves at once. Must be called within a tokio runtime.
pub fn signalled() -> impl Future<Output = ()> {
    let requested = requested();
    async {
        if let Err(error) = requested.await {
            tracing::error!(%error, "signals cannot be handled");
        }
    }
}

/// Resolves at the first SIGINT or SIGTERM after this call, whenever it is looked at. Fails only where the process may not
/// handle signals. Must be called within a tokio runtime.
pub fn requested() -> impl Future<Output = std::io::Result<()>> {
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    async {
        let [interrupt, terminate] = signals;
        let (mut interrupt, mut terminate) = (interrupt?, terminate?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    }
}
