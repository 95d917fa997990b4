//! The kernel that programs with the preloaded library meet: I2C adapter, GPIO chip, PWM and hwmon below a folder.

mod gpio;
mod i2c;
mod sysfs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

pub use gpio::GpioChip;
pub use i2c::Adapter;
pub use sysfs::{Channel, Sysfs};

/// An error number of Linux (asm-generic/errno.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

pub const ENOENT: Errno = Errno(2);
pub const EIO: Errno = Errno(5);
pub const ENXIO: Errno = Errno(6);
pub const EBADF: Errno = Errno(9);
pub const EAGAIN: Errno = Errno(11);
pub const EACCES: Errno = Errno(13);
pub const EBUSY: Errno = Errno(16);
pub const ENODEV: Errno = Errno(19);
pub const EINVAL: Errno = Errno(22);
pub const ENOTTY: Errno = Errno(25);
pub const EOPNOTSUPP: Errno = Errno(95);
pub const ETIMEDOUT: Errno = Errno(110);
pub const EREMOTEIO: Errno = Errno(121);

/// What a file is opened for (asm-generic/fcntl.h).
const O_ACCMODE: i32 = 3;
const O_RDONLY: i32 = 0;
const O_WRONLY: i32 = 1;

/// What a call gives the caller: its result, and what was read or the argument as it is now.
pub type Answer = Result<(i32, Vec<u8>), Errno>;

/// An open file, until it is dropped.
pub trait OpenFile: Send {
    fn read(&mut self, _most: usize) -> Answer {
        Err(EINVAL)
    }

    fn write(&mut self, _bytes: &[u8]) -> Answer {
        Err(EINVAL)
    }

    fn ioctl(&mut self, _request: u64, _argument: &[u8]) -> Answer {
        Err(ENOTTY)
    }
}

/// A kernel with `/dev/i2c-1`, `/dev/gpiochip0`, one PWM chip and no sensors.
pub struct Kernel {
    root: tempfile::TempDir,
    machine: Arc<Machine>,
}

/// What all open files share.
pub struct Machine {
    pub i2c: Arc<Adapter>,
    pub gpio: Arc<GpioChip>,
    pub sysfs: Sysfs,
    refused: Mutex<BTreeMap<String, Errno>>,
    hanging: Mutex<BTreeSet<String>>,
    journal: Mutex<Vec<String>>,
    /// How many calls came.
    calls: AtomicU64,
}

impl Kernel {
    pub fn boot() -> Self {
        let root = tempfile::tempdir().unwrap();
        let chips = root.path().join("dev");
        fs::create_dir(&chips).unwrap();
        fs::write(chips.join("gpiochip0"), "").unwrap();
        let machine = Arc::new(Machine {
            i2c: Adapter::new(),
            gpio: GpioChip::new(28),
            sysfs: Sysfs::mount(root.path()),
            refused: Mutex::default(),
            hanging: Mutex::default(),
            journal: Mutex::default(),
            calls: AtomicU64::new(0),
        });
        let listener = UnixListener::bind(root.path().join("socket")).unwrap();
        let shared = machine.clone();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let machine = shared.clone();
                thread::spawn(move || machine.serve(connection));
            }
        });
        Self { root, machine }
    }

    /// A `grid-agent` that meets this kernel.
    pub fn grid_agent(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grid-agent"));
        command.args(arguments).env("LD_PRELOAD", library()).env("GRID_KERNEL", self.root.path());
        command
    }

    /// From now on nobody can open this file.
    pub fn refuse(&self, path: &str, errno: Errno) {
        lock(&self.machine.refused).insert(path.to_owned(), errno);
    }

    /// From now on it can be opened again.
    pub fn allow(&self, path: &str) {
        lock(&self.machine.refused).remove(path);
    }

    /// From now on no call on this file comes back.
    pub fn hang(&self, path: &str) {
        lock(&self.machine.hanging).insert(path.to_owned());
    }

    /// What hangs in calls on this file comes back, with what it would have had at once.
    pub fn go_on(&self, path: &str) {
        lock(&self.machine.hanging).remove(path);
    }

    /// How many calls programs have made so far: each opened file, read, write, or `ioctl`.
    pub fn calls(&self) -> u64 {
        self.machine.calls.load(Ordering::Relaxed)
    }

    /// What was opened, and what was written to files of sysfs, in this order: `open PATH`, `write PATH TEXT`.
    pub fn journal(&self) -> Vec<String> {
        lock(&self.machine.journal).clone()
    }
}

