//! The signed list of revoked certificates, published for everybody on the site and for the log.
//!
//! A verifier of the log judges a device's signature by the list that stands before it there; the broker itself goes by
//! the same list in [`crate::access`].

use std::sync::Arc;

use bytes::Bytes;
use tracing::{error, info};

use crate::access::{Access, Owner};
use crate::message::{Message, Qos};
use crate::shared::Shared;

/// Publishes the list, retained, at the start and whenever another one is loaded, until the broker stops.
pub async fn publish(shared: Arc<Shared>) {
    let mut access = shared.access.clone();
    let mut published = Bytes::new();
    loop {
        publish_if_new(&shared, &Arc::clone(&access.borrow_and_update()), &mut published);
        tokio::select! {
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

fn publish_if_new(shared: &Shared, access: &Access, published: &mut Bytes) {
    let Some((topic, payload)) = access.revocations().filter(|(_, payload)| *payload != published) else {
        return;
    };
    let message = Message {
        sequence: 0,
        publisher: 0,
        received: shared.now(),
        topic: topic.to_owned(),
        qos: Qos::AtLeastOnce,
        retain: true,
        properties: Bytes::new(),
        payload: payload.clone(),
    };
    match shared.publish(message, &Owner::Anyone, &shared.own_topics) {
        Ok(_) => info!(topic, "the list of revoked certificates is published"),
        Err(why) => error!(topic, ?why, "the list of revoked certificates could not be published"),
    }
    published.clone_from(payload);
}
