//! Input that stops rumqttd as it comes. None of it may be more than one client's problem here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use grid_broker::Limits;
use support::*;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_topic_that_starts_with_a_non_ascii_letter_is_carried_like_any_other() {
    let broker = Broker::start().await;
    let mut subscriber = broker.v3("s").await;
    subscriber.subscribe("#", 0).await;
    let mut publisher = broker.raw().await;
    publisher.send_hex("100e00044d5154540402003c00026b31").await;
    publisher.expect("20020000").await;
    publisher.send_hex("30050002c3a978").await;
    subscriber.expect("30050002c3a978").await;
    let mut exact = broker.v3("e").await;
    exact.subscribe("Überschuss/+", 0).await;
    publisher.send(&publish_v3("Überschuss/x", b"1", 0, false, 0)).await;
    assert_eq!(exact.packet().await, publish_v3("Überschuss/x", b"1", 0, false, 0));
    broker.assert_works().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_client_id_with_wildcards_and_slashes_is_as_good_as_any() {
    let broker = Broker::start().await;
    for _ in 0..2 {
        let mut client = broker.raw().await;
        client.send_hex("100f00044d5154540402003c0003612f62").await;
        client.expect("20020000").await;
    }
    for id in ["a/b", "a+", "#", "$SYS", "$share/g/t", "é"] {
        let mut client = broker.v3(id).await;
        client.subscribe("t", 1).await;
        broker.v3(id).await;
        client.expect_close().await;
    }
    broker.assert_works().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_connack_from_a_client_ends_its_connection_and_the_id_can_connect_again() {
    let broker = Broker::start().await;
    for _ in 0..2 {
        let mut client = broker.raw().await;
        client.send_hex("100e00044d5154540502003c0000017a").await;
        assert_eq!(client.packet().await[0], 0x20);
        client.send_hex("b0020001").await;
        // DISCONNECT, protocol error or malformed packet.
        let disconnect = client.packet().await;
        assert!(disconnect[0] == 0xe0 && [0x81, 0x82].contains(&disconnect[2]), "{disconnect:02x?}");
        client.expect_close().await;
    }
    broker.assert_works().await;
    broker.stop().await;
}

#[tokio::test]
async fn properties_of_a_v5_message_are_stripped_for_a_v3_subscriber_and_kept_for_a_v5_one() {
    let broker = Broker::start().await;
    let mut old = broker.v3("old").await;
    old.subscribe("t", 1).await;
    let mut new = broker.v5("new").await;
    new.subscribe_v5("t", 1).await;
    let mut publisher = broker.v5("p").await;
    // Payload format 1, content type "j", response topic "r", correlation data 07, user property a: b.
    let properties = bytes("0101 0300016a 08000172 09000107 26000161000162");
    publisher.send(&publish_v5("t", &properties, b"x", 1, false, 9)).await;
    publisher.expect("40020009").await;
    assert_eq!(old.packet().await, publish_v3("t", b"x", 1, false, 1));
    assert_eq!(new.packet().await, publish_v5("t", &properties, b"x", 1, false, 1));
    broker.assert_works().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_shared_subscription_is_refused_and_its_client_may_go_on() {
    let broker = Broker::start().await;
    let mut client = broker.raw().await;
    client.send(&connect_v3_lasting("c")).await;
    client.expect("20020000").await;
    client.send(&subscribe_v3("$share/g/t", 1)).await;
    client.expect("9003000180").await;
    client.subscribe("t", 1).await;
    let mut new = broker.v5("n").await;
    new.send(&subscribe_v5("$share/g/t", 1)).await;
    new.expect("9004 0001 00 9e").await;
    let mut publisher = broker.v3("p").await;
    publisher.send(&publish_v3("t", b"x", 1, false, 1)).await;
    publisher.expect("40020001").await;
    // It gets the message, does not acknowledge it, and closes.
    assert_eq!(client.packet().await[0], 0x32);
    drop(client);
    broker.assert_works().await;
    // It comes again for it.
    let mut client = broker.raw().await;
    client.send(&connect_v3_lasting("c")).await;
    client.expect("20020100").await;
    assert_eq!(client.packet().await[0], 0x3a);
    broker.stop().await;
}

#[tokio::test]
async fn a_slow_reader_that_leaves_with_much_queued_takes_nobody_along() {
    let broker = Broker::start().await;
    for round in 0..20 {
        let mut slow = broker.v3("slow").await;
        slow.subscribe("load/#", 1).await;
        let mut publisher = broker.v3("p").await;
        let load = vec![b'x'; 8000];
        for number in 1..=900_u16 {
            publisher.send(&publish_v3("load/x", &load, 1, false, number)).await;
            publisher.expect(&format!("4002{number:04x}")).await;
        }
        match round % 3 {
            0 => slow.send_hex("e000").await,
            1 => slow.send_hex("40020063").await,
            _ => slow.stream.set_zero_linger().unwrap(),
        }
        drop(slow);
        broker.assert_works().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_reset_twice_leaves_its_id_usable() {
    let broker = Broker::start().await;
    for _ in 0..20 {
        let mut client = broker.raw().await;
        client.send(&connect_v3("same", 60)).await;
        client.stream.set_zero_linger().unwrap();
        drop(client);
    }
    broker.v3("same").await.subscribe("t", 0).await;
    broker.assert_works().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_client_beyond_the_limit_is_told_so_and_gets_in_when_there_is_room() {
    let broker = Broker::start_with(Limits { max_clients: 2, ..Limits::default() }).await;
    let first = broker.v3("a").await;
    let _second = broker.v3("b").await;
    for _ in 0..3 {
        let mut third = broker.raw().await;
        third.send(&connect_v3("c", 0)).await;
        third.expect("20020003").await;
        third.expect_close().await;
        let mut third = broker.raw().await;
        third.send(&connect_v5("c", &[])).await;
        assert_eq!(third.packet().await[3], 0x89);
        third.expect_close().await;
    }
    drop(first);
    // The broker notices the end of the first connection in its own time.
    let joined = async {
        loop {
            let mut third = broker.raw().await;
            third.send(&connect_v3("c", 0)).await;
            if third.packet().await == bytes("20020000") {
                return;
            }
        }
    };
    within(joined).await;
    broker.stop().await;
}

#[tokio::test]
async fn idle_connections_block_nobody_and_are_closed_when_their_time_is_up() {
    let settings = Limits { connect_timeout: Duration::from_millis(300), ..Limits::default() };
    let broker = Broker::start_with(settings).await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(broker.raw().await);
    }
    // Half a CONNECT is no better.
    idle[0].send_hex("100f0004").await;
    broker.assert_works().await;
    for mut connection in idle {
        connection.expect_close().await;
    }
    broker.assert_works().await;
    broker.stop().await;
}

#[tokio::test]
async fn more_idle_connections_than_may_wait_are_closed_at_once() {
    let settings = Limits { max_waiting: 5, connect_timeout: LONG, ..Limits::default() };
    let broker = Broker::start_with(settings).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(broker.raw().await);
    }
    broker.raw().await.expect_close().await;
    waiting[0].send(&connect_v3("a", 0)).await;
    waiting[0].expect("20020000").await;
    // Who is logged in waits no more.
    broker.v3("b").await;
    broker.stop().await;
}

#[tokio::test]
async fn a_client_id_taken_over_again_and_again_always_has_one_live_connection() {
    let broker = Broker::start().await;
    let mut previous = broker.v3("same").await;
    for _ in 0..400 {
        let mut next = broker.v3("same").await;
        previous.expect_close().await;
        next.expect_silence().await;
        previous = next;
    }
    // And when the older one leaves at the same moment.
    for _ in 0..200 {
        previous.stream.shutdown().await.unwrap();
        let mut next = broker.v3("same").await;
        next.expect_silence().await;
        previous = next;
    }
    broker.assert_works().await;
    broker.stop().await;
}

#[tokio::test]
async fn bytes_that_are_not_mqtt_end_only_their_own_connection() {
    let broker = Broker::start().await;
    for junk in [
        "474554202f20485454502f312e310d0a0d0a",
        "00",
        "ff",
        "10ffffffff7f",
        "f000",
        "c000",
        "30050002c3a978",
        "1000",
        "e000",
        "100c00044d5154540402003c",
        "100e00044d5154540302003c00026b31",
    ] {
        let mut client = broker.raw().await;
        client.send_hex(junk).await;
        client.stream.shutdown().await.unwrap();
        while within(client.try_packet()).await.is_some() {}
    }
    broker.assert_works().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_topic_aliases_is_welcome() {
    let broker = Broker::start().await;
    let mut client = broker.raw().await;
    // Topic Alias Maximum 0, which is legal, in two pieces.
    client.send_hex("1011 0004 4d515454 05 02 0000 03 22").await;
    tokio::task::yield_now().await;
    client.send_hex("0000 0001 61").await;
    assert_eq!(client.packet().await[3], 0);
    client.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_packet_as_large_as_the_connack_leaves_nothing_behind_and_loses_nothing() {
    let broker = Broker::start().await;
    let mut client = broker.raw().await;
    client.send_hex("1013 0004 4d515454 05 00 0000 05 11000003e8 0001 78").await;
    assert_eq!(client.packet().await[3], 0);
    client.subscribe_v5("t", 1).await;
    drop(client);
    for _ in 0..20 {
        let mut client = broker.raw().await;
        client.send_hex("1018 0004 4d515454 05 00 0000 0a 11000003e8 2700000004 0001 78").await;
        client.expect_close().await;
    }
    let mut publisher = broker.v3("p").await;
    publisher.send(&publish_v3("t", b"x", 1, false, 1)).await;
    publisher.expect("40020001").await;
    let mut client = broker.raw().await;
    client.send_hex("1013 0004 4d515454 05 00 0000 05 11000003e8 0001 78").await;
    assert_eq!(client.packet().await[2], 1, "the session is there");
    assert_eq!(client.packet().await.last(), Some(&b'x'));
    broker.stop().await;
}

#[tokio::test]
async fn a_text_with_a_nul_ends_its_own_connection_and_reaches_nobody() {
    let broker = Broker::start().await;
    let mut subscriber = broker.v5("s").await;
    subscriber.subscribe_v5("t", 0).await;
    for message in ["300d 0001 74 08 26 0001 6b 0002 6100 78", "3009 0001 74 04 03 0001 00 78"] {
        let mut publisher = broker.v5("p").await;
        publisher.send_hex(message).await;
        publisher.expect_disconnect(0x81).await;
    }
    subscriber.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn one_client_cannot_use_up_the_filters_and_topics_of_all_others() {
    let limits = Limits {
        max_filters: 100,
        max_filters_of_one: 50,
        max_topics: 200,
        max_topics_of_one: 50,
        ..Limits::default()
    };
    let broker = Broker::start_with(limits).await;
    let mut greedy = broker.v5("greedy").await;
    let mut refused = 0;
    for number in 0..60 {
        let filter = format!("f/{number}");
        greedy.send(&subscribe_v5(&filter, 0)).await;
        refused += usize::from(greedy.packet().await.last() == Some(&0x97));
        greedy.send(&packet(0xa2, &[&[0, 1, 0, 0, filter.len() as u8][..], filter.as_bytes()].concat())).await;
        assert_eq!(greedy.packet().await[0], 0xb0);
        greedy.send(&publish_v5(&format!("t/{number}"), &[], b"x", 1, false, 1)).await;
        assert_eq!(greedy.packet().await[..2], if number < 50 { [0x40, 2] } else { [0x40, 3] });
    }
    assert_eq!(refused, 10);
    let mut other = broker.v3("other").await;
    other.subscribe("mine", 0).await;
    other.send(&publish_v3("mine", b"x", 0, false, 0)).await;
    assert_eq!(other.packet().await, publish_v3("mine", b"x", 0, false, 0));
    broker.stop().await;
}

#[tokio::test]
async fn a_topic_or_filter_of_great_length_is_refused_since_the_broker_never_forgets_one() {
    let broker = Broker::start().await;
    let (long, longest) = ("x".repeat(257), "x".repeat(256));
    let mut client = broker.v5("c").await;
    client.send(&subscribe_v5(&long, 0)).await;
    client.expect("9004 0001 00 8f").await;
    client.subscribe_v5(&longest, 0).await;
    client.send(&publish_v5(&longest, &[], b"x", 0, false, 0)).await;
    assert_eq!(client.packet().await, publish_v5(&longest, &[], b"x", 0, false, 0));
    client.send(&publish_v5(&long, &[], b"x", 0, false, 0)).await;
    client.expect_disconnect(0x90).await;
    let mut client = broker.raw().await;
    client.send(&connect_v5(&long, &[])).await;
    assert_eq!(client.packet().await[3], 0x85);
    broker.stop().await;
}

#[tokio::test]
async fn wildcard_filters_of_one_client_are_few_and_one_packet_with_many_brings_what_is_retained_once() {
    let broker = Broker::start_with(Limits { max_wildcards: 3, ..Limits::default() }).await;
    let mut client = broker.v5("c").await;
    for number in 0..3 {
        client.subscribe_v5(&format!("{number}/#"), 0).await;
    }
    client.send(&subscribe_v5("3/#", 0)).await;
    client.expect("9004 0001 00 97").await;
    client.subscribe_v5("exact", 0).await;
    client.send(&publish_v5("0/kept", &[], b"x", 1, true, 1)).await;
    client.expect("40020001").await;
    assert_eq!(client.packet().await, publish_v5("0/kept", &[], b"x", 0, false, 0));
    let entries: Vec<u8> = std::iter::repeat_n([&bytes("0003302f23")[..], &[0]].concat(), 50).flatten().collect();
    client.send(&packet(0x82, &[&[0, 2, 0][..], &entries].concat())).await;
    let suback = client.packet().await;
    assert_eq!((suback[0], suback.len()), (0x90, 2 + 3 + 50));
    assert_eq!(client.packet().await, publish_v5("0/kept", &[], b"x", 0, true, 0));
    client.expect_silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn two_hundred_thousand_tiny_messages_reach_slow_and_many_readers_complete() {
    const COUNT: u32 = 200_000;
    let limits = Limits { messages_burst: u64::from(COUNT) * 2, max_queued: COUNT as usize, ..Limits::default() };
    let broker = Broker::start_with(limits).await;
    let mut readers = Vec::new();
    for number in 0..4 {
        let mut reader = broker.v3(&format!("r{number}")).await;
        reader.subscribe("#", 0).await;
        readers.push(tokio::spawn(async move {
            for expected in 0..COUNT {
                let message = reader.packet().await;
                assert_eq!(message[message.len() - 4..], expected.to_be_bytes());
            }
        }));
    }
    let mut publisher = broker.v3("p").await;
    for start in (0..COUNT).step_by(1000) {
        let burst: Vec<u8> =
            (start..start + 1000).flat_map(|number| publish_v3("t", &number.to_be_bytes(), 0, false, 0)).collect();
        publisher.send(&burst).await;
    }
    for reader in readers {
        tokio::time::timeout(LONG * 6, reader).await.unwrap().unwrap();
    }
    broker.stop().await;
}
