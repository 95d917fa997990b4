//! The broker's figures as retained messages below `$SYS/broker/`, under the names and in the formats that mosquitto's
//! users know (`man mosquitto`, section *broker status*; compared with what version 2.0.11 publishes).
//!
//! A topic is published when its value has changed. Beyond mosquitto's, `$SYS/broker/publish/messages/dropped/<reason>`
//! says why messages were dropped. What differs: the message store holds retained messages only, and its bytes count
//! topic and properties too; `heap/…` is left out. The messages go out at QoS 0, so that nobody is disconnected because
//! statistics fill a queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tracing::warn;

use crate::message::Qos;
use crate::metrics::{DropReason, Metrics};
use crate::shared::Shared;

/// Over how long a load is averaged, and the last level of its topics.
const AVERAGES: [(Duration, &str); 3] =
    [(Duration::from_secs(60), "1min"), (Duration::from_secs(300), "5min"), (Duration::from_secs(900), "15min")];

/// Publishes the figures at once and then every [`Limits::sys_interval`](crate::Limits::sys_interval), until the
/// broker stops. An interval of zero publishes nothing, as in mosquitto.
pub async fn publish(shared: Arc<Shared>) {
    let interval = shared.limits.sys_interval;
    if interval.is_zero() {
        return;
    }
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut figures = Figures::default();
    let stopped = shared.shutdown.clone();
    let publishing = async {
        loop {
            ticks.tick().await;
            shared.sample();
            for (topic, value) in figures.changed(&shared.metrics, Instant::now()) {
                // What waits for readers to catch up is bounded, for these messages too.
                shared.router.opened().await;
                publish_one(&shared, topic, value);
            }
        }
    };
    stopped.run_until_cancelled(publishing).await;
}

fn publish_one(shared: &Shared, topic: String, value: String) {
    if let Err(error) = shared.publish_own(topic.clone(), value.into(), Qos::AtMostOnce) {
        warn!(topic, ?error, "a figure could not be published");
    }
}

/// What was published last.
#[derive(Debug, Default)]
struct Figures {
    values: HashMap<String, String>,
    loads: HashMap<&'static str, Load>,
    updated: Option<Instant>,
}

impl Figures {
    /// Topics and values of all figures that have changed since the last call.
    fn changed(&mut self, metrics: &Metrics, now: Instant) -> Vec<(String, String)> {
        let mut all = vec![
            ("version".to_owned(), format!("grid-broker version {}", env!("CARGO_PKG_VERSION"))),
            ("uptime".to_owned(), format!("{} seconds", metrics.uptime.get())),
        ];
        all.extend(counts(metrics).into_iter().map(|(name, value)| (name.to_owned(), value.to_string())));
        all.extend(DropReason::ALL.map(|reason| {
            (format!("publish/messages/dropped/{}", reason.name()), metrics.dropped_for(reason).to_string())
        }));
        let passed = self.updated.map(|updated| now.duration_since(updated));
        self.updated = Some(now);
        for (name, total) in totals(metrics) {
            let load = self.loads.entry(name).or_default();
            load.update(total, passed);
            let averages = AVERAGES.iter().zip(load.averages);
            all.extend(averages.map(|((_, span), value)| (format!("load/{name}/{span}"), format!("{value:.2}"))));
        }
        all.retain(|(name, value)| self.values.get(name) != Some(value));
        self.values.extend(all.iter().cloned());
        all.into_iter().map(|(name, value)| (format!("$SYS/broker/{name}"), value)).collect()
    }
}

