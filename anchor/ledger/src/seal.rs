//! What a trail is sealed against, as far as the trail object shows.
//!
//! A trail is sealed when nobody, its maker included, can delete or change what it says: its deletion locks outlast
//! everybody, the admin role has no holder left (the package lists every capability of that role in the trail until it
//! is destroyed or revoked, and without one no capability or role can be added), and every other role may add records
//! and nothing else. Then even somebody with every key of the site can only add.

use std::fmt;

use iota_sdk::types::{Address, ObjectId};

use crate::audit_trail::{AuditTrail, DeletionWindow, Permission, TimeLock};
use crate::error::LedgerError;

/// A hundred years in seconds: the shortest deletion window that counts as sealed.
pub const HUNDRED_YEARS: u64 = 3_153_600_000;

/// What the trail object says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The trail.
    pub trail: ObjectId,
    /// Who made it.
    pub creator: Address,
    /// When, in Unix milliseconds on the ledger's clock.
    pub created_ms: u64,
    /// Its name, which cannot be changed; `None` if it was made without metadata.
    pub name: Option<String>,
    /// Its description, which cannot be changed.
    pub description: Option<String>,
    /// Its number of records so far.
    pub records: u64,
    /// Which records cannot be deleted.
    pub deletion_window: DeletionWindow,
    /// How long the trail itself cannot be deleted.
    pub trail_lock: TimeLock,
    /// How long nothing can be added.
    pub write_lock: TimeLock,
    /// Who may do what, the admin role among them.
    pub roles: Vec<Role>,
    /// The role that may change roles.
    pub admin_role: String,
    /// Capabilities of the admin role that still exist.
    pub admin_capabilities: Vec<ObjectId>,
}

/// A role of a trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What its holders may do.
    pub permissions: Vec<Permission>,
}

/// Something that keeps a trail from being sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// Records can be deleted, now or in our time.
    RecordsCanBeDeleted(DeletionWindow),
    /// The trail can be deleted once it is empty.
    TrailCanBeDeleted(TimeLock),
    /// Somebody can change roles and hand out capabilities.
    AdminExists(ObjectId),
    /// A role may do more than add records.
    RoleMayMore {
        /// The role.
        role: String,
        /// What else it may.
        permissions: Vec<Permission>,
    },
    /// Records were deleted already.
    RecordsMissing {
        /// How many were added.
        added: u64,
        /// How many are left.
        left: u64,
    },
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordsCanBeDeleted(window) => write!(f, "its records are locked too briefly ({window:?})"),
            Self::TrailCanBeDeleted(lock) => write!(f, "the trail itself can be deleted (lock {lock:?})"),
            Self::AdminExists(capability) => write!(f, "capability {capability} administers it"),
            Self::RoleMayMore { role, permissions } => write!(f, "role {role:?} may also {permissions:?}"),
            Self::RecordsMissing { added, left } => write!(f, "{added} records were added, and {left} are left"),
        }
    }
}

impl Seal {
    /// What of a trail this is about.
    pub(crate) fn of(trail: AuditTrail) -> (Self, u64) {
        let (name, description) = match trail.immutable_metadata {
            Some(metadata) => (Some(metadata.name), metadata.description),
            None => (None, None),
        };
        let roles =
            trail.roles.roles.into_iter().map(|(name, entry)| Role { name, permissions: entry.permissions }).collect();
        let seal = Self {
            trail: trail.id,
            creator: trail.creator,
            created_ms: trail.created_at,
            name,
            description,
            records: trail.records.size,
            deletion_window: trail.locking.delete_record_window,
            trail_lock: trail.locking.delete_trail_lock,
            write_lock: trail.locking.write_lock,
            roles,
            admin_role: trail.roles.initial_admin_role_name,
            admin_capabilities: trail.roles.initial_admin_cap_ids,
        };
        (seal, trail.sequence_number)
    }

    /// What is open, given how many records were ever added. Empty: sealed.
    pub(crate) fn weaknesses(&self, added: u64) -> Vec<Weakness> {
        let mut found = Vec::new();
        match self.deletion_window {
            DeletionWindow::TimeBased { seconds } if seconds >= HUNDRED_YEARS => {}
            window @ (DeletionWindow::None | DeletionWindow::TimeBased { .. } | DeletionWindow::CountBased { .. }) => {
                found.push(Weakness::RecordsCanBeDeleted(window));
            }
        }
        if self.trail_lock != TimeLock::Infinite {
            found.push(Weakness::TrailCanBeDeleted(self.trail_lock));
        }
        found.extend(self.admin_capabilities.iter().copied().map(Weakness::AdminExists));
        for role in self.roles.iter().filter(|role| role.name != self.admin_role) {
            let permissions: Vec<_> =
                role.permissions.iter().copied().filter(|it| *it != Permission::AddRecord).collect();
            if !permissions.is_empty() {
                found.push(Weakness::RoleMayMore { role: role.name.clone(), permissions });
            }
        }
        if self.records != added {
            found.push(Weakness::RecordsMissing { added, left: self.records });
        }
        found
    }

    /// Itself if it is sealed.
    pub(crate) fn sealed(self, added: u64) -> Result<Self, LedgerError> {
        let weaknesses = self.weaknesses(added);
        if weaknesses.is_empty() { Ok(self) } else { Err(LedgerError::NotSealed { seal: Box::new(self), weaknesses }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Seal {
        Seal {
            trail: ObjectId::ZERO,
            creator: Address::ZERO,
            created_ms: 0,
            name: None,
            description: None,
            records: 3,
            deletion_window: DeletionWindow::TimeBased { seconds: HUNDRED_YEARS },
            trail_lock: TimeLock::Infinite,
            write_lock: TimeLock::None,
            roles: vec![
                Role { name: "Admin".to_owned(), permissions: vec![Permission::AddRoles] },
                Role { name: "Recorder".to_owned(), permissions: vec![Permission::AddRecord] },
            ],
            admin_role: "Admin".to_owned(),
            admin_capabilities: Vec::new(),
        }
    }

    #[test]
    fn an_admin_role_without_holder_does_no_harm() {
        assert_eq!(sealed().weaknesses(3), []);
    }

    #[test]
    fn everything_that_lets_somebody_change_the_past_is_named() {
        let mut open = sealed();
        open.deletion_window = DeletionWindow::CountBased { count: 10 };
        open.trail_lock = TimeLock::UntilDestroyed;
        open.admin_capabilities = vec![ObjectId::CLOCK];
        open.roles[1].permissions.push(Permission::DeleteAllRecords);
        open.records = 2;
        assert_eq!(
            open.weaknesses(3),
            [
                Weakness::RecordsCanBeDeleted(DeletionWindow::CountBased { count: 10 }),
                Weakness::TrailCanBeDeleted(TimeLock::UntilDestroyed),
                Weakness::AdminExists(ObjectId::CLOCK),
                Weakness::RoleMayMore { role: "Recorder".to_owned(), permissions: vec![Permission::DeleteAllRecords] },
                Weakness::RecordsMissing { added: 3, left: 2 },
            ]
        );
    }

    #[test]
    fn a_window_just_under_a_hundred_years_is_not_enough() {
        let mut open = sealed();
        open.deletion_window = DeletionWindow::TimeBased { seconds: HUNDRED_YEARS - 1 };
        assert_eq!(open.weaknesses(3).len(), 1);
    }
}
