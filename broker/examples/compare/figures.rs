//! One table for people: ours, mosquitto, how they stand to each other, and what is to be reached.

use std::time::Duration;

/// What a figure is measured in.
#[derive(Clone, Copy)]
pub enum Unit {
    Micros,
    Nanos,
    PerSecond,
    Megabytes,
    Messages,
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Self::Micros => format!("{value:.0} µs"),
            Self::Nanos => format!("{value:.0} ns"),
            Self::PerSecond => format!("{value:.0} /s"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::Messages => format!("{value:.0}"),
        }
    }
}

/// What ours is to reach.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most so many times mosquitto's.
    AtMostTimes(f64),
    /// At least so many times mosquitto's.
    AtLeastTimes(f64),
    /// At most this.
    AtMost(f64),
    /// Exactly this.
    Exactly(f64),
}

/// The same figure of both brokers; mosquitto's is missing where mosquitto is not installed.
#[derive(Clone, Copy)]
pub struct Pair {
    pub ours: f64,
    pub mosquitto: Option<f64>,
}

impl Pair {
    /// The figure that `of` gives for each broker's measurements, ours first.
    pub fn of<T>(measured: &[T], of: impl Fn(&T) -> f64) -> Option<Self> {
        Some(Self { ours: of(measured.first()?), mosquitto: measured.get(1).map(of) })
    }
}

pub fn heading() {
    println!("{:<52}{:>14}{:>14}{:>8}  goal", "", "grid-broker", "mosquitto", "ratio");
}

pub fn section(title: &str) {
    println!("\n{title}");
}

/// Prints one line of the table.
pub fn row(what: &str, unit: Unit, pair: Option<Pair>, goal: Option<Goal>) {
    let Some(Pair { ours, mosquitto }) = pair else {
        return;
    };
    let ratio = mosquitto.filter(|mosquitto| *mosquitto > 0.0).map(|mosquitto| ours / mosquitto);
    let (stated, met) = match goal {
        None => (String::new(), None),
        Some(Goal::AtMostTimes(most)) => (format!("at most {most} ×"), ratio.map(|ratio| ratio <= most)),
        Some(Goal::AtLeastTimes(least)) => (format!("at least {least} ×"), ratio.map(|ratio| ratio >= least)),
        Some(Goal::AtMost(most)) => (format!("at most {}", unit.text(most)), Some(ours <= most)),
        Some(Goal::Exactly(all)) => (format!("all {}", unit.text(all)), Some(ours.total_cmp(&all).is_eq())),
    };
    let verdict = match met {
        Some(true) => ": met",
        Some(false) => ": NOT met",
        None => "",
    };
    println!(
        "  {what:<50}{:>14}{:>14}{:>8}  {stated}{verdict}",
        unit.text(ours),
        mosquitto.map_or("–".to_owned(), |value| unit.text(value)),
        ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")),
    );
}

/// The `permille`th of a thousand of these times, in microseconds. They must be sorted.
pub fn percentile(times: &[Duration], permille: usize) -> f64 {
    let at = times.len().saturating_sub(1) * permille / 1000;
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// The middle one; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
