//! Sets of topics, as MQTT's topic filters describe them: what one filter covers, and what two share.
//!
//! A filter stands for all topics that it matches (section 4.7 of MQTT 3.1.1 and 5). Compared are these sets, level by
//! level, for valid filters. Two rules make that less obvious than it looks:
//!
//! - `a/#` matches `a` too; so `#` and `+/#` are the same.
//! - A wildcard on the first level does not match `$…` (\[MQTT-4.7.2-1\]); so `#` does not cover `$SYS/#`.

use std::collections::HashMap;

/// Whether every topic that matches `inner` matches `outer` too.
pub fn covers(outer: &str, inner: &str) -> bool {
    let (outer, inner) = (levels(outer), levels(inner));
    if is_wildcard(outer[0]) && inner[0].starts_with('$') {
        return false;
    }
    let mut inner = inner.iter();
    for level in outer {
        match (level, inner.next()) {
            ("#", _) => return true,
            // `#` matches more, and also fewer levels.
            (_, None | Some(&"#")) => return false,
            ("+", Some(_)) => {}
            (level, Some(other)) if level == *other => {}
            (_, Some(_)) => return false,
        }
    }
    inner.next().is_none()
}

/// Whether some topic matches both filters.
pub fn overlaps(one: &str, other: &str) -> bool {
    let (one, other) = (levels(one), levels(other));
    if is_wildcard(one[0]) && other[0].starts_with('$') || is_wildcard(other[0]) && one[0].starts_with('$') {
        return false;
    }
    let mut pairs = one.iter().zip(&other);
    let first_that_decides = pairs.find(|(a, b)| **a == "#" || **b == "#" || (a != b && **a != "+" && **b != "+"));
    match first_that_decides {
        Some((a, b)) => *a == "#" || *b == "#",
        // One goes on where the other ends; `a/#` matches `a`.
        None => {
            let rest = if one.len() > other.len() { &one[other.len()..] } else { &other[one.len()..] };
            matches!(rest, [] | ["#"])
        }
    }
}

/// The levels of a valid filter, of which there is at least one; `#` as `+/#`.
fn levels(filter: &str) -> Vec<&str> {
    if filter == "#" { vec!["+", "#"] } else { filter.split('/').collect() }
}

fn is_wildcard(level: &str) -> bool {
    matches!(level, "+" | "#")
}

/// Several filters, of which one must match. Looking a topic up takes as long for one filter as for thousands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterSet {
    filters: Vec<String>,
    root: Node,
}

/// What may follow on one level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    literal: HashMap<String, Node>,
    /// Behind `+`.
    any: Option<Box<Node>>,
    /// `#` stands here.
    rest: bool,
    /// A filter ends here.
    end: bool,
}

impl FilterSet {
    /// Whether a filter of the set matches `topic`.
    pub fn matches(&self, topic: &str) -> bool {
        if !topic.starts_with('$') {
            return self.root.matches(Some(topic));
        }
        // Only what is spelt out matches the first level.
        let (first, rest) = split(topic);
        self.root.literal.get(first).is_some_and(|node| node.matches(rest))
    }

    /// Whether one filter of the set covers `filter` alone.
    pub fn covers(&self, filter: &str) -> bool {
        self.filters.iter().any(|granted| covers(granted, filter))
    }

    /// Whether some topic matches `filter` and a filter of the set.
    pub fn overlaps(&self, filter: &str) -> bool {
        self.filters.iter().any(|granted| overlaps(granted, filter))
    }

    fn insert(&mut self, filter: String) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            match level {
                "#" => {
                    node.rest = true;
                    self.filters.push(filter);
                    return;
                }
                "+" => node = node.any.get_or_insert_default(),
                literal => node = node.literal.entry(literal.to_owned()).or_default(),
            }
        }
        node.end = true;
        self.filters.push(filter);
    }
}

impl FromIterator<String> for FilterSet {
    /// Of valid filters.
    fn from_iter<I: IntoIterator<Item = String>>(filters: I) -> Self {
        let mut set = Self::default();
        filters.into_iter().for_each(|filter| set.insert(filter));
        set
    }
}

