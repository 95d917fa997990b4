//! What reaches whom: retained messages, wills, properties, overlapping subscriptions, with real peers of both versions.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use grid_service::link::{Delivery, Incoming, Link, Loss};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use support::*;

const VERSIONS: [&str; 2] = ["311", "5"];

#[tokio::test]
async fn mosquitto_clients_of_both_versions_understand_each_other_at_every_qos() {
    let broker = Broker::start().await;
    for from in VERSIONS {
        for to in VERSIONS {
            for qos in ["0", "1", "2"] {
                let (topic, text) = (format!("t/{from}/{to}/{qos}"), format!("from {from} to {to} at {qos}"));
                // Retained, so that it does not matter who is first.
                let publish = ["-V", from, "-t", &topic, "-m", &text, "-q", qos, "-r"];
                let published = Mosquitto::spawn("mosquitto_pub", &broker, &publish).output().await;
                assert!(published.status.success(), "{published:?}");
                let subscribe = ["-V", to, "-t", &topic, "-q", qos, "-C", "1", "-W", "20"];
                assert_eq!(Mosquitto::spawn("mosquitto_sub", &broker, &subscribe).lines().await, [text]);
            }
        }
    }
    broker.stop().await;
}

#[tokio::test]
async fn rumqttc_publishes_at_qos_1_and_every_message_arrives_in_order() {
    let broker = Broker::start().await;
    let options = |id: &str| {
        let mut options = MqttOptions::new(id, "127.0.0.1", broker.address.port());
        options.set_keep_alive(Duration::from_secs(5));
        options
    };
    let (subscriber, mut received) = AsyncClient::new(options("subscriber"), 10);
    subscriber.subscribe("numbers/#", QoS::AtLeastOnce).await.unwrap();
    while !matches!(within(received.poll()).await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
    let (publisher, mut events) = AsyncClient::new(options("publisher"), 10);
    let polling = tokio::spawn(async move { while events.poll().await.is_ok() {} });
    let publishing = tokio::spawn(async move {
        for number in 0..1000 {
            publisher.publish("numbers/x", QoS::AtLeastOnce, false, number.to_string()).await.unwrap();
        }
        publisher
    });
    for number in 0..1000 {
        let message = loop {
            if let Event::Incoming(Packet::Publish(message)) = within(received.poll()).await.unwrap() {
                break message;
            }
        };
        assert_eq!(message.payload, number.to_string());
        assert_eq!(message.qos, QoS::AtLeastOnce);
    }
    drop(publishing.await.unwrap());
    polling.abort();
    broker.stop().await;
}

#[tokio::test]
async fn all_matching_retained_messages_come_at_every_subscribe() {
    let broker = Broker::start().await;
    let mut publisher = broker.v3("p").await;
    for number in 0..700 {
        publisher.send(&publish_v3(&format!("kept/{number:03}"), b"x", 0, true, 0)).await;
    }
    publisher.expect_silence().await;
    let mut subscriber = broker.v3("s").await;
    for _ in 0..2 {
        subscriber.subscribe("kept/+", 0).await;
        for number in 0..700 {
            let expected = publish_v3(&format!("kept/{number:03}"), b"x", 0, true, 0);
            assert_eq!(subscriber.packet().await, expected);
        }
        subscriber.expect_silence().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn an_empty_retained_message_clears_its_topic_and_an_empty_ordinary_one_does_not() {
    let broker = Broker::start().await;
    let mut publisher = broker.v3("p").await;
    publisher.send(&publish_v3("t", b"kept", 1, true, 1)).await;
    publisher.expect("40020001").await;
    publisher.send(&publish_v3("t", b"", 1, false, 2)).await;
    publisher.expect("40020002").await;
    let mut first = broker.v3("first").await;
    first.subscribe("t", 1).await;
    assert_eq!(first.packet().await, publish_v3("t", b"kept", 1, true, 1));
    publisher.send(&publish_v3("t", b"", 1, true, 3)).await;
    publisher.expect("40020003").await;
    // Who is subscribed gets it like any other, without the flag.
    assert_eq!(first.packet().await, publish_v3("t", b"", 1, false, 2));
    let mut second = broker.v3("second").await;
    second.subscribe("t", 1).await;
    second.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn retain_handling_and_retain_as_published_do_what_a_v5_client_asks() {
    let broker = Broker::start().await;
    let mut publisher = broker.v5("p").await;
    // With a user property, which is kept with the message.
    let properties = bytes("26000161000162");
    let kept = publish_v5("t", &properties, b"kept", 0, true, 0);
    publisher.send(&kept).await;
    publisher.expect_silence().await;

    let mut never = broker.v5("never").await;
    never.subscribe_v5("t", 0x20).await;
    never.expect_silence().await;

    let mut if_new = broker.v5("if-new").await;
    if_new.subscribe_v5("t", 0x10).await;
    assert_eq!(if_new.packet().await, kept);
    if_new.subscribe_v5("t", 0x10).await;
    if_new.expect_silence().await;

    let mut as_published = broker.v5("as-published").await;
    as_published.subscribe_v5("t", 0x28).await;
    let mut plain = broker.v5("plain").await;
    plain.subscribe_v5("t", 0x20).await;
    publisher.send(&kept).await;
    assert_eq!(as_published.packet().await, kept);
    assert_eq!(plain.packet().await, publish_v5("t", &properties, b"kept", 0, false, 0));
    broker.stop().await;
}

#[tokio::test]
async fn overlapping_subscriptions_bring_a_message_once() {
    let broker = Broker::start().await;
    let mut subscriber = broker.v3("s").await;
    for filter in ["a/#", "a/b", "+/b", "#"] {
        subscriber.subscribe(filter, 1).await;
    }
    let mut publisher = broker.v3("p").await;
    for number in 1..=50_u16 {
        publisher.send(&publish_v3("a/b", &number.to_be_bytes(), 1, false, number)).await;
        publisher.expect(&format!("4002{number:04x}")).await;
        assert_eq!(subscriber.packet().await, publish_v3("a/b", &number.to_be_bytes(), 1, false, number));
    }
    subscriber.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_client_gets_its_own_messages_unless_it_says_no_local() {
    let broker = Broker::start().await;
    let mut client = broker.v5("c").await;
    client.subscribe_v5("mine", 0).await;
    let own = publish_v5("mine", &[], b"x", 0, false, 0);
    client.send(&own).await;
    assert_eq!(client.packet().await, own);
    client.subscribe_v5("mine", 4).await;
    client.send(&own).await;
    client.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn after_unsubscribing_nothing_comes_and_every_unsubscribe_is_answered() {
    let broker = Broker::start().await;
    let mut client = broker.v3("c").await;
    client.subscribe("t", 0).await;
    let unsubscribe = packet(0xa2, &bytes("0007 0001 74 0007 756e6b6e6f776e"));
    client.send(&unsubscribe).await;
    client.expect("b0020007").await;
    client.send(&unsubscribe).await;
    client.expect("b0020007").await;
    client.send(&publish_v3("t", b"x", 0, false, 0)).await;
    client.expect_silence().await;
    let mut new = broker.v5("n").await;
    new.subscribe_v5("t", 0).await;
    new.send(&packet(0xa2, &bytes("0007 00 0001 74 0007 756e6b6e6f776e"))).await;
    new.expect("b005 0007 00 00 11").await;
    broker.stop().await;
}

#[tokio::test]
async fn the_will_of_a_client_that_vanishes_is_published_and_kept_if_it_says_so() {
    let broker = Broker::start().await;
    let mut witness = broker.v3("witness").await;
    witness.subscribe("will/#", 0).await;
    let mut client = broker.raw().await;
    client.send(&connect_v3_will("mortal", "will/mortal", "gone", true)).await;
    client.expect("20020000").await;
    client.stream.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(witness.packet().await, publish_v3("will/mortal", b"gone", 0, false, 0));
    let mut late = broker.v3("late").await;
    late.subscribe("will/mortal", 0).await;
    assert_eq!(late.packet().await, publish_v3("will/mortal", b"gone", 0, true, 0));
    broker.stop().await;
}

#[tokio::test]
async fn a_goodbye_discards_the_will_unless_it_asks_for_it() {
    let broker = Broker::start().await;
    let mut witness = broker.v3("witness").await;
    witness.subscribe("will/#", 0).await;
    for (id, goodbye) in [("quiet", "e000"), ("loud", "e00104")] {
        let mut client = broker.raw().await;
        if id == "quiet" {
            client.send(&connect_v3_will(id, "will/quiet", "gone", false)).await;
            client.expect("20020000").await;
        } else {
            // CONNECT of MQTT 5 with a will on will/loud.
            client
                .send(&packet(0x10, &bytes("00044d515454 05 06 0000 00 0001 6c 00 0009 77696c6c2f6c6f7564 0001 78")))
                .await;
            assert_eq!(client.packet().await[0], 0x20);
        }
        client.send_hex(goodbye).await;
        client.expect_close().await;
    }
    assert_eq!(witness.packet().await, publish_v3("will/loud", b"x", 0, false, 0));
    witness.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_takeover_publishes_the_will_of_the_older_connection_and_tells_it_why_it_is_closed() {
    let broker = Broker::start().await;
    let mut witness = broker.v3("witness").await;
    witness.subscribe("will/#", 0).await;
    let mut older = broker.raw().await;
    older.send(&connect_v3_will("same", "will/older", "gone", false)).await;
    older.expect("20020000").await;
    let mut newer = broker.raw().await;
    newer.send(&connect_v3_will("same", "will/newer", "gone", false)).await;
    newer.expect("20020000").await;
    older.expect_close().await;
    assert_eq!(witness.packet().await, publish_v3("will/older", b"gone", 0, false, 0));
    witness.expect_silence().await;
    newer.send_hex("e000").await;
    newer.expect_close().await;
    let mut first = broker.v5("again").await;
    broker.v5("again").await;
    first.expect_disconnect(0x8e).await;
    broker.stop().await;
}

#[tokio::test]
async fn a_message_that_expires_while_it_is_kept_is_not_delivered() {
    let broker = Broker::start().await;
    let mut publisher = broker.v5("p").await;
    publisher.send(&publish_v5("short", &bytes("0200000001"), b"x", 0, true, 0)).await;
    publisher.send(&publish_v5("long", &bytes("0200000100"), b"x", 0, true, 0)).await;
    publisher.expect_silence().await;
    let expired = async {
        for attempt in 0_u32.. {
            let mut subscriber = broker.v5(&format!("s{attempt}")).await;
            subscriber.subscribe_v5("short", 0).await;
            subscriber.send_hex("c000").await;
            if subscriber.packet().await == bytes("d000") {
                return;
            }
        }
    };
    within(expired).await;
    let mut subscriber = broker.v5("s").await;
    subscriber.subscribe_v5("long", 0).await;
    let message = subscriber.packet().await;
    // What is left of its 256 seconds.
    assert_eq!(message[8..12], bytes("05020000")[..], "{message:02x?}");
    broker.stop().await;
}

#[tokio::test]
async fn sixty_thousand_messages_at_qos_1_reach_one_wildcard_subscriber_complete_and_in_order() {
    const COUNT: u32 = 60_000;
    let broker = Broker::start().await;
    let mut subscriber = broker.v3("s").await;
    subscriber.subscribe("#", 1).await;
    let mut publisher = broker.v3("p").await;
    let publishing = tokio::spawn(async move {
        for number in 0..COUNT {
            let id = u16::try_from(number % 60_000 + 1).unwrap();
            let payload = [&number.to_be_bytes()[..], &[b'x'; 296]].concat();
            publisher.send(&publish_v3("burst/topic", &payload, 1, false, id)).await;
            // Without this the acknowledgements would fill the connection, since nobody reads them.
            if number % 1000 == 999 {
                for _ in 0..1000 {
                    publisher.packet().await;
                }
            }
        }
    });
    for number in 0..COUNT {
        let message = subscriber.packet().await;
        let start = message.len() - 300;
        assert_eq!(message[start..start + 4], number.to_be_bytes());
        subscriber.send(&[0x40, 2, message[start - 2], message[start - 1]]).await;
    }
    publishing.await.unwrap();
    broker.stop().await;
}

#[tokio::test]
async fn what_several_publish_at_once_reaches_every_subscriber_complete_whatever_its_filter() {
    const COUNT: u16 = 2000;
    let broker = Broker::start().await;
    let mut subscribers = Vec::new();
    for (index, filter) in ["#", "load/#", "load/+", "load/0", "load/1", "load/2", "+/+", "#"].iter().enumerate() {
        let mut subscriber = broker.v3(&format!("s{index}")).await;
        subscriber.subscribe(filter, 1).await;
        let topics = if filter.contains(['+', '#']) { 3 } else { 1 };
        subscribers.push(tokio::spawn(async move {
            let mut next = std::collections::HashMap::new();
            for _ in 0..usize::from(COUNT) * topics {
                let message = subscriber.packet().await;
                let start = message.len() - 202;
                let number = u16::from_be_bytes([message[start], message[start + 1]]);
                subscriber.send(&[0x40, 2, message[start - 2], message[start - 1]]).await;
                let topic = message[start - 3];
                assert_eq!(next.insert(topic, number).unwrap_or(0) + 1, number, "in order");
            }
            subscriber.expect_silence().await;
        }));
    }
    for index in 0..3 {
        let mut publisher = broker.v3(&format!("p{index}")).await;
        tokio::spawn(async move {
            for number in 1..=COUNT {
                let payload = [&number.to_be_bytes()[..], &[b'x'; 200]].concat();
                publisher.send(&publish_v3(&format!("load/{index}"), &payload, 1, false, number)).await;
            }
            for _ in 1..=COUNT {
                publisher.packet().await;
            }
        });
    }
    for subscriber in subscribers {
        within(subscriber).await.unwrap();
    }
    broker.stop().await;
}

#[tokio::test]
async fn an_agent_whose_name_another_uses_hears_that_it_was_thrown_out() {
    let broker = Broker::start().await;
    let settings = grid_service::broker::Broker::plain("127.0.0.1", broker.address.port());
    let open = || Link::open(&settings, &"cp-1".parse().unwrap(), Vec::new());
    let (_first, mut events) = open();
    while !matches!(within(events.recv()).await, Some(Incoming::Connected)) {}
    let (_second, mut others) = open();
    while !matches!(within(others.recv()).await, Some(Incoming::Connected)) {}
    let lost = async {
        loop {
            if let Some(Incoming::Lost(loss)) = events.recv().await {
                return loss;
            }
        }
    };
    assert_eq!(within(lost).await, Loss::ThrownOut);
    broker.stop().await;
}

#[tokio::test]
async fn who_subscribes_again_hears_again_what_is_kept_and_goes_on_as_before() {
    let broker = Broker::start().await;
    let settings = grid_service::broker::Broker::plain("127.0.0.1", broker.address.port());
    let (link, mut events) = Link::open(&settings, &"anchor-1".parse().unwrap(), vec!["grid/demo/#".to_owned()]);
    assert!(link.subscribe_again().is_err(), "there is no connection yet");
    while !matches!(within(events.recv()).await, Some(Incoming::Connected)) {}
    let mut heard = async || match within(events.recv()).await {
        Some(Incoming::Message(received)) => (String::from_utf8(received.payload.to_vec()).unwrap(), received.retained),
        other => panic!("{other:?}"),
    };
    link.publish("grid/demo/cp-1/status", b"kept".to_vec(), Delivery::AssuredRetained).unwrap();
    link.publish("grid/demo/cp-1/event", b"not kept".to_vec(), Delivery::Assured).unwrap();
    assert_eq!([heard().await, heard().await], [("kept".to_owned(), false), ("not kept".to_owned(), false)]);
    link.subscribe_again().unwrap();
    assert_eq!(heard().await, ("kept".to_owned(), true));
    link.publish("grid/demo/cp-1/event", b"later".to_vec(), Delivery::Assured).unwrap();
    assert_eq!(heard().await, ("later".to_owned(), false));
    broker.stop().await;
}
