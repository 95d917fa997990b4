//! Conversations with a running broker, found by a fuzzer: see `tests/conversation/mod.rs` of the broker.
#![no_main]

#[path = "../../tests/conversation/mod.rs"]
mod conversation;

use std::cell::RefCell;

use conversation::{Conversation, Host};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// Conversations with one broker. What it remembers of filters and topics reaches its limit at some time; a new one
/// leaves the parked thread of the old one's router behind.
const TOGETHER: u32 = 500;

struct Fuzzed {
    runtime: Runtime,
    host: Host,
    held: u32,
}

thread_local! {
    static FUZZED: RefCell<Option<Fuzzed>> = const { RefCell::new(None) };
}

fuzz_target!(|bytes: &[u8]| {
    FUZZED.with_borrow_mut(|fuzzed| {
        let Fuzzed { runtime, host, held } = fuzzed.get_or_insert_with(start);
        let conversation = Conversation::from_bytes(bytes);
        if let Err(what) = runtime.block_on(host.hold(&conversation)) {
            panic!("{what}\nafter {held} others with this broker:\n{conversation}");
        }
        *held += 1;
        if *held == TOGETHER
            && let Some(Fuzzed { runtime, host, .. }) = fuzzed.take()
            && let Err(what) = runtime.block_on(host.stop())
        {
            panic!("{what}");
        }
    });
});

fn start() -> Fuzzed {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let host = runtime.block_on(async {
        // A program of Rust ignores it, but this one's `main` is the fuzzer's: writing to a closed connection would end it.
        signal(SignalKind::pipe()).expect("a handler for SIGPIPE");
        Host::start().await.expect("a broker on the loopback address")
    });
    Fuzzed { runtime, host, held: 0 }
}
