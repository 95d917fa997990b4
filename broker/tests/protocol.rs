//! The rules of the two protocol versions, seen from a single client.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use grid_broker::Limits;
use support::*;
use tokio::time::Instant;

#[tokio::test]
async fn the_v5_connack_says_what_is_not_available() {
    let broker = Broker::start().await;
    let mut client = broker.raw().await;
    // Asks for a session for ever, and for a client id.
    client.send(&connect_v5("", &bytes("11ffffffff"))).await;
    let connack = client.packet().await;
    assert_eq!(connack[2..4], [0, 0], "no session present, success");
    let has = |hex: &str| {
        let property = bytes(hex);
        assert!(connack.windows(property.len()).any(|window| window == property), "{hex}: {connack:02x?}");
    };
    has("220000"); // topic alias maximum 0
    has("2a00"); // shared subscriptions unavailable
    has("1100093a80"); // session expiry: a week
    has("2700004000"); // maximum packet size 16384
    has("12"); // an assigned client id
    broker.stop().await;
}

#[tokio::test]
async fn an_empty_client_id_needs_a_clean_session_in_3_1_1() {
    let broker = Broker::start().await;
    let mut client = broker.raw().await;
    client.send_hex("100c 0004 4d515454 04 00 0000 0000").await;
    client.expect("20020002").await;
    client.expect_close().await;
    broker.stop().await;
}

