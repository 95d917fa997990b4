//! The Move types of the Audit Trails package, as they lie in objects (BCS, fields in the order of their declaration).
//!
//! Source: `iotaledger/notarization`, `audit-trail-move/sources`, and `tf_components`. The sizes were checked against
//! what the packages cost in IOTA's own Move VM (7,600 NANOS per byte).

use iota_sdk::types::{Address, Identifier, Object, ObjectId, StructTag, TypeTag};
use serde::{Deserialize, Serialize};

use crate::network::Packages;

/// `main::AuditTrail<record::Data>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditTrail {
    pub(crate) id: ObjectId,
    pub(crate) creator: Address,
    pub(crate) created_at: u64,
    /// That of the next record.
    pub(crate) sequence_number: u64,
    pub(crate) records: LinkedTable<u64>,
    pub(crate) tags: Vec<(String, u64)>,
    pub(crate) locking: LockingConfig,
    pub(crate) roles: RoleMap,
    pub(crate) immutable_metadata: Option<ImmutableMetadata>,
    pub(crate) updatable_metadata: Option<String>,
    pub(crate) version: u64,
}

/// `0x2::linked_table::LinkedTable<K, V>`. The values are dynamic fields of `id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkedTable<K> {
    pub(crate) id: ObjectId,
    pub(crate) size: u64,
    pub(crate) head: Option<K>,
    pub(crate) tail: Option<K>,
}

/// `locking::LockingConfig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockingConfig {
    pub(crate) delete_record_window: DeletionWindow,
    pub(crate) delete_trail_lock: TimeLock,
    pub(crate) write_lock: TimeLock,
}

/// Which records cannot be deleted (`locking::LockingWindow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionWindow {
    /// Every record can be.
    None,
    /// Those younger than this.
    TimeBased {
        /// Age in seconds.
        seconds: u64,
    },
    /// The last so many.
    CountBased {
        /// How many.
        count: u64,
    },
}

/// How long something stays locked (`tf_components::timelock::TimeLock`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeLock {
    /// Until this Unix time in seconds.
    UnlockAt(u32),
    /// Until this Unix time in milliseconds.
    UnlockAtMs(u64),
    /// Until the thing is destroyed.
    UntilDestroyed,
    /// For ever.
    Infinite,
    /// Not at all.
    None,
}

/// `tf_components::role_map::RoleMap<Permission, RoleTags>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoleMap {
    pub(crate) target_key: ObjectId,
    pub(crate) roles: Vec<(String, RoleEntry)>,
    pub(crate) initial_admin_role_name: String,
    pub(crate) revoked_capabilities: LinkedTable<ObjectId>,
    /// Every capability of the admin role is listed here until it is destroyed or revoked.
    pub(crate) initial_admin_cap_ids: Vec<ObjectId>,
    /// To add, delete, update roles.
    pub(crate) role_admin_permissions: [Permission; 3],
    /// To add, revoke capabilities.
    pub(crate) capability_admin_permissions: [Permission; 2],
    pub(crate) version: u64,
}

/// `tf_components::role_map::Role`. The tags that limit it are in `tags`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoleEntry {
    pub(crate) permissions: Vec<Permission>,
    pub(crate) tags: Option<Vec<String>>,
}

/// What a role may do (`permission::Permission`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the package's own and say it all")]
pub enum Permission {
    DeleteAuditTrail,
    DeleteAllRecords,
    AddRecord,
    DeleteRecord,
    CorrectRecord,
    UpdateLockingConfig,
    UpdateLockingConfigForDeleteRecord,
    UpdateLockingConfigForDeleteTrail,
    UpdateLockingConfigForWrite,
    AddRoles,
    UpdateRoles,
    DeleteRoles,
    AddCapabilities,
    RevokeCapabilities,
    UpdateMetadata,
    DeleteMetadata,
    Migrate,
    AddRecordTags,
    DeleteRecordTags,
}

/// `main::ImmutableMetadata`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImmutableMetadata {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
}

