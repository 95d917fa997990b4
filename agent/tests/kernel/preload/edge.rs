//! Loaded before the C library (`LD_PRELOAD`): what a program asks the kernel about I2C, GPIO, PWM and hwmon goes to the test
//! that started it, through `$GRID_KERNEL/socket`.
//!
//! It decides nothing. A file that is opened below one of [`OURS`] is a connection of its own to the test, and the descriptor
//! that the program gets *is* that connection: so the test hears at once when the file is closed, also when the program is
//! killed, and a stopped program keeps its files open, as with the kernel. `read`, `write` and `ioctl` on it are one question
//! and one answer each. Names are looked up (`stat`, `opendir`, `realpath`) below `$GRID_KERNEL`, as after a `chroot`.
//!
//! ```text
//! question   u32 length, u8 what ('o' open, 'r' read, 'w' write, 'i' ioctl), then
//!            'o' i32 flags, path   'r' u64 bytes   'w' bytes   'i' u64 request, argument
//! answer     u32 length, i32 result or −errno, then what was read, or the argument as it is now
//! ```
//!
//! With `$GRID_KERNEL_WITHIN` nothing is asked, so that a bench can measure what the program itself takes: a file of sysfs is
//! the one below `$GRID_KERNEL`, and an I2C bus has the [`chip`], with which a transfer takes so many microseconds.
//!
//! The test compiles this file with `rustc` alone, without Cargo and crates: the C library's functions are declared here.
//!
//! `unsafe`, which the workspace forbids elsewhere, is what a stand-in for the kernel consists of: it takes raw pointers as the
//! C library does, and trusts its caller as the C library does. Every exported function has the contract of its namesake in
//! the manual, section 2 or 3; the comments below say what is beyond that.

mod chip;

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_uint, c_ulong, c_void};
use std::mem::{size_of, transmute};
use std::os::unix::ffi::OsStrExt;
use std::ptr::null_mut;
use std::slice::{from_raw_parts, from_raw_parts_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

const I2C: &[u8] = b"/dev/i2c-";
const OURS: [&[u8]; 4] = [I2C, b"/dev/gpiochip", b"/sys/class/pwm", b"/sys/class/hwmon"];

/// `I2C_RDWR`, whose argument points to messages, which point to bytes (linux/i2c-dev.h).
const I2C_RDWR: c_ulong = 0x0707;
/// Set in a message that is to be read (linux/i2c.h).
const I2C_M_RD: u16 = 1;
/// `GPIO_V2_GET_LINE_IOCTL`, whose answer is a new descriptor (linux/gpio.h).
const GPIO_V2_GET_LINE: c_ulong = 0xC250_B407;
/// Where that stands in its argument: at the end.
const DESCRIPTOR_AT: usize = 588;

const EIO: c_int = 5;
const EMFILE: c_int = 24;
const EINTR: c_int = 4;
const AF_UNIX: c_int = 1;
const SOCK_STREAM_CLOEXEC: c_int = 1 | 0o2_000_000;
const MSG_NOSIGNAL: c_int = 0x4000;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(fd: c_int, address: *const SocketAddress, length: c_uint) -> c_int;
    fn send(fd: c_int, bytes: *const c_void, length: usize, flags: c_int) -> isize;
    fn recv(fd: c_int, bytes: *mut c_void, length: usize, flags: c_int) -> isize;
    fn strlen(text: *const c_char) -> usize;
}

#[repr(C)]
struct SocketAddress {
    family: u16,
    path: [u8; 108],
}

/// `struct i2c_rdwr_ioctl_data`.
#[repr(C)]
struct Transfer {
    messages: *const Message,
    count: u32,
}

/// `struct i2c_msg`.
#[repr(C)]
struct Message {
    address: u16,
    flags: u16,
    length: u16,
    bytes: *mut u8,
}

/// The function that this library stands before.
macro_rules! real {
    ($name:ident($($argument:expr => $kind:ty),*) -> $result:ty) => {{
        static FOUND: AtomicUsize = AtomicUsize::new(0);
        if FOUND.load(Relaxed) == 0 {
            // RTLD_NEXT is −1. The C library has each of these names.
            let name = concat!(stringify!($name), "\0").as_ptr().cast();
            FOUND.store(unsafe { dlsym(null_mut::<c_void>().wrapping_sub(1), name) } as usize, Relaxed);
        }
        let function: unsafe extern "C" fn($($kind),*) -> $result = unsafe { transmute(FOUND.load(Relaxed)) };
        unsafe { function($($argument),*) }
    }};
}

