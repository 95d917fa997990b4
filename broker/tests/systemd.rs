//! The program `grid-broker` as systemd sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn next(systemd: &UnixDatagram) -> String {
    let mut heard = [0; 1024];
    let length = systemd.recv(&mut heard).expect("the broker says nothing more");
    String::from_utf8(heard[..length].to_vec()).unwrap()
}

#[test]
fn it_is_ready_when_it_listens_lives_as_long_as_messages_move_and_says_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-broker"));
    command.args(["run", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stderr(Stdio::null());
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "1000000");
    let mut program = Program(command.spawn().unwrap());

    let ready = next(&systemd);
    let address = ready.strip_prefix("READY=1\nSTATUS=listening on ").expect(&ready);
    let address = address.split_once(' ').unwrap().0;
    assert!(std::net::TcpStream::connect(address).is_ok(), "{ready}");
    // One for each heartbeat that went through the router.
    assert_eq!([next(&systemd), next(&systemd), next(&systemd)], ["WATCHDOG=1"; 3]);

    assert!(Command::new("kill").args(["-TERM", &program.0.id().to_string()]).status().unwrap().success());
    let last = std::iter::repeat_with(|| next(&systemd)).find(|said| said != "WATCHDOG=1").unwrap();
    assert!(last.starts_with("STOPPING=1\n"), "{last}");
    assert_eq!(program.0.wait().unwrap().code(), Some(0));
}

#[test]
fn why_it_does_not_start_stands_in_the_line_that_systemctl_status_shows() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let settings = folder.path().join("broker.toml");
    std::fs::write(&settings, "site = \"Main Street\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-broker"));
    command.args(["run", "--config"]).arg(settings).env("NOTIFY_SOCKET", &socket).stderr(Stdio::null());
    assert_eq!(command.status().unwrap().code(), Some(2));
    let said = next(&systemd);
    assert!(said.starts_with("STATUS=") && said.contains("Main Street"), "{said}");
}
