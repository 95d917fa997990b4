//! How a client's PUBLISH, SUBSCRIBE and UNSUBSCRIBE are answered.

use std::collections::HashSet;
use std::sync::PoisonError;

use tracing::warn;

use crate::access::{Reads, shortened};
use crate::connection::Client;
use crate::ending::Ending;
use crate::message::{Message, Qos};
use crate::metrics::{DropReason, RefusedRequest};
use crate::request::{Publish, RetainHandling, Wanted};
use crate::retained::Outcome;
use crate::router::{Gone, Unpublished, Unsubscribed};
use crate::subscriptions::Subscriptions;
use crate::topic;
use crate::wire::{Granted, Verdict};

/// Refusals of one client that are logged; the counter knows of all.
const REFUSALS_LOGGED: usize = 20;

impl Client {
    pub(crate) fn publish(&mut self, publish: Publish) -> Result<(), Ending> {
        self.shared.metrics.publish_received.inc();
        self.shared.metrics.publish_bytes_received.inc_by(u64::try_from(publish.payload.len()).unwrap_or_default());
        let max = self.shared.limits.max_payload;
        if !topic::is_valid_topic(&publish.topic) || publish.topic.len() > self.shared.limits.max_topic {
            return Err(Ending::InvalidTopic(shortened(&publish.topic)));
        }
        if publish.payload.len() > max {
            return Err(Ending::PayloadTooLarge { size: publish.payload.len(), max });
        }
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        let verdict = self.route(publish)?;
        match (qos, packet_id) {
            (Qos::AtLeastOnce, Some(packet_id)) => self.wire.puback(packet_id, verdict).map_err(Ending::Codec),
            (Qos::ExactlyOnce, Some(packet_id)) => self.wire.pubrec(packet_id, verdict).map_err(Ending::Codec),
            _ => Ok(()),
        }
    }

    fn route(&mut self, publish: Publish) -> Result<Verdict, Ending> {
        if !self.rights.may_publish(&publish.topic) {
            self.shared.metrics.drop(DropReason::NotAuthorized, 1);
            self.refuse(RefusedRequest::Publish, "it may not publish to", &publish.topic);
            return Ok(Verdict::NotAuthorized);
        }
        let message = Message {
            sequence: 0,
            publisher: self.session.number,
            received: self.shared.now(),
            topic: publish.topic,
            qos: publish.qos,
            retain: publish.retain,
            properties: match &self.publisher {
                Some(publisher) => publisher.sign(&publish.properties),
                None => publish.properties,
            },
            payload: publish.payload,
        };
        // Only who can be told is answered; who cannot must not believe that it arrived.
        let told = self.wire.is_v5() && publish.qos.is_assured();
        match self.shared.publish(message, &self.owner, &self.allowance.topics) {
            Ok(Outcome::Done) => Ok(Verdict::Taken),
            // It was delivered all the same.
            Ok(Outcome::Full) => Ok(Verdict::Quota),
            Err(Unpublished::Gone) => Err(Ending::RouterGone),
            Err(Unpublished::TooManyTopics(topic)) => {
                self.shared.metrics.drop(DropReason::TooManyTopics, 1);
                if !told {
                    return Err(Ending::TooManyTopics(topic));
                }
                self.refuse(RefusedRequest::Publish, "one topic too many for this broker:", &topic);
                Ok(Verdict::Quota)
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, packet_id: u16, wanted: Vec<Wanted>) -> Result<(), Ending> {
        let mut answers = Vec::with_capacity(wanted.len());
        let mut served = HashSet::new();
        for wanted in wanted {
            let existed = self.session.subscriptions.contains(&wanted.filter);
            let granted = self.grant(&wanted, existed).await?;
            answers.push(granted);
            if !matches!(granted, Granted::Yes(_)) {
                self.refuse(RefusedRequest::Subscription, "subscription refused to", &wanted.filter);
                continue;
            }
            if !existed {
                self.shared.metrics.subscriptions.inc();
            }
            let send_retained = match wanted.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::IfNew => !existed,
                RetainHandling::Never => false,
            };
            // Once for a filter that a packet has several times.
            if send_retained && served.insert(wanted.filter.clone()) {
                // The router has the subscription by now, so what is not found here will come from there.
                let found = {
                    let mut store = self.shared.retained.lock().unwrap_or_else(PoisonError::into_inner);
                    store.matching(&wanted.filter, &self.rights, self.shared.now())
                };
                for message in found {
                    self.session
                        .outbox
                        .push(Subscriptions::retained(&wanted, message))
                        .map_err(|_| Ending::QueueFull)?;
                }
            }
            self.session.subscriptions.insert(wanted, &self.rights);
        }
        self.wire.suback(packet_id, &answers).map_err(Ending::Codec)?;
        self.session.count_dropped(&self.shared);
        Ok(())
    }

    async fn grant(&mut self, wanted: &Wanted, existed: bool) -> Result<Granted, Ending> {
        if topic::is_shared(&wanted.filter) {
            return Ok(Granted::Shared);
        }
        if !topic::is_valid_filter(&wanted.filter) || wanted.filter.len() > self.shared.limits.max_topic {
            return Ok(Granted::InvalidFilter);
        }
        if self.rights.reads(&wanted.filter) == Reads::Nothing {
            return Ok(Granted::NotAuthorized);
        }
        if existed {
            return Ok(Granted::Yes(wanted.qos));
        }
        let wildcard = topic::has_wildcard(&wanted.filter);
        let limits = &self.shared.limits;
        if self.session.subscriptions.len() >= limits.max_subscriptions
            || (wildcard && self.session.subscriptions.wildcards() >= limits.max_wildcards)
        {
            return Ok(Granted::Quota);
        }
        let left = if wildcard { &self.allowance.wildcards } else { &self.allowance.filters };
        let reader = match &mut self.session.reader {
            Some(reader) => reader,
            None => {
                let reader = self.shared.router.reader().await.map_err(|Gone| Ending::RouterGone)?;
                self.session.reader.insert(reader)
            }
        };
        match reader.subscribe(&wanted.filter, left).await {
            Ok(()) => Ok(Granted::Yes(wanted.qos)),
            Err(Unsubscribed::TooManyFilters) => Ok(Granted::Quota),
            Err(Unsubscribed::Gone) => Err(Ending::RouterGone),
        }
    }

    pub(crate) fn unsubscribe(&mut self, packet_id: u16, filters: &[String]) -> Result<(), Ending> {
        let mut existed = Vec::with_capacity(filters.len());
        for filter in filters {
            let removed = self.session.subscriptions.remove(filter);
            if removed {
                self.shared.metrics.subscriptions.dec();
            }
            if let (true, Some(reader)) = (removed, &mut self.session.reader) {
                reader.unsubscribe(filter).map_err(|Gone| Ending::RouterGone)?;
            }
            existed.push(removed);
        }
        self.wire.unsuback(packet_id, &existed).map_err(Ending::Codec)
    }

    /// Counts a refusal, and logs the first of its kind.
    fn refuse(&mut self, request: RefusedRequest, what: &str, name: &str) {
        self.shared.metrics.refuse(request);
        let name = shortened(name);
        let new = self.refused.len() < REFUSALS_LOGGED && self.refused.insert(format!("{what} {name}"));
        if new && self.shared.log.allows() {
            warn!(client = self.session.client_id, "{what} {name:?}");
        }
    }
}
