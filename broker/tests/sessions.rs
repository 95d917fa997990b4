//! What of a client outlives its connection, and QoS 2.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use grid_broker::Limits;
use support::*;

/// A 3.1.1 client without clean session.
async fn lasting(broker: &Broker, id: &str, present: bool) -> Raw {
    let mut client = broker.raw().await;
    client.send(&connect_v3_lasting(id)).await;
    client.expect(if present { "20020100" } else { "20020000" }).await;
    client
}

/// An MQTT 5 client with these CONNECT properties and clean start as told; also whether its session was present.
async fn v5(broker: &Broker, id: &str, clean: bool, properties: &str) -> (Raw, bool) {
    let mut client = broker.raw().await;
    let mut connect = connect_v5(id, &bytes(properties));
    connect[9] = if clean { 2 } else { 0 };
    client.send(&connect).await;
    let connack = client.packet().await;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
    (client, connack[2] == 1)
}

const HUNDRED_SECONDS: &str = "1100000064";

/// Publishes at QoS 1 and waits for the acknowledgement.
async fn publish(publisher: &mut Raw, topic: &str, payload: &[u8], qos: u8, id: u16) {
    publisher.send(&publish_v3(topic, payload, qos, false, id)).await;
    match qos {
        0 => publisher.expect_silence().await,
        1 => publisher.expect(&format!("4002{id:04x}")).await,
        _ => {
            publisher.expect(&format!("5002{id:04x}")).await;
            publisher.send_hex(&format!("6202{id:04x}")).await;
            publisher.expect(&format!("7002{id:04x}")).await;
        }
    }
}

#[tokio::test]
async fn a_session_waits_for_its_client_with_what_it_is_subscribed_to_and_what_came_meanwhile() {
    let broker = Broker::start().await;
    let mut client = lasting(&broker, "c", false).await;
    client.subscribe("t/#", 2).await;
    client.send_hex("e000").await;
    client.expect_close().await;
    let mut publisher = broker.v3("p").await;
    for (number, qos) in [(1, 1), (2, 0), (3, 2)] {
        publish(&mut publisher, "t/x", &[b'0' + number], qos, number.into()).await;
    }
    let mut client = lasting(&broker, "c", true).await;
    // What was sent at most once is not kept for who is away.
    assert_eq!(client.packet().await, publish_v3("t/x", b"1", 1, false, 1));
    assert_eq!(client.packet().await, publish_v3("t/x", b"3", 2, false, 2));
    publish(&mut publisher, "t/x", b"4", 0, 0).await;
    assert_eq!(client.packet().await, publish_v3("t/x", b"4", 0, false, 0));
    broker.stop().await;
}

