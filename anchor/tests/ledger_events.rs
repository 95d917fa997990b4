//! What a running anchor does and says of its own accord about the ledger: a record early after an overload, and events when
//! the money is gone and when it is there again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "support/node.rs"]
mod node;
#[path = "../ledger/tests/support/owner.rs"]
mod owner;
mod support;

use std::time::Duration;

use grid_anchor::initialise::initialise;
use grid_anchor::notary::NotarySettings;
use grid_anchor::service::run;
use grid_ledger::MOST_NANOS_PER_RECORD;
use grid_protocol::message::{Checkpoint, Event, Message, Phase, Role};
use grid_protocol::seal::Sealed;
use grid_protocol::units::{MilliAmps, Millis};
use grid_service::link::{Incoming, Link};
use node::Node;
use owner::Owner;
use support::{Device, Site, name};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::timeout;

/// Early is a tenth of it.
const INTERVAL: Millis = Millis(30_000);
/// Much longer than early, and shorter than the interval.
const SOON: Duration = Duration::from_secs(15);

fn overload() -> Event {
    Event::OverloadStarted { phase: Phase::L2, load_ma: MilliAmps(120_000), limit_ma: MilliAmps(116_000) }
}

/// Hears what the anchor says: its events, and its checkpoints.
async fn listen(
    (_link, mut incoming): (Link, Receiver<Incoming>),
    events: UnboundedSender<Event>,
    checkpoints: watch::Sender<Option<Checkpoint>>,
) {
    while let Some(happened) = incoming.recv().await {
        let Incoming::Message(message) = happened else { continue };
        let sealed = Sealed::parse(&message.payload).unwrap();
        if message.topic.ends_with("/event") {
            events.send(sealed.read::<Message<Event>>().unwrap().body).unwrap();
        } else {
            checkpoints.send_replace(Some(sealed.read::<Message<Checkpoint>>().unwrap().body));
        }
    }
}

/// Says that, and goes on repeating it until it is known.
async fn tell(transformer: &mut Device, event: Event) {
    transformer.tell(event);
    transformer.until_acknowledged().await;
}

async fn hears(events: &mut UnboundedReceiver<Event>, expected: impl Fn(&Event) -> bool) {
    let heard = async {
        loop {
            if expected(&events.recv().await.unwrap()) {
                return;
            }
        }
    };
    timeout(SOON, heard).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overload_is_soon_on_the_ledger_and_money_that_is_gone_and_comes_back_is_told() {
    let site = Site::start().await;
    let node = Node::start(&site.folder.path().join("mock.state")).await;
    let made = initialise(&site.data_dir(), (&name("demo"), None), &site.authority(), &node.endpoints(), None).await;
    let trail = made.unwrap().trail;
    let (heard, mut events) = unbounded_channel();
    let checkpoints = watch::Sender::new(None);
    let mut newest = checkpoints.subscribe();
    let topics = ["event", "checkpoint"].map(|kind| format!("grid/demo/anchor-1/{kind}")).to_vec();
    tokio::spawn(listen(Link::open(&site.broker(), &name("listener"), topics), heard, checkpoints));
    let (settings, identity) = site.anchor();
    let notary = NotarySettings {
        folder: site.data_dir(),
        endpoints: node.endpoints(),
        interval: INTERVAL,
        on_event: true,
        most_nanos_per_record: MOST_NANOS_PER_RECORD,
    };
    let never = std::future::pending();
    tokio::spawn(run(settings, identity, site.broker(), Some(notary), watch::Sender::default(), never));

    let mut transformer = site.device_as(Role::Transformer, "trafo-1", 1);
    transformer.live(20, Duration::from_secs(2)).await;
    transformer.until_acknowledged().await;
    assert_eq!(node.records(trail).await.len(), 0);
    tell(&mut transformer, overload()).await;
    let is_receipt = |said: &Option<Checkpoint>| said.as_ref().is_some_and(|said| said.receipt.is_some());
    let said = timeout(SOON, newest.wait_for(is_receipt)).await.unwrap().unwrap().clone().unwrap();
    assert_eq!((node.records(trail).await.len(), said.receipt.unwrap().record), (1, 0));
    let owner = Owner::new(&site.data_dir(), node.url());
    let purse = said.purse.unwrap();
    assert_eq!(purse.address, owner.address().to_string());
    assert_eq!(purse.balance_nanos, owner.coins().await.iter().sum::<u64>());
    assert_eq!((purse.record_nanos, purse.days_left.is_some()), (Some(purse.spent_nanos), true));

    owner.keep(&[], 2_000_000).await;
    tell(&mut transformer, overload()).await;
    hears(&mut events, |event| matches!(event, Event::LedgerMoneyLow { days_left: 0, .. })).await;
    hears(&mut events, |event| matches!(event, Event::LedgerFailed { why } if why.contains("send it some"))).await;
    assert_eq!(node.records(trail).await.len(), 1);

    node.give(owner.address()).await;
    tell(&mut transformer, overload()).await;
    // The one when it is known what the address holds, the other when the record is on the ledger.
    hears(&mut events, |event| matches!(event, Event::LedgerMoneyEnough { .. })).await;
    hears(&mut events, |event| *event == Event::LedgerRecovered {}).await;
    assert_eq!(node.records(trail).await.len(), 2);
}