impl std::ops::Deref for Kernel {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Machine {
    /// Answers one connection, which is one open file, until it is closed.
    fn serve(&self, mut connection: UnixStream) {
        let (mut file, mut path, mut access): (Option<Box<dyn OpenFile>>, _, _) = (None, String::new(), 0);
        while let Ok((what, question)) = receive(&mut connection) {
            self.calls.fetch_add(1, Ordering::Relaxed);
            while lock(&self.hanging).contains(&path) {
                thread::sleep(Duration::from_millis(5));
            }
            let answer = match (what, &mut file) {
                (b'o', _) => {
                    let (flags, name) = question.split_first_chunk().unwrap();
                    access = i32::from_ne_bytes(*flags) & O_ACCMODE;
                    path = String::from_utf8(name.to_vec()).unwrap();
                    self.open(&path).map(|opened| {
                        file = Some(opened);
                        (0, Vec::new())
                    })
                }
                (b'r', Some(_)) if access == O_WRONLY => Err(EBADF),
                (b'w', Some(_)) if access == O_RDONLY => Err(EBADF),
                (b'r', Some(file)) => file.read(usize::try_from(word(&question)).unwrap()),
                (b'w', Some(file)) => {
                    self.note(format!("write {path} {}", String::from_utf8_lossy(&question)));
                    file.write(&question)
                }
                (b'i', Some(file)) => file.ioctl(word(&question), &question[8..]),
                _ => Err(EIO),
            };
            let (result, bytes) = answer.unwrap_or_else(|Errno(errno)| (-errno, Vec::new()));
            let length = u32::try_from(bytes.len()).unwrap();
            let answer = [&length.to_ne_bytes()[..], &result.to_ne_bytes(), &bytes].concat();
            if connection.write_all(&answer).is_err() {
                return;
            }
        }
    }

    fn open(&self, path: &str) -> Result<Box<dyn OpenFile>, Errno> {
        self.note(format!("open {path}"));
        if let Some(errno) = lock(&self.refused).get(path) {
            return Err(*errno);
        }
        match path {
            "/dev/i2c-1" => self.i2c.open(),
            "/dev/gpiochip0" => Ok(self.gpio.open()),
            line if line.starts_with("line ") => Ok(self.gpio.line(line["line ".len()..].parse().unwrap())),
            _ => self.sysfs.open(path),
        }
    }

    fn note(&self, what: String) {
        lock(&self.journal).push(what);
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

fn receive(connection: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    connection.read_exact(&mut head)?;
    let [length @ .., what] = head;
    let mut question = vec![0; usize::try_from(u32::from_ne_bytes(length)).unwrap()];
    connection.read_exact(&mut question)?;
    Ok((what, question))
}

fn word(question: &[u8]) -> u64 {
    u64::from_ne_bytes(*question.first_chunk().unwrap())
}

/// The preloaded library, built once in each run of these tests.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Renamed when it is complete: another run may have the last one loaded.
        let (file, new) = (folder.join("libedge.so"), folder.join(format!("libedge.{}.so", std::process::id())));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/preload/edge.rs");
        let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut rustc = Command::new(compiler);
        rustc.args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-D", "warnings", "-o"]).arg(&new).arg(source);
        assert!(rustc.status().unwrap().success());
        fs::rename(new, &file).unwrap();
        file
    })
}