fn counts(metrics: &Metrics) -> [(&'static str, i128); 22] {
    let gauge = |gauge: i64| i128::from(gauge);
    let counter = |counter: u64| i128::from(counter);
    let (clients, away) = (gauge(metrics.clients.get()), gauge(metrics.sessions_away.get()));
    let retained = gauge(metrics.retained.get());
    [
        ("clients/total", clients + away),
        ("clients/connected", clients),
        ("clients/active", clients),
        ("clients/disconnected", away),
        ("clients/inactive", away),
        ("clients/maximum", gauge(metrics.clients_maximum.get())),
        ("clients/expired", counter(metrics.sessions_expired.get())),
        ("messages/received", counter(metrics.messages_received.get())),
        ("messages/sent", counter(metrics.messages_sent.get())),
        ("messages/stored", retained),
        ("store/messages/count", retained),
        ("store/messages/bytes", gauge(metrics.retained_bytes.get())),
        ("retained messages/count", retained),
        ("subscriptions/count", gauge(metrics.subscriptions.get())),
        // Not offered.
        ("shared_subscriptions/count", 0),
        ("publish/messages/received", counter(metrics.publish_received.get())),
        ("publish/messages/sent", counter(metrics.publish_sent.get())),
        ("publish/messages/dropped", counter(metrics.dropped_in_all())),
        ("publish/bytes/received", counter(metrics.publish_bytes_received.get())),
        ("publish/bytes/sent", counter(metrics.publish_bytes_sent.get())),
        ("bytes/received", counter(metrics.bytes_received.get())),
        ("bytes/sent", counter(metrics.bytes_sent.get())),
    ]
}

/// What the loads are the rates of.
fn totals(metrics: &Metrics) -> [(&'static str, u64); 9] {
    [
        ("messages/received", metrics.messages_received.get()),
        ("messages/sent", metrics.messages_sent.get()),
        ("publish/received", metrics.publish_received.get()),
        ("publish/sent", metrics.publish_sent.get()),
        ("publish/dropped", metrics.dropped_in_all()),
        ("bytes/received", metrics.bytes_received.get()),
        ("bytes/sent", metrics.bytes_sent.get()),
        ("sockets", metrics.connections.get()),
        ("connections", metrics.connects.get()),
    ]
}

/// How much a counter grows per minute, as exponential moving averages.
#[derive(Debug, Default)]
struct Load {
    total: u64,
    averages: [f64; AVERAGES.len()],
}

impl Load {
    /// Goes on to the counter's new total after this time; the first total of all starts at zero load.
    fn update(&mut self, total: u64, passed: Option<Duration>) {
        let grown = total.saturating_sub(self.total);
        self.total = total;
        let Some(passed) = passed.map(|passed| passed.as_secs_f64()).filter(|passed| *passed > 0.0) else {
            return;
        };
        let per_minute = grown as f64 * 60.0 / passed;
        for ((span, _), average) in AVERAGES.iter().zip(&mut self.averages) {
            let kept = (-passed / span.as_secs_f64()).exp();
            *average = per_minute + kept * (*average - per_minute);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(changed: &'a [(String, String)], topic: &str) -> Option<&'a str> {
        changed.iter().find(|(name, _)| name == topic).map(|(_, value)| value.as_str())
    }

    #[test]
    fn everything_is_published_at_first_and_then_what_has_changed() {
        let metrics = Metrics::default();
        let mut figures = Figures::default();
        let start = Instant::now();
        let first = figures.changed(&metrics, start);
        assert_eq!(value(&first, "$SYS/broker/uptime"), Some("0 seconds"));
        assert_eq!(value(&first, "$SYS/broker/load/sockets/15min"), Some("0.00"));
        assert_eq!(figures.changed(&metrics, start + Duration::from_secs(10)), []);
        metrics.drop(DropReason::Expired, 2);
        metrics.sessions_away.set(3);
        let changed = figures.changed(&metrics, start + Duration::from_secs(20));
        let mut names: Vec<_> = changed.iter().map(|(topic, _)| &topic["$SYS/broker/".len()..]).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "clients/disconnected",
                "clients/inactive",
                "clients/total",
                "load/publish/dropped/15min",
                "load/publish/dropped/1min",
                "load/publish/dropped/5min",
                "publish/messages/dropped",
                "publish/messages/dropped/expired",
            ]
        );
        assert_eq!(value(&changed, "$SYS/broker/publish/messages/dropped/expired"), Some("2"));
        assert_eq!(value(&changed, "$SYS/broker/clients/total"), Some("3"));
    }

    /// mosquitto 2.0.11 published these 11 s after its start, when it had received 8 packets and sent 114.
    #[test]
    fn loads_are_computed_as_mosquitto_does() {
        let metrics = Metrics::default();
        let mut figures = Figures::default();
        let start = Instant::now();
        figures.changed(&metrics, start);
        metrics.messages_received.inc_by(8);
        metrics.messages_sent.inc_by(114);
        let changed = figures.changed(&metrics, start + Duration::from_secs(11));
        for (topic, expected) in [
            ("received/1min", "7.31"),
            ("received/5min", "1.57"),
            ("received/15min", "0.53"),
            ("sent/1min", "104.16"),
            ("sent/5min", "22.39"),
            ("sent/15min", "7.55"),
        ] {
            assert_eq!(value(&changed, &format!("$SYS/broker/load/messages/{topic}")), Some(expected), "{topic}");
        }
    }
}