impl Node {
    fn matches(&self, topic: Option<&str>) -> bool {
        let Some(topic) = topic else { return self.end || self.rest };
        let (level, rest) = split(topic);
        self.rest
            || self.literal.get(level).is_some_and(|node| node.matches(rest))
            || self.any.as_ref().is_some_and(|node| node.matches(rest))
    }
}

/// The first level, and what follows it.
fn split(topic: &str) -> (&str, Option<&str>) {
    topic.split_once('/').map_or((topic, None), |(level, rest)| (level, Some(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Sequences of up to `most` levels out of `alphabet`.
    fn sequences(alphabet: &[&str], most: usize) -> Vec<String> {
        let mut all: Vec<String> = alphabet.iter().map(|level| (*level).to_owned()).collect();
        let mut longest = all.clone();
        for _ in 1..most {
            let longer = |start: &String| alphabet.iter().map(|level| format!("{start}/{level}")).collect::<Vec<_>>();
            longest = longest.iter().flat_map(longer).collect();
            all.extend_from_slice(&longest);
        }
        all
    }

    /// All filters of up to three levels. The empty one stands for itself: nobody can subscribe to it, but the rules
    /// for levels do not make an exception of it.
    fn filters() -> Vec<String> {
        let without_rest = sequences(&["a", "", "$s", "+"], 3);
        let with_rest = sequences(&["a", "", "$s", "+"], 2).into_iter().map(|start| format!("{start}/#"));
        without_rest.into_iter().chain(with_rest).chain(["#".to_owned()]).collect()
    }

    /// All topics with up to one level more, and with a level that no filter names.
    fn topics() -> Vec<String> {
        sequences(&["a", "", "$s", "other"], 4)
    }

    /// Compares what `says` of each pair of filters with what `holds` of the topics that each matches.
    fn compare_all(says: fn(&str, &str) -> bool, holds: impl Fn(&[bool], &[bool]) -> bool) {
        let (filters, topics) = (filters(), topics());
        let matched = |filter: &String| topics.iter().map(|it| topic::matches(filter, it)).collect::<Vec<bool>>();
        let sets: Vec<Vec<bool>> = filters.iter().map(matched).collect();
        for (one, set) in filters.iter().zip(&sets) {
            for (other, other_set) in filters.iter().zip(&sets) {
                assert_eq!(says(one, other), holds(set, other_set), "{one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn a_filter_covers_another_if_every_topic_of_that_one_is_its_own_too() {
        compare_all(covers, |outer, inner| outer.iter().zip(inner).all(|(outer, inner)| *outer || !inner));
    }

    #[test]
    fn two_filters_overlap_if_a_topic_matches_both() {
        compare_all(overlaps, |one, other| one.iter().zip(other).any(|(one, other)| *one && *other));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

        #[test]
        fn a_set_matches_what_one_of_its_filters_matches(filters in vec(select(filters()), 0..6)) {
            let set: FilterSet = filters.iter().cloned().collect();
            for topic in topics() {
                let expected = filters.iter().any(|filter| topic::matches(filter, &topic));
                prop_assert_eq!(set.matches(&topic), expected, "{}", topic);
            }
        }
    }

    #[test]
    fn the_filters_that_people_use_compare_as_they_expect() {
        for (outer, inner, expected) in [
            ("#", "grid/#", true),
            ("#", "#", true),
            ("#", "+/#", true),
            ("+/#", "#", true),
            ("#", "$SYS/#", false),
            ("grid/#", "grid", true),
            ("grid/+/cp-1/#", "grid/demo/cp-1/set/+", true),
            ("grid/demo/+/status", "grid/demo/#", false),
            ("grid/demo/cp-1/status", "grid/demo/+/status", false),
            ("+/SYS", "$SYS", false),
        ] {
            assert_eq!(covers(outer, inner), expected, "{outer} covers {inner}");
        }
        assert!(overlaps("grid/demo/trafo-1/#", "grid/+/+/status"));
        assert!(!overlaps("grid/demo/trafo-1/#", "grid/demo/cp-1/#"));
        assert!(!overlaps("#", "$SYS/broker/uptime"));
    }
}
