//! A service of systemd, through `systemctl`.

use std::path::Path;
use std::process::{Command, Output};

use super::SetupError;

/// So many lines of its log are shown when it fails.
const LAST_LINES: &str = "10";

/// A unit, such as `grid-broker.service`.
#[derive(Clone, Debug)]
pub struct Unit(String);

impl Unit {
    /// The unit, if systemd runs this machine (sd_booted(3)) and knows it.
    pub fn find(name: &str) -> Result<Option<Self>, SetupError> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Ok(None);
        }
        let unit = Self(name.to_owned());
        Ok(unit.says(&["cat"])?.status.success().then_some(unit))
    }

    /// Whether it runs and is ready.
    pub fn is_active(&self) -> Result<bool, SetupError> {
        Ok(self.says(&["is-active", "--quiet"])?.status.success())
    }

    /// Starts it, now and at each boot, and waits until it is ready.
    pub fn enable(&self) -> Result<(), SetupError> {
        let output = systemctl(&["daemon-reload"])?;
        self.check("daemon-reload".to_owned(), &output)?;
        self.does(&["enable", "--now"])
    }

    /// Starts it anew, and waits until it is ready.
    pub fn restart(&self) -> Result<(), SetupError> {
        self.does(&["restart"])
    }

    fn does(&self, what: &[&str]) -> Result<(), SetupError> {
        let output = self.says(what)?;
        self.check(format!("{} {}", what.join(" "), self.0), &output)
    }

    fn says(&self, what: &[&str]) -> Result<Output, SetupError> {
        systemctl(&[what, &[self.0.as_str()]].concat())
    }

    fn check(&self, what: String, output: &Output) -> Result<(), SetupError> {
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(SetupError::Unit { what, said, log: self.last_lines() })
    }

    /// Without a journal there are none.
    fn last_lines(&self) -> String {
        let arguments = ["--no-pager", "--quiet", "--output", "cat", "--lines", LAST_LINES, "--unit", &self.0];
        let output = Command::new("journalctl").args(arguments).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        match text.trim_end() {
            "" => String::new(),
            text => format!("\nThe last lines of its log:\n  {}", text.replace('\n', "\n  ")),
        }
    }
}

fn systemctl(arguments: &[&str]) -> Result<Output, SetupError> {
    Command::new("systemctl").arg("--no-pager").args(arguments).output().map_err(SetupError::Systemctl)
}