/// Whose a descriptor is: the kernel's, a connection to the test, or the chip within. It is used by one thread at a time, as
/// `&mut` makes sure.
const THE_KERNELS: u8 = 0;
const CONNECTED: u8 = 1;
const THE_CHIPS: u8 = 2;
static DESCRIPTORS: [AtomicU8; 1024] = [const { AtomicU8::new(THE_KERNELS) }; 1024];

fn mark(fd: c_int) -> Option<&'static AtomicU8> {
    usize::try_from(fd).ok().and_then(|fd| DESCRIPTORS.get(fd))
}

fn whose(fd: c_int) -> u8 {
    mark(fd).map_or(THE_KERNELS, |mark| mark.load(Relaxed))
}

fn fail(errno: c_int) -> c_int {
    unsafe { *__errno_location() = errno };
    -1
}

/// The test's folder.
fn root() -> &'static OsStr {
    static ROOT: OnceLock<OsString> = OnceLock::new();
    ROOT.get_or_init(|| std::env::var_os("GRID_KERNEL").unwrap_or_default())
}

/// The path, if it is one of ours.
fn path_of<'a>(path: *const c_char) -> Option<&'a [u8]> {
    if path.is_null() {
        return None;
    }
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    OURS.iter().any(|ours| path.starts_with(ours)).then_some(path)
}

/// Where to look a path up.
fn below_root(path: *const c_char) -> Option<CString> {
    path_of(path).and_then(|path| CString::new([root().as_bytes(), path].concat()).ok())
}

// --- Question and answer.

fn send_all(fd: c_int, mut bytes: &[u8]) -> Result<(), c_int> {
    while !bytes.is_empty() {
        match unsafe { send(fd, bytes.as_ptr().cast(), bytes.len(), MSG_NOSIGNAL) } {
            sent @ 1.. => bytes = &bytes[sent as usize..],
            _ if unsafe { *__errno_location() } == EINTR => {}
            _ => return Err(EIO),
        }
    }
    Ok(())
}

fn receive_all(fd: c_int, mut bytes: &mut [u8]) -> Result<(), c_int> {
    while !bytes.is_empty() {
        match unsafe { recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) } {
            received @ 1.. => bytes = &mut bytes[received as usize..],
            -1 if unsafe { *__errno_location() } == EINTR => {}
            _ => return Err(EIO),
        }
    }
    Ok(())
}

/// What the test answers, or the errno.
fn ask(fd: c_int, what: u8, parts: &[&[u8]]) -> Result<(c_int, Vec<u8>), c_int> {
    let body = parts.concat();
    let length = (body.len() as u32).to_ne_bytes();
    send_all(fd, &[&length[..], &[what], &body].concat())?;
    let (mut length, mut result) = ([0; 4], [0; 4]);
    receive_all(fd, &mut length)?;
    receive_all(fd, &mut result)?;
    let mut answer = vec![0; u32::from_ne_bytes(length) as usize];
    receive_all(fd, &mut answer)?;
    match c_int::from_ne_bytes(result) {
        errno @ ..0 => Err(-errno),
        result => Ok((result, answer)),
    }
}

/// A connection on which this path was opened.
fn connected(path: &[u8], flags: c_int) -> Result<c_int, c_int> {
    let mut address = SocketAddress { family: AF_UNIX as u16, path: [0; 108] };
    let place = [root().as_bytes(), b"/socket"].concat();
    address.path.get_mut(..place.len()).ok_or(EIO)?.copy_from_slice(&place);
    let fd = unsafe { socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0) };
    let Some(mark) = mark(fd) else { return Err(EMFILE) };
    let opened = match unsafe { connect(fd, &address, size_of::<SocketAddress>() as c_uint) } {
        0 => ask(fd, b'o', &[&flags.to_ne_bytes(), path]),
        _ => Err(EIO),
    };
    match opened {
        Ok(_) => mark.store(CONNECTED, Relaxed),
        Err(_) => drop(real!(close(fd => c_int) -> c_int)),
    }
    opened.map(|_| fd)
}

