//! Ending between two steps.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::folder::DurableError;

/// How many more steps may be done. Shared: one side works, the other says stop.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicU64>);

impl Stop {
    /// Without end.
    pub fn never() -> Self {
        Self::after(u64::MAX)
    }

    /// Before step `steps` + 1.
    pub fn after(steps: u64) -> Self {
        Self(Arc::new(AtomicU64::new(steps)))
    }

    /// Before the next step.
    pub fn now(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    pub(crate) fn step(&self, action: &'static str, path: &Path) -> Result<(), DurableError> {
        let count = |left: u64| if left == u64::MAX { Some(left) } else { left.checked_sub(1) };
        match self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count) {
            Ok(_) => Ok(()),
            Err(_) => Err(DurableError::Stopped { action, path: path.to_owned() }),
        }
    }
}
