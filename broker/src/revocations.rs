//! The signed list of revoked certificates, published for everybody on the site and for the log.
//!
//! A verifier of the log judges a device's signature by the list that stands before it there; the broker itself goes by
//! the same list in [`crate::access`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::{error, info};

use crate::access::Access;
use crate::message::Qos;
use crate::shared::Shared;

/// When it is tried again after it could not be published.
const AGAIN: Duration = Duration::from_secs(60);

/// Publishes the list, retained, at the start and whenever another one is loaded, until the broker stops.
pub async fn publish(shared: Arc<Shared>) {
    let mut access = shared.access.clone();
    let mut published = Bytes::new();
    loop {
        let done = publish_if_new(&shared, &Arc::clone(&access.borrow_and_update()), &mut published);
        tokio::select! {
            () = tokio::time::sleep(AGAIN), if !done => {}
            changed = access.changed() => {
                if changed.is_err() {
                    // Nobody can load anything any more.
                    return;
                }
            }
            () = shared.shutdown.cancelled() => return,
        }
    }
}

/// Whether the list of this moment is published.
fn publish_if_new(shared: &Shared, access: &Access, published: &mut Bytes) -> bool {
    let Some((topic, payload)) = access.revocations().filter(|(_, payload)| *payload != published) else {
        return true;
    };
    match shared.publish_own(topic.to_owned(), payload.clone(), Qos::AtLeastOnce) {
        Ok(_) => {
            info!(topic, "the list of revoked certificates is published");
            published.clone_from(payload);
            true
        }
        Err(why) => {
            error!(topic, ?why, "the list of revoked certificates could not be published; trying again in {AGAIN:?}");
            false
        }
    }
}
