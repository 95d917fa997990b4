//! The anchor's figures for Prometheus, made anew for each request from what the recorder told last.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::recorder::Progress;

/// The page in OpenMetrics text format.
pub fn page(progress: &Progress, journal_bytes: u64, minimum_index: u64) -> Result<String, std::fmt::Error> {
    let Progress { entries, durable, checkpoint_size, synced_ms, counts } = *progress;
    let mut registry = Registry::with_prefix("grid_anchor");
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The program", build);
    for (name, description, value) in [
        ("entries", "Entries of the log, durable or not", entries),
        ("durable_entries", "Entries that are on disk", durable),
        ("checkpoint_entries", "Entries under the newest checkpoint", checkpoint_size),
        ("minimum_index", "Index of the first entry that retention has not dropped", minimum_index),
        ("journal_bytes", "Length of the journal", journal_bytes),
    ] {
        registry.register(name, description, ConstGauge::new(value));
    }
    let synced = ConstGauge::new(synced_ms.0 as f64 / 1000.0);
    registry.register("last_sync_timestamp_seconds", "When the journal was synced last, in Unix time", synced);
    for (name, description, value) in [
        ("duplicates", "Messages that were in the log already", counts.duplicates),
        ("unverified", "Messages that were logged although nobody vouches for them", counts.unverified),
        ("not_logged", "Messages that were counted instead of logged", counts.not_logged),
    ] {
        registry.register(name, description, ConstCounter::new(value));
    }
    let mut page = String::new();
    encode(&mut page, &registry)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::Counts;
    use grid_protocol::units::UnixMillis;

    #[test]
    fn each_figure_stands_under_its_own_name() {
        let counts = Counts { duplicates: 4, unverified: 5, not_logged: 6 };
        let synced_ms = UnixMillis(1_800_000_000_250);
        let progress = Progress { entries: 1, durable: 2, checkpoint_size: 3, synced_ms, counts };
        let page = page(&progress, 7, 8).unwrap();
        for line in [
            "grid_anchor_entries 1\n",
            "grid_anchor_durable_entries 2\n",
            "grid_anchor_checkpoint_entries 3\n",
            "grid_anchor_duplicates_total 4\n",
            "grid_anchor_unverified_total 5\n",
            "grid_anchor_not_logged_total 6\n",
            "grid_anchor_journal_bytes 7\n",
            "grid_anchor_minimum_index 8\n",
            "grid_anchor_last_sync_timestamp_seconds 1800000000.25\n",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