#[tokio::test]
async fn a_clean_start_forgets_the_session() {
    let broker = Broker::start().await;
    let mut client = lasting(&broker, "c", false).await;
    client.subscribe("t", 1).await;
    drop(client);
    let mut publisher = broker.v3("p").await;
    publish(&mut publisher, "t", b"x", 1, 1).await;
    let mut client = broker.v3("c").await;
    client.expect_silence().await;
    publish(&mut publisher, "t", b"x", 1, 2).await;
    client.expect_silence().await;
    drop(client);
    lasting(&broker, "c", false).await.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_in_its_order_with_its_packet_id() {
    let broker = Broker::start().await;
    for properties in ["", "210005"] {
        let (mut client, present) = v5(&broker, "c", true, &[HUNDRED_SECONDS, properties].concat()).await;
        assert!(!present);
        client.subscribe_v5("t", 2).await;
        let mut publisher = broker.v3("p").await;
        for (number, qos) in [(1, 1), (2, 2), (3, 2), (4, 1)] {
            publish(&mut publisher, "t", &[b'0' + number], qos, number.into()).await;
            assert_eq!(client.packet().await.last(), Some(&(b'0' + number)));
        }
        // 4 is acknowledged, 3 is received; 1 and 2 are not.
        client.send_hex("40020004 50020003").await;
        client.expect("62020003").await;
        drop(client);

        let (mut client, present) = v5(&broker, "c", false, &[HUNDRED_SECONDS, properties].concat()).await;
        assert!(present);
        let dup = |mut packet: Vec<u8>| {
            packet[0] |= 8;
            packet
        };
        assert_eq!(client.packet().await, dup(publish_v5("t", &[], b"1", 1, false, 1)));
        assert_eq!(client.packet().await, dup(publish_v5("t", &[], b"2", 2, false, 2)));
        client.expect("62020003").await;
        client.send_hex("40020001 50020002 70020003").await;
        client.expect("62020002").await;
        client.send_hex("70020002").await;
        client.expect_silence().await;
        // The window is as large as before.
        for number in 5..=9_u8 {
            publish(&mut publisher, "t", &[b'0' + number], 2, number.into()).await;
            assert_eq!(client.packet().await.last(), Some(&(b'0' + number)));
        }
        client.expect_silence().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_session_goes_on_in_the_other_version_of_the_protocol() {
    let broker = Broker::start().await;
    let mut old = lasting(&broker, "c", false).await;
    old.subscribe("t", 1).await;
    let mut publisher = broker.v3("p").await;
    publish(&mut publisher, "t", b"1", 1, 1).await;
    assert_eq!(old.packet().await, publish_v3("t", b"1", 1, false, 1));
    drop(old);
    let (mut new, present) = v5(&broker, "c", false, "").await;
    assert!(present);
    assert_eq!(new.packet().await[0], 0x3a);
    // It did not ask for an expiry, so the session ends with this connection.
    drop(new);
    lasting(&broker, "c", false).await.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over() {
    let broker = Broker::start().await;
    let (mut client, _) = v5(&broker, "c", true, "1100000001").await;
    client.subscribe_v5("t", 1).await;
    drop(client);
    let forgotten = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            // Looks in, and leaves the session as it was.
            let (mut client, present) = v5(&broker, "c", false, "1100000001").await;
            if !present {
                return;
            }
            client.send_hex("e000").await;
            client.expect_close().await;
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
    };
    within(forgotten).await;
    broker.stop().await;
}

#[tokio::test]
async fn a_goodbye_can_change_how_long_the_session_is_kept_but_not_begin_it() {
    let broker = Broker::start().await;
    let (mut client, _) = v5(&broker, "c", true, HUNDRED_SECONDS).await;
    client.send_hex("e007 00 05 1100000000").await;
    client.expect_close().await;
    let (mut client, present) = v5(&broker, "c", false, "").await;
    assert!(!present);
    client.send_hex("e007 00 05 1100000064").await;
    client.expect_disconnect(0x82).await;
    client.expect_close().await;
    broker.stop().await;
}

#[tokio::test]
async fn whoever_takes_over_a_session_gets_what_the_older_connection_did_not_acknowledge() {
    let broker = Broker::start().await;
    let mut client = lasting(&broker, "c", false).await;
    client.subscribe("t", 1).await;
    let mut publisher = broker.v3("p").await;
    for round in 1..=200_u16 {
        publish(&mut publisher, "t", &round.to_be_bytes(), 1, round).await;
        let mut newer = lasting(&broker, "c", true).await;
        let message = newer.packet().await;
        assert_eq!(message[message.len() - 2..], round.to_be_bytes(), "{message:02x?}");
        newer.send(&[0x40, 2, message[5], message[6]]).await;
        newer.expect_silence().await;
        client = newer;
    }
    client.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_qos_2_message_sent_again_after_a_reconnect_is_not_published_again() {
    let broker = Broker::start().await;
    let mut subscriber = broker.v3("s").await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = lasting(&broker, "p", false).await;
    let mut message = publish_v3("t", b"once", 2, false, 7);
    publisher.send(&message).await;
    publisher.expect("50020007").await;
    // On the same connection, and on the next one.
    message[0] |= 8;
    publisher.send(&message).await;
    publisher.expect("50020007").await;
    drop(publisher);
    let mut publisher = lasting(&broker, "p", true).await;
    publisher.send(&message).await;
    publisher.expect("50020007").await;
    publisher.send_hex("62020007").await;
    publisher.expect("70020007").await;
    // A release that was sent again is answered again.
    publisher.send_hex("62020007").await;
    publisher.expect("70020007").await;
    // The id is free for another message.
    publisher.send(&publish_v3("t", b"next", 2, false, 7)).await;
    publisher.expect("50020007").await;
    assert_eq!(subscriber.packet().await, publish_v3("t", b"once", 2, false, 1));
    assert_eq!(subscriber.packet().await, publish_v3("t", b"next", 2, false, 2));
    subscriber.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_client_that_refuses_a_qos_2_message_gets_the_next_one() {
    let broker = Broker::start().await;
    let (mut client, _) = v5(&broker, "c", true, "210001").await;
    client.subscribe_v5("t", 2).await;
    let mut publisher = broker.v3("p").await;
    publish(&mut publisher, "t", b"1", 2, 1).await;
    publish(&mut publisher, "t", b"2", 2, 2).await;
    assert_eq!(client.packet().await.last(), Some(&b'1'));
    client.expect_silence().await;
    client.send_hex("5003 0001 99").await;
    assert_eq!(client.packet().await.last(), Some(&b'2'));
    broker.stop().await;
}

#[tokio::test]
async fn when_too_much_waits_for_a_client_that_is_away_its_session_ends_so_that_it_is_told() {
    let broker = Broker::start_with(Limits { max_queued: 50, ..Limits::default() }).await;
    let mut client = lasting(&broker, "c", false).await;
    client.subscribe("t", 1).await;
    client.send_hex("e000").await;
    client.expect_close().await;
    let mut publisher = broker.v3("p").await;
    for number in 1..=60 {
        publish(&mut publisher, "t", b"x", 1, number).await;
    }
    lasting(&broker, "c", false).await.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn sessions_of_clients_that_are_away_are_limited_and_take_no_place_of_connected_ones() {
    let broker = Broker::start_with(Limits { max_clients: 2, max_sessions_away: 3, ..Limits::default() }).await;
    for number in 0..5 {
        let mut client = lasting(&broker, &format!("c{number}"), false).await;
        client.subscribe("t", 1).await;
        client.send_hex("e000").await;
        client.expect_close().await;
    }
    let mut present = 0;
    for number in 0..5 {
        let mut client = broker.raw().await;
        client.send(&connect_v3_lasting(&format!("c{number}"))).await;
        let connack = client.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        present += usize::from(connack[2]);
    }
    assert_eq!(present, 3);
    broker.stop().await;
}

#[tokio::test]
async fn who_sends_faster_than_its_budget_is_slowed_down_and_loses_nothing() {
    let limits = Limits { messages_per_second: 200, messages_burst: 20, ..Limits::default() };
    let broker = Broker::start_with(limits).await;
    let mut subscriber = broker.v3("s").await;
    subscriber.subscribe("t", 0).await;
    let mut publisher = broker.v3("p").await;
    let start = tokio::time::Instant::now();
    let burst: Vec<u8> = (0..100_u16).flat_map(|n| publish_v3("t", &n.to_be_bytes(), 0, false, 0)).collect();
    publisher.send(&burst).await;
    for number in 0..100_u16 {
        assert_eq!(subscriber.packet().await, publish_v3("t", &number.to_be_bytes(), 0, false, 0));
    }
    let passed = start.elapsed();
    assert!(passed >= Duration::from_millis(350), "{passed:?}");
    broker.stop().await;
}

#[tokio::test]
async fn who_comes_back_and_takes_fewer_messages_at_a_time_gets_all_the_same() {
    let broker = Broker::start().await;
    let (mut client, _) = v5(&broker, "c", true, HUNDRED_SECONDS).await;
    client.subscribe_v5("t", 1).await;
    let mut publisher = broker.v3("p").await;
    for number in 1..=9 {
        publish(&mut publisher, "t", &[b'0' + number], 1, number.into()).await;
        assert_eq!(client.packet().await.last(), Some(&(b'0' + number)));
    }
    drop(client);
    // Leaves once more in the middle of it.
    for (first, last) in [(1, 4), (5, 9)] {
        let (mut client, present) = v5(&broker, "c", false, &[HUNDRED_SECONDS, "210002"].concat()).await;
        assert!(present);
        for number in first..=last {
            let message = client.packet().await;
            assert_eq!(message.last(), Some(&(b'0' + number)));
            client.send(&[0x40, 2, message[5], message[6]]).await;
        }
    }
    broker.stop().await;
}
