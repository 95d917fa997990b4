//! The program `grid-anchor` as systemd sees it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::Site;

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next that is said and begins so; what else is said before that is passed over.
fn find(systemd: &UnixDatagram, begin: &str) -> String {
    let mut heard = [0; 1024];
    loop {
        let length = systemd.recv(&mut heard).unwrap_or_else(|_| panic!("nothing begins with {begin}"));
        let said = String::from_utf8(heard[..length].to_vec()).unwrap();
        if said.starts_with(begin) {
            return said;
        }
    }
}

#[test]
fn it_is_ready_without_a_broker_lives_as_long_as_its_recorder_does_and_says_when_it_stops() {
    // Nobody listens there, once this is dropped.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let site = Site::on(port);
    let socket = site.folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-anchor"));
    command.args(["run", "--config"]).arg(site.anchor_config()).stdin(Stdio::null()).stderr(Stdio::null());
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "1000000");
    let mut program = Program(command.spawn().unwrap());

    find(&systemd, &format!("READY=1\nSTATUS=connecting to the broker at 127.0.0.1:{port}"));
    find(&systemd, &format!("STATUS=no connection to the broker at 127.0.0.1:{port}: "));
    (0..3).for_each(|_| drop(find(&systemd, "WATCHDOG=1")));

    kill_process(Pid::from_raw(program.0.id().try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
    find(&systemd, "STOPPING=1\n");
    assert_eq!(program.0.wait().unwrap().code(), Some(0));
}
