//! What a subscriber that others wrote receives.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use grid_protocol::message::{Event, Measurement, Message};
use serde::de::DeserializeOwned;

use crate::mosquitto::{Broker, Process, SOON};

/// A `mosquitto_sub`, and the messages that it printed.
pub struct Heard {
    lines: Receiver<String>,
    _process: Process,
}

impl Heard {
    /// All that comes at these topics, once the broker knows of it.
    pub fn what(broker: &Broker, topics: &[&str]) -> Self {
        let arguments: Vec<&str> = topics.iter().flat_map(|topic| ["-t", topic]).collect();
        let mut child = broker.client("mosquitto_sub", &arguments).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { lines, _process: Process(child) }
    }

    #[track_caller]
    fn wait_for<T>(&self, wanted: impl Fn(String) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        loop {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            if let Some(found) = wanted(line.unwrap()) {
                return found;
            }
        }
    }

    #[track_caller]
    fn message<B: DeserializeOwned>(&self, wanted: impl Fn(&B) -> bool) -> B {
        self.wait_for(|line| {
            let message: Message<B> = serde_json::from_str(&line).ok()?;
            Some(message.body).filter(&wanted)
        })
    }

    #[track_caller]
    pub fn measurement(&self, wanted: impl Fn(&Measurement) -> bool) -> Measurement {
        self.message(wanted)
    }

    #[track_caller]
    pub fn event(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        self.message(wanted)
    }
}
