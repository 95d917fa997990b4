//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use grid::demo::{Broker, Cars, Options, Pace};
use grid::street::{Street, StreetError};

/// Without a duration the day takes six minutes.
const TIME_FACTOR: u32 = 240;

/// A street that balances itself: broker, transformer, charge points and anchor in one process, with simulated
/// current sensors. The day ends by itself; Ctrl-C ends it earlier.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  grid\n  grid --limit-kw 70\n  grid --broker localhost:1883\n  grid --headless --duration 60s --report report.json\n\n\
                  Exit code: 0 if the log holds and no lease rule was broken, 1 if not, 2 if it could not be run."
)]
pub struct Arguments {
    /// Print no status line.
    #[arg(long)]
    pub headless: bool,
    /// End after this long: 60s, 5min. Without --time-factor the whole day then fits into it.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// How many times faster than the clock the day goes by [default: 240, a day in six minutes].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    time_factor: Option<u32>,
    /// The transformer's limit in kilowatts: 80, or 72.5.
    #[arg(long, value_name = "KW", default_value = "80", value_parser = watts)]
    limit_kw: u64,
    /// The street's base load, instead of the built-in day: CSV with the columns time, base_load_w, pv_w.
    #[arg(long, value_name = "FILE", requires = "sessions")]
    base: Option<PathBuf>,
    /// The charging sessions that go with it: CSV with the columns charge_point, max_power_w, arrival, departure,
    /// energy_wh.
    #[arg(long, value_name = "FILE", requires = "base")]
    sessions: Option<PathBuf>,
    /// How the cars behave.
    #[arg(long, value_name = "HABIT", value_enum, default_value_t)]
    cars: Cars,
    /// Write the result to this file (JSON).
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Where the broker listens, on loopback [default: 127.0.0.1:1883, or a free port if that is taken].
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    listen: Option<SocketAddr>,
    /// Use the MQTT 5 broker that runs there already and asks for no login, instead of starting one. No other street may
    /// be on it. When this one ends, the broker goes on, and what the street had retained there is cleared.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port, conflicts_with = "listen")]
    broker: Option<String>,
    /// A new folder for keys and log [default: data/ and the time of day].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

impl Arguments {
    /// What to run.
    pub fn options(&self) -> Result<Options, StreetError> {
        let street = match (&self.base, &self.sessions) {
            (Some(base), Some(sessions)) => Street::read(base, sessions)?,
            (_, _) => Street::built_in()?,
        };
        let pace = match (self.time_factor, self.duration) {
            (Some(factor), _) => Pace::Factor(factor),
            (None, Some(duration)) => Pace::Within(duration),
            (None, None) => Pace::Factor(TIME_FACTOR),
        };
        let broker = match &self.broker {
            Some(place) => Broker::Running(place.clone()),
            None => Broker::Own(self.listen),
        };
        let data_dir = self.data_dir.clone().unwrap_or_else(folder_of_now);
        Ok(Options { street, limit_w: self.limit_kw, cars: self.cars, pace, broker, data_dir })
    }

    /// When to end even if the day is not over.
    pub fn ends_after(&self) -> Option<Duration> {
        self.duration
    }
}

fn folder_of_now() -> PathBuf {
    let format = time::macros::format_description!("[year][month][day]-[hour][minute][second]");
    let now = time::OffsetDateTime::now_utc().format(format);
    PathBuf::from("data").join(now.unwrap_or_else(|_| std::process::id().to_string()))
}

/// Kilowatts with up to three decimals, as watts.
fn watts(text: &str) -> Result<u64, String> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = (1..=6).contains(&whole.len()) && decimals.len() <= 3 && digits(whole) && digits(decimals);
    let watts = format!("{whole}{decimals:0<3}").parse();
    watts.ok().filter(|_| fits).ok_or_else(|| "expected kilowatts, for example 80 or 72.5".to_owned())
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "expected an address like 127.0.0.1:1884".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("the demo's broker asks nobody for a password, so it listens on loopback only".to_owned())
    }
}

fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text.to_owned()),
        Some(_) | None => Err("expected host and port, like localhost:1883".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn kilowatts_are_read_to_the_watt_and_nothing_else_is() {
        assert_eq!((watts("80"), watts("72.5"), watts("0.001")), (Ok(80_000), Ok(72_500), Ok(1)));
        for bad in ["", "-1", "8e3", "1.2345", "80kW", ".5", "99999999"] {
            assert!(watts(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_open_broker_stays_on_loopback() {
        assert!(loopback("127.0.0.1:0").is_ok() && loopback("[::1]:1883").is_ok());
        assert!(loopback("0.0.0.0:1883").is_err() && loopback("1883").is_err());
    }

    #[test]
    fn a_broker_that_runs_already_is_named_with_its_port() {
        for good in ["localhost:1883", "192.168.1.5:1884", "[::1]:1883", "broker.example.org:1"] {
            assert_eq!(host_and_port(good).as_deref(), Ok(good));
        }
        for bad in ["localhost", "localhost:", ":1883", "localhost:0", "localhost:65536", "1883"] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_street_has_a_broker_of_its_own_or_uses_another_but_not_both() {
        let read = |more: &[&str]| Arguments::try_parse_from([&["grid"], more].concat());
        let broker = |more: &[&str]| read(more).unwrap_or_else(|error| panic!("{error}")).options().unwrap().broker;
        assert_eq!(broker(&[]), Broker::Own(None));
        assert_eq!(broker(&["--listen", "127.0.0.1:1884"]), Broker::Own(Some(([127, 0, 0, 1], 1884).into())));
        assert_eq!(broker(&["--broker", "localhost:1883"]), Broker::Running("localhost:1883".to_owned()));
        assert!(read(&["--broker", "localhost:1883", "--listen", "127.0.0.1:1884"]).is_err());
    }
}
