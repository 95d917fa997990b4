//! The same work for many things, on many threads.

use std::num::NonZeroUsize;
use std::thread;

/// How many threads can compute at a time.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Applies `work` to all items, on that many threads at most, and returns what came of it in their order.
pub fn in_parallel<'a, T: Sync, U: Send>(threads: usize, items: &'a [T], work: impl Fn(&'a T) -> U + Sync) -> Vec<U> {
    let share = items.len().div_ceil(threads.max(1)).max(1);
    if share >= items.len() {
        return items.iter().map(work).collect();
    }
    thread::scope(|scope| {
        let work = &work;
        let parts: Vec<_> =
            items.chunks(share).map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<U>>())).collect();
        let mut results = Vec::with_capacity(items.len());
        for part in parts {
            match part.join() {
                Ok(part) => results.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_of_it_stands_in_the_order_of_the_items() {
        for (threads, count) in [(0, 3), (1, 3), (2, 0), (3, 10), (8, 9)] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(in_parallel(threads, &items, |item| item + 1), (1..=count).collect::<Vec<_>>());
        }
    }
}
