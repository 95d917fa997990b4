//! Seeded conversations with a running broker: the harness of the fuzzer, bounded, on stable Rust.
//!
//! `CONVERSATIONS` says how many are held (default 300), `CONVERSATION_SEED` with which seed they begin (default 1). A
//! failure says which seed to give to hold the same ones again, with the same number of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod conversation;

use std::sync::{Arc, Mutex};

use conversation::{Conversation, Host};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Each has its own seed and its part of the conversations: sessions and retained messages of one reach into the next,
/// and what is never given back is used up at some time.
const BROKERS: u64 = 2;
const MOST_BYTES: usize = 600;
/// Memory that each broker but the first may leave behind: its router's, whose thread cannot be ended.
const LEFT_BEHIND_KB: u64 = 4_000;

#[test]
fn whatever_clients_say_the_broker_answers_in_proper_mqtt_and_goes_on_serving() {
    let number = |name, default| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    };
    let (conversations, first_seed): (u64, u64) = (number("CONVERSATIONS", 300), number("CONVERSATION_SEED", 1));
    let panics = note_panics();
    let mut after_first = None;
    for seed in first_seed..first_seed + BROKERS {
        // One thread for broker and clients, so that a seed does the same again as nearly as it can.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(hold(seed, conversations.div_ceil(BROKERS), &panics));
        drop(runtime);
        after_first.get_or_insert_with(resident_kb);
    }
    let growth = resident_kb().saturating_sub(after_first.unwrap_or_default());
    assert!(growth <= (BROKERS - 1) * LEFT_BEHIND_KB, "{} brokers left {growth} kB behind", BROKERS - 1);
}

async fn hold(seed: u64, conversations: u64, panics: &Mutex<Vec<String>>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut host = Host::start().await.unwrap();
    for number in 0..conversations {
        let mut bytes = vec![0; random.gen_range(40..MOST_BYTES)];
        random.fill(&mut bytes[..]);
        let conversation = Conversation::from_bytes(&bytes);
        let result = host.hold(&conversation).await;
        let panics = panics.lock().unwrap();
        if result.is_err() || !panics.is_empty() {
            panic!("{result:?} {panics:?}\nCONVERSATION_SEED={seed}, conversation {number}:\n{conversation}");
        }
    }
    host.stop().await.unwrap_or_else(|what| panic!("{what}\nCONVERSATION_SEED={seed}"));
}

/// Panics of the broker's tasks and threads end nothing but those, so they are noted here.
fn note_panics() -> Arc<Mutex<Vec<String>>> {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let (before, notes) = (std::panic::take_hook(), Arc::clone(&noted));
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        // Held by the test itself while it fails.
        if let Ok(mut notes) = notes.try_lock() {
            notes.push(panic.to_string());
        }
    }));
    noted
}

/// Resident memory of this process (proc(5)).
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
