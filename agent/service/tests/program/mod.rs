//! A program of the street as a script or a person at a terminal uses it. The tests of all programs take it from here.
#![allow(dead_code, reason = "each test file uses another part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// How long anything may take that comes soon.
pub const LONG: Duration = Duration::from_secs(30);
/// Nobody listens there.
pub const NOWHERE: &str = "127.0.0.1:1";

/// The program, in this folder and without a terminal.
pub fn command(binary: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments).current_dir(folder).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// What a command said, and the code that it ended with.
pub struct Done {
    pub code: Option<i32>,
    pub text: String,
}

impl Done {
    pub fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let text = [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        Self { code: status.code(), text }
    }

    /// It ended with this code, and named all these.
    pub fn says(&self, code: i32, named: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.text);
        for named in named {
            assert!(self.text.contains(named), "{named:?} in {}", self.text);
        }
    }

    pub fn does_not_say(&self, unwanted: &str) {
        assert!(!self.text.contains(unwanted), "{unwanted:?} in {}", self.text);
    }
}

/// A process that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What somebody says, line by line. It is read to its end, also when nobody listens any more.
pub fn lines(said: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    let said = BufReader::new(said).lines();
    thread::spawn(move || said.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    lines
}

/// A person at a terminal: script(1) gives the program one.
pub struct Conversation {
    program: Running,
    input: ChildStdin,
    said: Receiver<String>,
    unseen: String,
}

impl Conversation {
    /// Starts the program in this folder.
    pub fn begin(binary: &str, folder: &Path, arguments: &str) -> Self {
        let called = format!("{binary} {arguments}");
        let mut script =
            command("script", folder, &["--quiet", "--flush", "--return", "--command", &called, "/dev/null"]);
        let script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut script = script.expect("install util-linux (script)");
        let (mut output, input) = (script.stdout.take().unwrap(), script.stdin.take().unwrap());
        let (sender, said) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                let _ = sender.send(String::from_utf8_lossy(&bytes[..length]).into_owned());
            }
        });
        Self { program: Running(script), input, said, unseen: String::new() }
    }

    /// Waits until the program has said this, and returns what it said before.
    pub fn hears(&mut self, wanted: &str) -> String {
        while !self.unseen.contains(wanted) {
            let more = self.said.recv_timeout(LONG);
            self.unseen += &more.unwrap_or_else(|_| panic!("{wanted:?} is not said: {}", self.unseen));
        }
        let (before, after) = self.unseen.split_once(wanted).unwrap();
        let (before, after) = (before.to_owned(), after.to_owned());
        self.unseen = after;
        before
    }

    /// Answers each question when it comes.
    pub fn answers(&mut self, answers: &[(&str, &str)]) {
        for (question, answer) in answers {
            self.hears(question);
            self.input.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
    }

    /// Waits for the end.
    pub fn ends(mut self) -> ExitStatus {
        self.program.0.wait().unwrap()
    }
}
