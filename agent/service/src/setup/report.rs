//! What a `check` found, one line a thing: `ok`, `--` (not configured, or not running), or `WRONG` with what to do.

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use grid_protocol::identity::Validity;
use grid_protocol::units::UnixMillis;

const DAY_MS: u64 = 24 * 3600 * 1000;
/// What ends so soon should be made anew now.
const SOON_DAYS: u64 = 30;

/// The lines, written as they are found.
pub struct Report<'a> {
    out: &'a mut dyn Write,
    is_wrong: bool,
}

impl<'a> Report<'a> {
    /// Nothing is wrong yet.
    pub fn to(out: &'a mut dyn Write) -> Self {
        Self { out, is_wrong: false }
    }

    /// It is as it should be.
    pub fn ok(&mut self, what: &str, said: impl Display) {
        self.line("ok", what, said);
    }

    /// It is not configured, or does not run.
    pub fn none(&mut self, what: &str, said: impl Display) {
        self.line("--", what, said);
    }

    /// It is wrong; `said` has what to do about it.
    pub fn wrong(&mut self, what: &str, said: impl Display) {
        self.is_wrong = true;
        self.line("WRONG", what, said);
    }

    /// `good` or `wrong`.
    pub fn judge(&mut self, what: &str, judged: Result<impl Display, impl Display>) {
        match judged {
            Ok(said) => self.ok(what, said),
            Err(said) => self.wrong(what, said),
        }
    }

    /// How long a certificate holds; `renew` is what to do if that is not long.
    pub fn holds(&mut self, what: &str, validity: Validity, now: UnixMillis, renew: &str) {
        let days = validity.until.0.saturating_sub(now.0) / DAY_MS;
        if now < validity.from {
            self.wrong(what, "is not valid yet: set this machine's clock");
        } else if now > validity.until {
            self.wrong(what, format!("is valid no more: {renew}"));
        } else if days < SOON_DAYS {
            self.wrong(what, format!("ends in {days} days: {renew}"));
        } else {
            self.ok(what, format!("valid for {days} days"));
        }
    }

    /// Whether a file with secrets is closed to all but its owner, and those of its group if they `may` read it.
    pub fn is_secret(&mut self, what: &str, file: &Path, group_may: bool) {
        let (closed, mode) = if group_may { (0o027, "640") } else { (0o077, "600") };
        match fs::metadata(file).map(|file| file.permissions().mode() & 0o777) {
            Ok(now) if now & closed == 0 => self.ok(what, format!("{} has mode {now:o}", file.display())),
            Ok(now) => {
                let file = file.display();
                self.wrong(what, format!("{file} has mode {now:o}, so that others can read it: chmod {mode} {file}"));
            }
            Err(error) => self.wrong(what, format!("{} cannot be looked at: {error}", file.display())),
        }
    }

    /// Whether a service's user, who is not root, can read a file of root's and get at it in its folder.
    pub fn is_readable_by_others(&mut self, what: &str, file: &Path) {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let ways = [(Some(file), 0o004, "644"), (folder, 0o001, "755")];
        for (path, needed, mode) in ways.into_iter().filter_map(|(path, needed, mode)| Some((path?, needed, mode))) {
            // Whatever is another's is his business; what cannot be looked at is told elsewhere.
            let closed = |is: fs::Metadata| is.uid() == 0 && is.permissions().mode() & needed == 0;
            if fs::metadata(path).is_ok_and(closed) {
                let path = path.display();
                self.wrong(what, format!("{path} is closed to the service's user: chmod {mode} {path}"));
            }
        }
    }

    /// The program's exit code: 0 if all is well, 1 if something is wrong.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.is_wrong)
    }

    /// What is to be asked next, once these lines are read.
    pub fn whether_all_is_well(&self) -> &'static str {
        if self.is_wrong { "Mend what is WRONG above. Whether all is well then:" } else { "Whether all is well:" }
    }

    fn line(&mut self, mark: &str, what: &str, said: impl Display) {
        let said = said.to_string().replace('\n', "\n                       ");
        // Who reads may have had enough: a closed pipe changes nothing of what was found.
        self.out.write_all(format!("{mark:<5}  {what:<14}  {said}\n").as_bytes()).unwrap_or(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(find: impl FnOnce(&mut Report)) -> (String, u8) {
        let mut out = Vec::new();
        let mut report = Report::to(&mut out);
        find(&mut report);
        let code = report.exit_code();
        assert_eq!(report.whether_all_is_well().contains("WRONG"), code == 1);
        (String::from_utf8(out).unwrap(), code)
    }

    #[test]
    fn one_thing_that_is_wrong_makes_the_whole_wrong() {
        let (text, code) = said(|report| {
            report.ok("meter", "reads 3 A");
            report.none("outbox", "not configured");
        });
        assert_eq!(
            (text.as_str(), code),
            ("ok     meter           reads 3 A\n--     outbox          not configured\n", 0)
        );
        let (text, code) = said(|report| {
            report.wrong("meter", "is silent:\nlook at the wire");
            report.ok("outbox", "empty");
        });
        assert!(text.starts_with("WRONG  meter           is silent:\n                       look"), "{text}");
        assert_eq!(code, 1);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_wrong_before_it_ends() {
        let validity = Validity { from: UnixMillis(DAY_MS), until: UnixMillis(100 * DAY_MS) };
        for (day, expected) in
            [(0, "not valid yet"), (2, "valid for 98 days"), (71, "ends in 29 days: renew it"), (101, "valid no more")]
        {
            let (text, code) = said(|report| report.holds("tls", validity, UnixMillis(day * DAY_MS), "renew it"));
            assert!(text.contains(expected), "{text}");
            assert_eq!(code, u8::from(day != 2));
        }
    }

    #[test]
    fn a_secret_that_others_can_read_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, "x").unwrap();
        for (mode, group_may, good) in [
            (0o600, false, true),
            (0o640, false, false),
            (0o640, true, true),
            (0o644, true, false),
            (0o660, true, false),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let (text, code) = said(|report| report.is_secret("key", &file, group_may));
            assert_eq!(code == 0, good, "{text}");
        }
        assert_eq!(said(|report| report.is_secret("key", Path::new("/nowhere/key"), false)).1, 1);
    }
}
