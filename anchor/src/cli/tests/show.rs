//! `grid-anchor show` on logs whose beginning is gone.

use super::super::show::show_log;
use super::*;
use crate::testing::log::StreetLog;

/// What it prints, and what it remarks.
fn shown(log: &StreetLog, arguments: &[&str]) -> (String, String) {
    let folder = log.path().display().to_string();
    let words = [&["grid-anchor", "show", "--log", &folder], arguments].concat();
    let Command::Show(arguments) = Arguments::try_parse_from(words).unwrap().command else { unreachable!() };
    let (mut out, mut remarks) = (Vec::new(), Vec::new());
    assert_eq!(show_log(&arguments, &mut out, &mut remarks).unwrap(), 0);
    (String::from_utf8(out).unwrap(), String::from_utf8(remarks).unwrap())
}

#[test]
fn a_pruned_log_is_shown_from_its_first_entry_on_and_says_so_aside() {
    let log = StreetLog::of_a_street();
    let policy = log.policy_file().display().to_string();
    let (whole, remarks) = shown(&log, &["--json"]);
    assert_eq!((whole.lines().count(), remarks.as_str()), (700, ""));
    log.drop_bundles(2);
    let remark = "the log begins with entry 512: older ones were dropped when their retention time was over\n";
    let (rest, remarks) = shown(&log, &["--json"]);
    assert_eq!((rest.lines().count(), remarks.as_str()), (700 - 512, remark));
    assert!(rest.starts_with("{\"index\":512,"), "{rest}");
    assert_eq!(whole.lines().skip(512).collect::<Vec<_>>(), rest.lines().collect::<Vec<_>>());
    for arguments in [&[][..], &["--csv"], &["--sessions"], &["--sessions", "--json", "--policy", &policy]] {
        assert_eq!(shown(&log, arguments).1, remark, "{arguments:?}");
    }
}