/// How long a transfer takes, if nothing is asked.
fn within() -> Option<Duration> {
    static WITHIN: OnceLock<Option<Duration>> = OnceLock::new();
    let read = || std::env::var("GRID_KERNEL_WITHIN").ok()?.parse().ok().map(Duration::from_micros);
    *WITHIN.get_or_init(read)
}

/// Opens a path of ours.
fn opened(path: &[u8], flags: c_int) -> Result<c_int, c_int> {
    if within().is_none() {
        return connected(path, flags);
    }
    let is_the_chips = path.starts_with(I2C);
    let place = if is_the_chips { b"/dev/null".to_vec() } else { [root().as_bytes(), path].concat() };
    let place = CString::new(place).map_err(|_| EIO)?;
    let fd = real!(open(place.as_ptr() => *const c_char, flags => c_int, 0 => c_uint) -> c_int);
    if fd < 0 {
        return Err(unsafe { *__errno_location() });
    }
    if is_the_chips {
        mark(fd).ok_or(EMFILE)?.store(THE_CHIPS, Relaxed);
    }
    Ok(fd)
}

/// `I2C_RDWR` of the chip within. Whatever else is asked of it is granted.
unsafe fn control_chip(request: c_ulong, argument: *mut c_void) -> c_int {
    if request != I2C_RDWR {
        return 0;
    }
    let transfer = unsafe { &*argument.cast::<Transfer>() };
    let messages = unsafe { from_raw_parts(transfer.messages, transfer.count as usize) };
    let message = |message: &Message| match message.flags & I2C_M_RD {
        0 => chip::Message::Write(unsafe { from_raw_parts(message.bytes, message.length.into()) }),
        _ => chip::Message::Read(unsafe { from_raw_parts_mut(message.bytes, message.length.into()) }),
    };
    chip::transfer(&mut messages.iter().map(message).collect::<Vec<_>>(), within().unwrap_or_default());
    transfer.count as c_int
}

/// `I2C_RDWR`: the messages one after the other, with the bytes of those that are written; back come those that are read.
unsafe fn transfer(fd: c_int, transfer: &Transfer) -> Result<c_int, c_int> {
    let messages = unsafe { from_raw_parts(transfer.messages, transfer.count as usize) };
    let mut question = Vec::new();
    for message in messages {
        for word in [message.address, message.flags, message.length] {
            question.extend(word.to_ne_bytes());
        }
        if message.flags & I2C_M_RD == 0 {
            question.extend(unsafe { from_raw_parts(message.bytes, message.length.into()) });
        }
    }
    let (result, answer) = ask(fd, b'i', &[&I2C_RDWR.to_ne_bytes(), &question])?;
    let mut answer = &answer[..];
    for message in messages.iter().filter(|message| message.flags & I2C_M_RD != 0) {
        let (read, rest) = answer.split_at_checked(message.length.into()).ok_or(EIO)?;
        unsafe { from_raw_parts_mut(message.bytes, message.length.into()) }.copy_from_slice(read);
        answer = rest;
    }
    Ok(result)
}

/// An `ioctl` whose number tells the length of its argument (asm-generic/ioctl.h), or whose argument is a number.
unsafe fn control(fd: c_int, request: c_ulong, argument: *mut c_void) -> Result<c_int, c_int> {
    if request == I2C_RDWR {
        return unsafe { transfer(fd, &*argument.cast()) };
    }
    let length = (request >> 16 & 0x3FFF) as usize;
    if length == 0 {
        let (result, _) = ask(fd, b'i', &[&request.to_ne_bytes(), &(argument as u64).to_ne_bytes()])?;
        return Ok(result);
    }
    let bytes = unsafe { from_raw_parts_mut(argument.cast::<u8>(), length) };
    let (result, mut answer) = ask(fd, b'i', &[&request.to_ne_bytes(), bytes])?;
    if request == GPIO_V2_GET_LINE {
        // The test names the line that it gave away; whoever opens that name has it.
        let place = answer.get_mut(DESCRIPTOR_AT..).and_then(|rest| rest.first_chunk_mut()).ok_or(EIO)?;
        let line = connected(format!("line {}", c_int::from_ne_bytes(*place)).as_bytes(), 0)?;
        *place = line.to_ne_bytes();
    }
    bytes.copy_from_slice(answer.get(..length).ok_or(EIO)?);
    Ok(result)
}

