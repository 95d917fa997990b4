//! Topic names and filters: what is valid, what matches, and how they are spelt towards the router.
//!
//! MQTT 3.1.1 and 5 agree here (section 4.7 of both), so there is one set of rules.
//!
//! # The router's spelling
//!
//! The router must never see a topic that it cannot bear: it slices the first *byte* off a topic to look for `$`,
//! which panics on a letter that takes more than one byte, and it drops subscriptions to `$…` together with their
//! connection. So each topic goes to it behind a prefix of two levels, and each filter behind one that matches:
//!
//! | what | spelling |
//! |---|---|
//! | topic `grid/demo/cp-3/status` | `n/x/grid/demo/cp-3/status` |
//! | topic `$SYS/uptime` | `s/x/$SYS/uptime` |
//! | filter without wildcards `a/b` | `n/x/a/b` |
//! | filter with wildcards `a/#`, `$SYS/#` | `n/+/a/#`, `s/+/$SYS/#` |
//!
//! The first level keeps `$` topics away from filters that begin with a wildcard, as \[MQTT-4.7.2-1\] demands. The
//! second says nothing about the topic: it lets the router's configuration tell exact filters (`n/x/#`), of which
//! there are many, from wildcard ones, of which there are few, and give them logs of different size. The prefix is
//! ASCII and the rest is untouched, so wildcards keep their meaning.

/// The key that selects the exact filters in the router's `custom_segment` table.
pub const EXACT_FILTERS: [&str; 2] = ["n/x/#", "s/x/#"];

const PREFIX: usize = "n/x/".len();

/// Whether clients may publish to `topic`: not empty, no wildcard (\[MQTT-3.3.2-2\]), no NUL (\[MQTT-4.7.3-2\]).
pub fn is_valid_topic(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#', '\0'])
}

/// Whether only the broker publishes to `topic`: its own figures. A mosquitto that bridges says below
/// `$SYS/broker/connection` whether it is there.
pub fn is_reserved(topic: &str) -> bool {
    topic.starts_with("$SYS/") && !topic.starts_with("$SYS/broker/connection/")
}

/// Whether `filter` is well formed (section 4.7.1): `#` only as the whole last level, `+` only as a whole level.
pub fn is_valid_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let last = levels.peek().is_none();
        let good = match level {
            "#" => last,
            "+" => true,
            other => !other.contains(['+', '#']),
        };
        if !good {
            return false;
        }
    }
    true
}

/// Whether `filter` asks for a shared subscription, which this broker does not offer.
pub fn is_shared(filter: &str) -> bool {
    filter == "$share" || filter.starts_with("$share/")
}

/// Whether a valid `filter` contains a wildcard.
pub fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// Whether a valid `topic` matches a valid `filter` (section 4.7).
pub fn matches(filter: &str, topic: &str) -> bool {
    // [MQTT-4.7.2-1]: a filter that starts with a wildcard does not match topics that start with `$`.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            // `a/#` also matches `a` itself: then `levels` is just used up.
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// A valid topic in the router's spelling.
pub fn to_router_topic(topic: &str) -> String {
    let class = if topic.starts_with('$') { "s/x/" } else { "n/x/" };
    [class, topic].concat()
}

/// A valid filter in the router's spelling.
pub fn to_router_filter(filter: &str) -> String {
    let prefix = match (filter.starts_with('$'), has_wildcard(filter)) {
        (false, false) => "n/x/",
        (false, true) => "n/+/",
        (true, false) => "s/x/",
        (true, true) => "s/+/",
    };
    [prefix, filter].concat()
}

/// The topic behind the router's spelling; `None` for what [`to_router_topic`] did not make.
pub fn from_router_topic(spelt: &[u8]) -> Option<&str> {
    std::str::from_utf8(spelt.get(PREFIX..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the router does with its spellings (`rumqttd::protocol::matches` is what it calls).
    fn router_matches(filter: &str, topic: &str) -> bool {
        rumqttd::protocol::matches(&to_router_topic(topic), &to_router_filter(filter))
    }

    #[test]
    fn the_router_matches_encoded_topics_exactly_as_the_specification_says() {
        let filters = [
            "#",
            "+",
            "+/+",
            "/#",
            "/+",
            "a",
            "a/#",
            "a/+",
            "a/b",
            "+/b",
            "a/+/c",
            "$SYS/#",
            "$SYS/+",
            "$SYS/a",
            "é/x",
            "é/#",
            "+/x",
            "Überschuss/+",
            "a//b",
            "a/+/b",
        ];
        let topics = [
            "a",
            "a/b",
            "a/b/c",
            "/",
            "/a",
            "$SYS",
            "$SYS/a",
            "$SYS/a/b",
            "é/x",
            "é",
            "Überschuss/x",
            "a//b",
            "日本",
            "$",
        ];
        for filter in filters {
            for topic in topics {
                assert_eq!(router_matches(filter, topic), matches(filter, topic), "{filter} against {topic}");
            }
        }
    }

    #[test]
    fn matching_follows_the_examples_of_the_specification() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/x", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} against {topic}");
        }
    }

    #[test]
    fn malformed_filters_and_topics_are_refused() {
        for filter in ["", "a/#/b", "a+", "a#", "#/a", "a/b#", "a/+b", "a\0"] {
            assert!(!is_valid_filter(filter), "{filter:?}");
        }
        for filter in ["#", "+", "+/+/#", "/", "a//b", "é", "$SYS/#"] {
            assert!(is_valid_filter(filter), "{filter:?}");
        }
        for topic in ["", "a/#", "+", "a\0b"] {
            assert!(!is_valid_topic(topic), "{topic:?}");
        }
        assert!(is_valid_topic("é/ä b"));
    }

    #[test]
    fn a_topic_survives_the_way_through_the_router() {
        for topic in ["a", "é", "$SYS/x", "/"] {
            assert_eq!(from_router_topic(to_router_topic(topic).as_bytes()), Some(topic));
        }
        assert_eq!(from_router_topic(b"m"), None);
    }

    #[test]
    fn exact_filters_are_told_from_wildcard_ones_by_the_router() {
        let small =
            |filter: &str| EXACT_FILTERS.iter().any(|key| rumqttd::protocol::matches(&to_router_filter(filter), key));
        for filter in ["a/b", "é", "$SYS/x"] {
            assert!(small(filter), "{filter}");
        }
        for filter in ["#", "a/#", "a/+", "+", "$SYS/#"] {
            assert!(!small(filter), "{filter}");
        }
    }
}