/// `tf_components::capability::Capability`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capability {
    pub(crate) id: ObjectId,
    pub(crate) target_key: ObjectId,
    pub(crate) role: String,
    pub(crate) issued_to: Option<Address>,
    pub(crate) valid_from: Option<u64>,
    pub(crate) valid_until: Option<u64>,
}

/// `0x2::dynamic_field::Field<u64, 0x2::linked_table::Node<u64, record::Record<record::Data>>>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordField {
    pub(crate) id: ObjectId,
    pub(crate) name: u64,
    pub(crate) previous: Option<u64>,
    pub(crate) next: Option<u64>,
    pub(crate) record: StoredRecord,
}

/// `record::Record<record::Data>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRecord {
    pub(crate) data: Data,
    pub(crate) metadata: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) sequence_number: u64,
    pub(crate) added_by: Address,
    pub(crate) added_at: u64,
    pub(crate) replaces: Vec<u64>,
    pub(crate) is_replaced_by: Option<u64>,
}

/// `record::Data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Data {
    Bytes(Vec<u8>),
    Text(String),
}

/// `main::RecordAdded`, the event of an added record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordAdded {
    pub(crate) trail_id: ObjectId,
    pub(crate) sequence_number: u64,
    pub(crate) added_by: Address,
    pub(crate) timestamp: u64,
}

/// The role of the anchor: it can add records and nothing else.
pub(crate) const RECORDER: &str = "Recorder";

/// A type of a published package. Module and name are constants of this crate, so they are identifiers.
pub(crate) fn struct_tag(package: ObjectId, module: &'static str, name: &'static str) -> StructTag {
    StructTag::new(*package.as_address(), Identifier::from_static(module), Identifier::from_static(name), Vec::new())
}

/// A type with type parameters.
pub(crate) fn generic(
    package: ObjectId,
    module: &'static str,
    name: &'static str,
    parameters: Vec<TypeTag>,
) -> StructTag {
    let mut tag = struct_tag(package, module, name);
    *tag.type_params_mut() = parameters;
    tag
}

impl Packages {
    /// `record::Data`.
    pub(crate) fn data(&self) -> TypeTag {
        struct_tag(self.audit_trails, "record", "Data").into()
    }

    /// `main::AuditTrail<record::Data>`.
    pub(crate) fn trail(&self) -> StructTag {
        generic(self.audit_trails, "main", "AuditTrail", vec![self.data()])
    }

    /// `capability::Capability`.
    pub(crate) fn capability(&self) -> StructTag {
        struct_tag(self.tf_components, "capability", "Capability")
    }

    /// `permission::Permission`.
    pub(crate) fn permission(&self) -> TypeTag {
        struct_tag(self.audit_trails, "permission", "Permission").into()
    }

    /// The type of the object that holds a record.
    pub(crate) fn record_field(&self) -> StructTag {
        let record = generic(self.audit_trails, "record", "Record", vec![self.data()]).into();
        let node = generic(ObjectId::FRAMEWORK, "linked_table", "Node", vec![TypeTag::U64, record]).into();
        generic(ObjectId::FRAMEWORK, "dynamic_field", "Field", vec![TypeTag::U64, node])
    }

    /// `main::RecordAdded`.
    pub(crate) fn record_added(&self) -> StructTag {
        struct_tag(self.audit_trails, "main", "RecordAdded")
    }
}

/// The object that holds record `sequence_number` of the table: found without an index.
pub(crate) fn record_id(table: ObjectId, sequence_number: u64) -> ObjectId {
    table.derive_dynamic_child_id(&TypeTag::U64, &sequence_number.to_le_bytes())
}

/// The Move value in an object, if it is of that type. `None`: of another.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(object: &Object, tag: &StructTag) -> Option<Result<T, bcs::Error>> {
    let value = object.as_opt_struct().filter(|value| value.is_struct_tag(tag))?;
    Some(bcs::from_bytes(value.contents()))
}
