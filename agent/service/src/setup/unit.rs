//! A service of systemd, through `systemctl`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Report, Root, SetupError};

/// So many lines of its log are shown when it fails.
const LAST_LINES: &str = "10";

/// A unit, such as `grid-broker.service`.
#[derive(Clone, Debug)]
pub struct Unit {
    name: String,
    /// The program that speaks with systemd.
    systemctl: PathBuf,
}

impl Unit {
    /// The unit, if systemd runs this machine (sd_booted(3)) and knows it.
    pub fn find(name: &str) -> Result<Option<Self>, SetupError> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Ok(None);
        }
        let unit = Self { name: name.to_owned(), systemctl: "systemctl".into() };
        Ok(unit.says(&["cat"])?.status.success().then_some(unit))
    }

    /// Whether it runs and is ready.
    pub fn is_active(&self) -> Result<bool, SetupError> {
        Ok(self.says(&["is-active", "--quiet"])?.status.success())
    }

    /// Starts it, now and at each boot, and waits until it is ready.
    pub fn enable(&self) -> Result<(), SetupError> {
        let output = self.systemctl(&["daemon-reload"])?;
        self.check("daemon-reload".to_owned(), &output)?;
        // What failed too often is not started again, also if its settings are right now. If it did not, this does nothing.
        self.says(&["reset-failed"])?;
        self.does(&["enable", "--now"])
    }

    /// Starts it anew, and waits until it is ready.
    pub fn restart(&self) -> Result<(), SetupError> {
        self.does(&["restart"])
    }

    fn does(&self, what: &[&str]) -> Result<(), SetupError> {
        let output = self.says(what)?;
        self.check(format!("{} {}", what.join(" "), self.name), &output)
    }

    fn says(&self, what: &[&str]) -> Result<Output, SetupError> {
        self.systemctl(&[what, &[self.name.as_str()]].concat())
    }

    fn systemctl(&self, arguments: &[&str]) -> Result<Output, SetupError> {
        Command::new(&self.systemctl).arg("--no-pager").args(arguments).output().map_err(SetupError::Systemctl)
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
        let arguments = ["--no-pager", "--quiet", "--output", "cat", "--lines", LAST_LINES, "--unit", &self.name];
        let output = Command::new("journalctl").args(arguments).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        match text.trim_end() {
            "" => String::new(),
            text => format!("\nThe last lines of its log:\n  {}", text.replace('\n', "\n  ")),
        }
    }
}

/// The service that a setup is for.
#[derive(Debug)]
pub struct Service {
    name: String,
    /// If there is one.
    unit: Option<Unit>,
    ran: bool,
}

impl Service {
    /// Looks for the service `name`. On another machine below a folder there is none.
    pub fn find(root: &Root, name: &str) -> Result<Self, SetupError> {
        let unit = if root.is_this_machine() { Unit::find(name)? } else { None };
        let ran = unit.as_ref().map(Unit::is_active).transpose()?.unwrap_or(false);
        Ok(Self { name: name.to_owned(), unit, ran })
    }

    /// Whether it ran already when it was looked for.
    pub fn ran(&self) -> bool {
        self.ran
    }

    /// What is left to do on a machine whose files were written below a folder; `check` is the program's.
    pub fn elsewhere(&self, check: &str) -> String {
        let Self { name, .. } = self;
        format!(
            "\nNothing was checked or started. On that machine:\n  sudo systemctl enable --now {name}\n  sudo {check}"
        )
    }

    /// Starts it, or starts it anew if it ran with something else, and waits until it is ready. `by_hand` runs the program
    /// where there is no such service. Says whether it runs.
    pub fn start(&self, report: &mut Report, has_changed: bool, by_hand: &str) -> bool {
        let Some(unit) = &self.unit else {
            report.none("service", format!("there is no {} here; without it: {by_hand}", self.name));
            return false;
        };
        let restarted = if self.ran && has_changed { unit.restart() } else { Ok(()) };
        let started = restarted.and_then(|()| unit.enable());
        let runs = started.is_ok();
        report.judge("service", started.map(|()| format!("{} runs, now and after each boot", self.name)));
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A systemctl that writes down what it is told, and does all but this.
    fn systemctl_without(folder: &Path, fails: &str) -> Unit {
        let script = format!(
            "#!/bin/sh\necho \"$@\" >> {}/told\ncase \"$*\" in *{fails}*) echo 'Job failed.' >&2; exit 1;; esac\n",
            folder.display()
        );
        let systemctl = folder.join("systemctl");
        // Written by another process: a file that is still open for writing in a fork of this one cannot be run.
        let write = ["-c", "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"];
        let written = Command::new("sh").args(write).arg(&systemctl).arg(script).status().unwrap();
        assert!(written.success());
        Unit { name: "grid-test-of-nothing.service".to_owned(), systemctl }
    }

    #[test]
    fn a_unit_is_enabled_once_systemd_has_read_it_and_forgotten_its_failures() {
        let folder = tempfile::tempdir().unwrap();
        systemctl_without(folder.path(), "stop").enable().unwrap();
        let told = fs::read_to_string(folder.path().join("told")).unwrap();
        let unit = "grid-test-of-nothing.service";
        let expected =
            format!("--no-pager daemon-reload\n--no-pager reset-failed {unit}\n--no-pager enable --now {unit}\n");
        assert_eq!(told, expected);
    }

    #[test]
    fn what_ran_with_something_else_is_started_anew_and_what_did_not_run_is_started_once() {
        for (ran, has_changed, restarts) in
            [(true, true, true), (true, false, false), (false, true, false), (false, false, false)]
        {
            let folder = tempfile::tempdir().unwrap();
            let unit = systemctl_without(folder.path(), "stop");
            let service = Service { name: unit.name.clone(), unit: Some(unit), ran };
            let mut out = Vec::new();
            assert!(service.start(&mut Report::to(&mut out), has_changed, ""));
            let told = fs::read_to_string(folder.path().join("told")).unwrap();
            assert!(told.contains("restart grid-test") == restarts && told.contains("enable --now"), "{told}");
            assert!(String::from_utf8(out).unwrap().starts_with("ok     service"));
        }
        let service = Service { name: "grid-test.service".to_owned(), unit: None, ran: false };
        let mut out = Vec::new();
        assert!(!service.start(&mut Report::to(&mut out), true, "grid-test run"));
        assert!(
            String::from_utf8(out).unwrap().contains("there is no grid-test.service here; without it: grid-test run")
        );
    }

    #[test]
    fn what_systemd_cannot_do_is_told_in_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let unit = systemctl_without(folder.path(), "enable");
        let error = unit.enable().unwrap_err().to_string();
        assert!(
            error.starts_with("systemctl enable --now grid-test-of-nothing.service failed: Job failed."),
            "{error}"
        );
        assert!(unit.is_active().unwrap());
        let service = Service { name: unit.name.clone(), unit: Some(unit.clone()), ran: false };
        let mut out = Vec::new();
        assert!(!service.start(&mut Report::to(&mut out), true, ""));
        assert!(String::from_utf8(out).unwrap().starts_with("WRONG  service         systemctl enable --now"));
        assert!(!systemctl_without(folder.path(), "is-active").is_active().unwrap());
        let nowhere = Unit { systemctl: folder.path().join("nowhere"), ..unit };
        assert!(nowhere.restart().unwrap_err().to_string().contains("cannot be started"));
    }
}