#[tokio::test]
async fn an_unknown_protocol_version_is_answered_and_closed() {
    let broker = Broker::start().await;
    for connect in ["100d 0004 4d515454 06 02 0000 0001 61", "100f 0006 4d5149736470 03 02 0000 0001 61"] {
        let mut client = broker.raw().await;
        client.send_hex(connect).await;
        client.expect("20020001").await;
        client.expect_close().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_second_connect_ends_the_connection() {
    let broker = Broker::start().await;
    let mut old = broker.v3("a").await;
    old.send(&connect_v3("a", 0)).await;
    old.expect_close().await;
    let mut new = broker.v5("a").await;
    new.send(&connect_v5("a", &[])).await;
    new.expect_disconnect(0x82).await;
    new.expect_close().await;
    broker.stop().await;
}

#[tokio::test]
async fn packets_sent_right_behind_the_connect_are_served() {
    let broker = Broker::start().await;
    let mut client = broker.raw().await;
    client.send(&[connect_v3("a", 0), subscribe_v3("t", 0), publish_v3("t", b"x", 0, false, 0)].concat()).await;
    client.expect("20020000").await;
    client.expect("9003000100").await;
    assert_eq!(client.packet().await, publish_v3("t", b"x", 0, false, 0));
    broker.stop().await;
}

#[tokio::test]
async fn a_packet_that_arrives_byte_by_byte_is_a_packet() {
    let broker = Broker::start().await;
    let mut client = broker.raw().await;
    client.stream.set_nodelay(true).unwrap();
    for byte in [connect_v3("a", 0), subscribe_v3("t", 1), publish_v3("t", b"xy", 1, false, 7)].concat() {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    client.expect("20020000").await;
    client.expect("9003000101").await;
    let (first, second) = (client.packet().await, client.packet().await);
    assert_eq!(first, bytes("40020007"));
    assert_eq!(second, publish_v3("t", b"xy", 1, false, 1));
    broker.stop().await;
}

#[tokio::test]
async fn invalid_filters_are_refused_one_by_one() {
    let broker = Broker::start().await;
    for filter in ["a/#/b", "a+", "", "#/a", "$share/g/t"] {
        let mut old = broker.v3("old").await;
        old.send(&subscribe_v3(filter, 1)).await;
        old.expect("9003000180").await;
        let mut new = broker.v5("new").await;
        new.send(&subscribe_v5(filter, 1)).await;
        let reason = if filter.starts_with("$share") { "9e" } else { "8f" };
        new.expect(&format!("9004000100{reason}")).await;
    }
    let mut old = broker.v3("old").await;
    // One good filter among bad ones; $SYS is as good as any.
    old.send(&packet(0x82, &bytes("0001 0001 74 02 0002 612b 00 0006 245359532f23 00"))).await;
    old.expect("9005 0001 02 80 00").await;
    broker.stop().await;
}

#[tokio::test]
async fn invalid_topics_end_the_connection_of_their_publisher() {
    let broker = Broker::start().await;
    for topic in ["a/#", "+", "a\0b", ""] {
        let mut old = broker.v3("old").await;
        old.send(&publish_v3(topic, b"x", 1, false, 1)).await;
        old.expect_close().await;
        let mut new = broker.v5("new").await;
        new.send(&publish_v5(topic, &[], b"x", 1, false, 1)).await;
        // Topic name invalid; an empty one is a topic alias that does not exist.
        let expected = if topic.is_empty() { 0x94 } else { 0x90 };
        new.expect_disconnect(expected).await;
        new.expect_close().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn payloads_above_the_limit_are_refused_with_a_reason_where_the_version_has_one() {
    let broker = Broker::start().await;
    let large = vec![b'x'; 8 * 1024 + 1];
    let huge = vec![b'x'; 70_000];
    for (payload, qos) in [(&large, 1), (&large, 0), (&large, 2), (&huge, 1)] {
        let mut old = broker.v3("old").await;
        old.send(&publish_v3("t", payload, qos, false, 1)).await;
        old.expect_close().await;
        let mut new = broker.v5("new").await;
        new.send(&publish_v5("t", &[], payload, qos, false, 1)).await;
        new.expect_disconnect(0x95).await;
        new.expect_close().await;
    }
    let mut old = broker.v3("old").await;
    old.subscribe("t", 1).await;
    old.send(&publish_v3("t", &large[1..], 1, false, 1)).await;
    old.expect("40020001").await;
    assert_eq!(old.packet().await, publish_v3("t", &large[1..], 1, false, 1));
    broker.stop().await;
}

#[tokio::test]
async fn what_the_protocol_forbids_ends_the_connection() {
    let broker = Broker::start().await;
    let refused = [
        // Packet id 0; PUBACK of nothing; SUBSCRIBE with wrong flags, without filters; reserved bits of a QoS.
        packet(0x32, &bytes("000174 0000 78")),
        bytes("40020063"),
        packet(0x80, &bytes("0001 0001 74 00")),
        packet(0x82, &bytes("0001")),
        packet(0x82, &bytes("0001 0001 74 04")),
        packet(0x36, &bytes("000174 0001 78")),
        packet(0xa2, &bytes("0001")),
    ];
    for bytes in refused {
        let mut old = broker.v3("old").await;
        old.send(&bytes).await;
        old.expect_close().await;
    }
    let mut new = broker.v5("new").await;
    // A response topic with a wildcard, a subscription identifier from a client, a topic alias.
    for properties in ["08000123", "0b01", "230001"] {
        new.send(&publish_v5("t", &bytes(properties), b"x", 0, false, 0)).await;
        assert_eq!(new.packet().await[0], 0xe0, "{properties}");
        new = broker.v5("new").await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_closed_after_one_and_a_half_keep_alives_even_while_it_receives() {
    let broker = Broker::start().await;
    let mut witness = broker.v3("witness").await;
    witness.subscribe("will/#", 0).await;
    let mut silent = broker.raw().await;
    silent.send(&packet(0x10, &bytes("0004 4d515454 05 06 0001 00 0001 73 00 0006 77696c6c2f73 0001 78"))).await;
    assert_eq!(silent.packet().await[0], 0x20);
    silent.subscribe_v5("t", 0).await;
    let start = Instant::now();
    let mut publisher = broker.v3("p").await;
    let closed = async {
        loop {
            publisher.send(&publish_v3("t", b"x", 0, false, 0)).await;
            let packet = silent.packet().await;
            if packet[0] == 0xe0 {
                return packet;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(within(closed).await[2], 0x8d);
    let passed = start.elapsed();
    assert!(passed >= Duration::from_millis(1400) && passed < Duration::from_secs(10), "{passed:?}");
    assert_eq!(witness.packet().await, publish_v3("will/s", b"x", 0, false, 0));
    broker.stop().await;
}

#[tokio::test]
async fn a_client_without_keep_alive_or_that_pings_stays() {
    let broker = Broker::start().await;
    let mut without = broker.v3("without").await;
    let mut pinging = broker.raw().await;
    pinging.send(&connect_v3("pinging", 1)).await;
    pinging.expect("20020000").await;
    // Longer than 1.5 s: this is about time passing.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        pinging.expect_silence().await;
    }
    without.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_v5_client_gets_no_more_than_its_receive_maximum_until_it_acknowledges() {
    let broker = Broker::start().await;
    let mut client = broker.raw().await;
    client.send(&connect_v5("c", &bytes("210002"))).await;
    assert_eq!(client.packet().await[3], 0);
    client.subscribe_v5("t", 1).await;
    let mut publisher = broker.v3("p").await;
    for number in 1..=5_u16 {
        publisher.send(&publish_v3("t", &number.to_be_bytes(), 1, false, number)).await;
        publisher.expect(&format!("4002{number:04x}")).await;
    }
    // QoS 0 is not held back.
    publisher.send(&publish_v3("t", b"!", 0, false, 0)).await;
    let payload = |packet: Vec<u8>| packet[packet.len() - 2..].to_vec();
    assert_eq!(payload(client.packet().await), [0, 1]);
    assert_eq!(payload(client.packet().await), [0, 2]);
    assert_eq!(client.packet().await, publish_v5("t", &[], b"!", 0, false, 0));
    client.expect_silence().await;
    client.send_hex("40020001").await;
    assert_eq!(payload(client.packet().await), [0, 3]);
    client.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_packet_larger_than_a_v5_client_takes_is_left_out() {
    let broker = Broker::start().await;
    let mut client = broker.raw().await;
    client.send(&connect_v5("c", &bytes("2700000064"))).await;
    assert_eq!(client.packet().await[3], 0);
    client.subscribe_v5("t", 1).await;
    let mut publisher = broker.v3("p").await;
    for (number, size) in [(1, 200), (2, 20)] {
        publisher.send(&publish_v3("t", &vec![b'x'; size], 1, false, number)).await;
        publisher.expect(&format!("4002{number:04x}")).await;
    }
    let received = client.packet().await;
    assert!(received.ends_with(&[b'x'; 20]) && received.len() < 40, "{received:02x?}");
    client.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_the_oldest_qos_0_messages_and_nobody_else_is_held_up() {
    let broker = Broker::start_with(Limits { max_queued: 50, ..Limits::default() }).await;
    let mut slow = broker.v3("slow").await;
    slow.subscribe("t", 0).await;
    let mut quick = broker.v3("quick").await;
    quick.subscribe("t", 0).await;
    let mut publisher = broker.v3("p").await;
    // Far more than the kernel buffers for the slow one.
    let load = vec![b'x'; 8000];
    for number in 0..4000_u32 {
        publisher.send(&publish_v3("t", &[&number.to_be_bytes()[..], &load].concat(), 0, false, 0)).await;
        let got = quick.packet().await;
        assert_eq!(got[6..10], number.to_be_bytes());
    }
    let mut numbers = Vec::new();
    loop {
        let got = slow.packet().await;
        numbers.push(u32::from_be_bytes(got[6..10].try_into().unwrap()));
        if numbers.last() == Some(&3999) {
            break;
        }
    }
    assert!(numbers.len() < 4000 && numbers.is_sorted(), "{}", numbers.len());
    assert!(numbers.ends_with(&(3950..4000).collect::<Vec<_>>()), "the newest are there");
    broker.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_acknowledge_is_disconnected_when_its_queue_is_full() {
    let broker = Broker::start_with(Limits { max_queued: 50, ..Limits::default() }).await;
    let mut lazy = broker.raw().await;
    lazy.send(&connect_v5("lazy", &bytes("210001"))).await;
    assert_eq!(lazy.packet().await[3], 0);
    lazy.subscribe_v5("t", 1).await;
    let mut publisher = broker.v3("p").await;
    for number in 1..=60_u16 {
        publisher.send(&publish_v3("t", b"x", 1, false, number)).await;
        publisher.expect(&format!("4002{number:04x}")).await;
    }
    assert_eq!(lazy.packet().await[0], 0x32);
    lazy.expect_disconnect(0x97).await;
    lazy.expect_close().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_off_its_socket_is_disconnected() {
    let settings = Limits { stall_timeout: Duration::from_millis(300), ..Limits::default() };
    let broker = Broker::start_with(settings).await;
    let mut witness = broker.v3("witness").await;
    witness.subscribe("will/#", 0).await;
    let mut stuck = broker.raw().await;
    stuck.send(&connect_v3_will("stuck", "will/stuck", "gone", false)).await;
    stuck.expect("20020000").await;
    stuck.subscribe("t", 0).await;
    let mut publisher = broker.v3("p").await;
    for _ in 0..2000 {
        publisher.send(&publish_v3("t", &[b'x'; 8000], 0, false, 0)).await;
    }
    assert_eq!(witness.packet().await, publish_v3("will/stuck", b"gone", 0, false, 0));
    broker.stop().await;
}

#[tokio::test]
async fn a_broker_that_stops_tells_its_v5_clients_and_ends_at_once() {
    let broker = Broker::start().await;
    let mut new = broker.v5("new").await;
    let mut old = broker.v3("old").await;
    old.subscribe("#", 1).await;
    let start = Instant::now();
    broker.stop().await;
    new.expect_disconnect(0x8b).await;
    new.expect_close().await;
    old.expect_close().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn several_brokers_in_one_process_know_nothing_of_each_other() {
    let (first, second) = (Broker::start().await, Broker::start().await);
    let mut listener = second.v3("same").await;
    listener.subscribe("#", 0).await;
    let mut publisher = first.v3("same").await;
    publisher.send(&publish_v3("t", b"x", 0, true, 0)).await;
    publisher.expect_silence().await;
    listener.expect_silence().await;
    first.stop().await;
    second.assert_works().await;
    second.stop().await;
}