// --- What programs call. The C library declares `open` and `ioctl` with "..."; on x86-64 and aarch64 an argument behind that is
// passed as any other, so these declarations fit (System V ABI, AAPCS64).

#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    match path_of(path) {
        Some(ours) => opened(ours, flags).unwrap_or_else(fail),
        None => real!(open(path => *const c_char, flags => c_int, mode => c_uint) -> c_int),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    match path_of(path) {
        Some(ours) => opened(ours, flags).unwrap_or_else(fail),
        None => real!(open64(path => *const c_char, flags => c_int, mode => c_uint) -> c_int),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    match path_of(path) {
        Some(ours) => opened(ours, flags).unwrap_or_else(fail),
        None => real!(openat(folder => c_int, path => *const c_char, flags => c_int, mode => c_uint) -> c_int),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    match path_of(path) {
        Some(ours) => opened(ours, flags).unwrap_or_else(fail),
        None => real!(openat64(folder => c_int, path => *const c_char, flags => c_int, mode => c_uint) -> c_int),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    if let Some(mark) = mark(fd) {
        mark.store(THE_KERNELS, Relaxed);
    }
    real!(close(fd => c_int) -> c_int)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn read(fd: c_int, bytes: *mut c_void, length: usize) -> isize {
    if whose(fd) != CONNECTED {
        return real!(read(fd => c_int, bytes => *mut c_void, length => usize) -> isize);
    }
    match ask(fd, b'r', &[&(length as u64).to_ne_bytes()]) {
        Ok((_, answer)) => {
            let read = answer.len().min(length);
            unsafe { from_raw_parts_mut(bytes.cast::<u8>(), read) }.copy_from_slice(&answer[..read]);
            read as isize
        }
        Err(errno) => fail(errno) as isize,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, length: usize) -> isize {
    if whose(fd) != CONNECTED {
        return real!(write(fd => c_int, bytes => *const c_void, length => usize) -> isize);
    }
    match ask(fd, b'w', &[unsafe { from_raw_parts(bytes.cast::<u8>(), length) }]) {
        Ok((written, _)) => written as isize,
        Err(errno) => fail(errno) as isize,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    match whose(fd) {
        CONNECTED => unsafe { control(fd, request, argument) }.unwrap_or_else(fail),
        THE_CHIPS => unsafe { control_chip(request, argument) },
        _ => real!(ioctl(fd => c_int, request => c_ulong, argument => *mut c_void) -> c_int),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn statx(folder: c_int, path: *const c_char, flags: c_int, mask: c_uint, to: *mut c_void) -> c_int {
    let ours = below_root(path);
    let path = ours.as_ref().map_or(path, |ours| ours.as_ptr());
    real!(statx(folder => c_int, path => *const c_char, flags => c_int, mask => c_uint, to => *mut c_void) -> c_int)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn stat64(path: *const c_char, to: *mut c_void) -> c_int {
    let ours = below_root(path);
    let path = ours.as_ref().map_or(path, |ours| ours.as_ptr());
    real!(stat64(path => *const c_char, to => *mut c_void) -> c_int)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn opendir(path: *const c_char) -> *mut c_void {
    let ours = below_root(path);
    let path = ours.as_ref().map_or(path, |ours| ours.as_ptr());
    real!(opendir(path => *const c_char) -> *mut c_void)
}

/// The real name is told without the root before it, as after a `chroot`.
#[unsafe(no_mangle)]
unsafe extern "C" fn realpath(path: *const c_char, to: *mut c_char) -> *mut c_char {
    let ours = below_root(path);
    let looked_up = ours.as_ref().map_or(path, |ours| ours.as_ptr());
    let found = real!(realpath(looked_up => *const c_char, to => *mut c_char) -> *mut c_char);
    if ours.is_some() && !found.is_null() {
        let name = unsafe { from_raw_parts_mut(found.cast::<u8>(), strlen(found) + 1) };
        if name.starts_with(root().as_bytes()) {
            name.copy_within(root().len().., 0);
        }
    }
    found
}
