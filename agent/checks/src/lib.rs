//! Proves the rule of the system (see [`grid_agent::lease`]) against the very code that runs.
//!
//! | module | what it does |
//! |---|---|
//! | [`model`] | visits *every* state that a small street can reach within bounds: two devices, few messages, whole seconds |
//! | [`street`] | plays thousands of *random* larger streets to the millisecond |
//! | [`twin`] | weakens one lease rule at a time: both of the above must notice |
//! | [`party`] | what a device and a transformer do with their book; shared by model and streets |
//! | [`report`] | runs it all and says what it found |
//!
//! The three complement each other. The model overlooks nothing, but only within its bounds; the streets have no such
//! bounds, but meet only what chance brings; and the twins show that neither is blind.
//!
//! What is checked at every moment is listed in [`Promise`].

#![forbid(unsafe_code)]

pub mod model;
pub mod party;
pub mod report;
pub mod street;
pub mod twin;

/// What must hold at every moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// The rule of the system: what devices are entitled to draw is together at most the room.
    Rule,
    /// What a device's book entitles it to, the transformer's book counts. That is how the rule comes about, and that is
    /// why what was taken back stays taken back.
    Books,
    /// Nobody is raised onto current that a device reports, even if it is not entitled to it (rule 5).
    Current,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rule, Self::Books, Self::Current];

    /// What it says, for people.
    pub fn says(self) -> &'static str {
        match self {
            Self::Rule => "what devices are entitled to draw fits",
            Self::Books => "what a device is entitled to is counted",
            Self::Current => "nobody is raised onto current that is reported",
        }
    }
}
