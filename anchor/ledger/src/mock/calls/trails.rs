//! The Move functions that make, seal and extend a trail.

use iota_sdk::types::{Argument, CommandArgumentError, Event, ExecutionError, ObjectId, Owner, StructTag};
use serde::Serialize;

use super::{
    Call, PACKAGES, Returned, abort, abort_in, decode, immutable_metadata, locking_config, option_of, permission_set,
};
use crate::audit_trail::{
    AuditTrail, Capability, Data, LinkedTable, LockingConfig, Permission, RecordAdded, RecordField, RoleEntry, RoleMap,
    StoredRecord, TimeLock, generic, record_id, struct_tag,
};
use crate::mock::commands::{Fetch, Value, encode, wrong};

const ADMIN: &str = "Admin";
/// `permission::admin_permissions`.
const ADMIN_PERMISSIONS: [Permission; 7] = [
    Permission::AddCapabilities,
    Permission::RevokeCapabilities,
    Permission::AddRecordTags,
    Permission::DeleteRecordTags,
    Permission::AddRoles,
    Permission::UpdateRoles,
    Permission::DeleteRoles,
];

impl Call<'_> {
    pub(super) fn create(self) -> Returned {
        self.about_data()?;
        let [initial_record, locking, metadata, updatable_metadata, tags, clock] = self.arguments::<6>()?;
        let record = generic(PACKAGES.audit_trails, "record", "InitialRecord", vec![PACKAGES.data()]);
        self.machine.typed(initial_record, 0, &option_of(record.into()))?;
        let locking: LockingConfig = decode(&self.machine.typed(locking, 1, &locking_config())?)?;
        let metadata = self.machine.typed(metadata, 2, &option_of(immutable_metadata()))?;
        let updatable_metadata = self.machine.pure(updatable_metadata, 3)?;
        let tags: Vec<String> = self.machine.pure(tags, 4)?;
        self.clock(clock, 5)?;
        // In the order in which the package makes them, on which their ids depend.
        let [id, records, admin, revoked] = std::array::from_fn(|_| self.machine.fresh_id());
        let permissions = ADMIN_PERMISSIONS.to_vec();
        let trail = AuditTrail {
            id,
            creator: self.machine.sender,
            created_at: self.machine.now_ms,
            sequence_number: 0,
            records: empty_table(records),
            tags: tags.into_iter().map(|tag| (tag, 0)).collect(),
            locking,
            roles: RoleMap {
                target_key: id,
                roles: vec![(ADMIN.to_owned(), RoleEntry { permissions, tags: None })],
                initial_admin_role_name: ADMIN.to_owned(),
                revoked_capabilities: empty_table(revoked),
                initial_admin_cap_ids: vec![admin],
                role_admin_permissions: [Permission::AddRoles, Permission::DeleteRoles, Permission::UpdateRoles],
                capability_admin_permissions: [Permission::AddCapabilities, Permission::RevokeCapabilities],
                version: 1,
            },
            immutable_metadata: decode(&metadata)?,
            updatable_metadata,
            version: self.version(),
        };
        self.machine.make(id, PACKAGES.trail(), encode(&trail)?);
        self.machine.share(id);
        let capability = Capability {
            id: admin,
            target_key: id,
            role: ADMIN.to_owned(),
            issued_to: None,
            valid_from: None,
            valid_until: None,
        };
        self.machine.make(admin, PACKAGES.capability(), encode(&capability)?);
        let (sender, now_ms) = (self.machine.sender, self.machine.now_ms);
        self.emit(struct_tag(PACKAGES.audit_trails, "main", "AuditTrailCreated"), &(id, sender, now_ms))?;
        let returned_id = struct_tag(ObjectId::FRAMEWORK, "object", "ID").into();
        Ok(vec![Value::Object(admin), Value::Typed(returned_id, encode(&id)?)])
    }

    pub(super) fn create_role(self) -> Returned {
        self.about_data()?;
        let [trail, capability, role, permissions, tags, clock] = self.arguments::<6>()?;
        let mut trail = self.trail(trail, 0)?;
        let capability = self.capability(capability, 1)?;
        let role: String = self.machine.pure(role, 2)?;
        let permissions: Vec<Permission> = decode(&self.machine.typed(permissions, 3, &permission_set())?)?;
        let role_tags = struct_tag(PACKAGES.audit_trails, "record_tags", "RoleTags");
        let tags = self.machine.typed(tags, 4, &option_of(role_tags.clone().into()))?;
        let tags: Option<Vec<String>> = decode(&tags)?;
        self.clock(clock, 5)?;
        self.check_version(&trail)?;
        self.check_capability(&trail, &capability, trail.roles.role_admin_permissions[0])?;
        if trail.roles.roles.iter().any(|(name, _)| *name == role) {
            return Err(abort(ObjectId::FRAMEWORK, "vec_map", "insert", "EKeyAlreadyExists"));
        }
        let event = (trail.id, &role, &permissions, &tags, self.machine.sender, self.machine.now_ms);
        let event = encode(&event)?;
        trail.roles.roles.push((role, RoleEntry { permissions, tags }));
        self.machine.write(trail.id, &trail)?;
        let of = vec![PACKAGES.permission(), role_tags.into()];
        self.emit_bytes(generic(PACKAGES.tf_components, "role_map", "RoleCreated", of), event);
        Ok(Vec::new())
    }

    pub(super) fn new_capability(self) -> Returned {
        self.about_data()?;
        let [trail, capability, role, issued_to, valid_from, valid_until, clock] = self.arguments::<7>()?;
        let mut trail = self.trail(trail, 0)?;
        let capability = self.capability(capability, 1)?;
        let role: String = self.machine.pure(role, 2)?;
        let issued_to = self.machine.pure(issued_to, 3)?;
        let (valid_from, valid_until): (Option<u64>, Option<u64>) =
            (self.machine.pure(valid_from, 4)?, self.machine.pure(valid_until, 5)?);
        self.clock(clock, 6)?;
        self.check_version(&trail)?;
        self.check_capability(&trail, &capability, trail.roles.capability_admin_permissions[0])?;
        if !trail.roles.roles.iter().any(|(name, _)| *name == role) {
            return Err(abort(PACKAGES.tf_components, "role_map", "new_capability", "ERoleDoesNotExist"));
        }
        if valid_from.zip(valid_until).is_some_and(|(from, until)| from > until) {
            let function = "new_capability";
            return Err(abort(PACKAGES.tf_components, "capability", function, "EValidityPeriodInconsistent"));
        }
        let id = self.machine.fresh_id();
        if role == trail.roles.initial_admin_role_name {
            trail.roles.initial_admin_cap_ids.push(id);
        }
        let made = Capability { id, target_key: trail.id, role, issued_to, valid_from, valid_until };
        self.machine.make(id, PACKAGES.capability(), encode(&made)?);
        self.machine.give(id, Owner::Address(issued_to.unwrap_or(self.machine.sender)));
        self.machine.write(trail.id, &trail)?;
        let event = issued(&made)?;
        self.emit_bytes(struct_tag(PACKAGES.tf_components, "role_map", "CapabilityIssued"), event.clone());
        let receipt = struct_tag(PACKAGES.audit_trails, "main", "CapabilityIssuedReceipt");
        Ok(vec![Value::Typed(receipt.into(), event)])
    }

    pub(super) fn destroy_initial_admin(self) -> Returned {
        self.about_data()?;
        let [trail, capability] = self.arguments::<2>()?;
        let mut trail = self.trail(trail, 0)?;
        let capability = self.capability(capability, 1)?;
        self.check_version(&trail)?;
        let no = |error| Err(abort(PACKAGES.tf_components, "role_map", "destroy_initial_admin_capability", error));
        if capability.target_key != trail.roles.target_key {
            return no("ECapabilityTargetKeyMismatch");
        }
        let admins = &mut trail.roles.initial_admin_cap_ids;
        let Some(at) = admins.iter().position(|id| *id == capability.id) else {
            return no("ECapabilityIsNotInitialAdmin");
        };
        admins.remove(at);
        self.machine.delete(capability.id);
        self.machine.write(trail.id, &trail)?;
        let event = issued(&capability)?;
        self.emit_bytes(struct_tag(PACKAGES.tf_components, "role_map", "CapabilityDestroyed"), event);
        Ok(Vec::new())
    }

    pub(super) fn add_record(self, fetch: Fetch<'_>) -> Returned {
        self.about_data()?;
        let [trail, capability, data, metadata, tag, clock] = self.arguments::<6>()?;
        let mut trail = self.trail(trail, 0)?;
        let capability = self.capability(capability, 1)?;
        let data: Data = decode(&self.machine.typed(data, 2, &PACKAGES.data())?)?;
        let metadata = self.machine.pure(metadata, 3)?;
        let tag: Option<String> = self.machine.pure(tag, 4)?;
        self.clock(clock, 5)?;
        self.check_version(&trail)?;
        self.check_capability(&trail, &capability, Permission::AddRecord)?;
        if trail.locking.write_lock != TimeLock::None {
            return Err(self.abort_here("ETrailWriteLocked"));
        }
        if tag.is_some() {
            return Err(self.abort_here("ERecordTagNotDefined"));
        }
        let (table, number) = (trail.records.id, trail.sequence_number);
        let previous = trail.records.tail;
        if let Some(previous) = previous {
            let id = record_id(table, previous);
            self.machine.load(id, fetch)?;
            let field = self.machine.read::<RecordField>(id, &PACKAGES.record_field());
            let mut field = field.ok_or(ExecutionError::InvariantViolation)?;
            field.next = Some(number);
            self.machine.write(id, &field)?;
        }
        let (added_by, added_at) = (self.machine.sender, self.machine.now_ms);
        let id = record_id(table, number);
        let field = RecordField {
            id,
            name: number,
            previous,
            next: None,
            record: StoredRecord {
                data,
                metadata,
                tag,
                sequence_number: number,
                added_by,
                added_at,
                replaces: Vec::new(),
                is_replaced_by: None,
            },
        };
        self.machine.make(id, PACKAGES.record_field(), encode(&field)?);
        self.machine.give(id, Owner::Object(table));
        trail.records.size += 1;
        trail.records.head = trail.records.head.or(Some(number));
        trail.records.tail = Some(number);
        trail.sequence_number += 1;
        self.machine.write(trail.id, &trail)?;
        let event = RecordAdded { trail_id: trail.id, sequence_number: number, added_by, timestamp: added_at };
        let event = encode(&event)?;
        self.emit_bytes(PACKAGES.record_added(), event.clone());
        Ok(vec![Value::Typed(PACKAGES.record_added().into(), event)])
    }

    /// The function is generic, and used for the type that records have here: the first argument is of that type.
    fn about_data(&self) -> Result<(), ExecutionError> {
        match self.call.type_arguments.as_slice() {
            [tag] if *tag == PACKAGES.data() => Ok(()),
            [_] => Err(wrong(0, CommandArgumentError::TypeMismatch)),
            _ => Err(ExecutionError::TypeArityMismatch),
        }
    }

    fn trail(&self, argument: Argument, at: usize) -> Result<AuditTrail, ExecutionError> {
        let id = self.machine.object(argument, at)?;
        self.machine.read(id, &PACKAGES.trail()).ok_or_else(|| wrong(at, CommandArgumentError::TypeMismatch))
    }

    fn capability(&self, argument: Argument, at: usize) -> Result<Capability, ExecutionError> {
        let id = self.machine.object(argument, at)?;
        self.machine.read(id, &PACKAGES.capability()).ok_or_else(|| wrong(at, CommandArgumentError::TypeMismatch))
    }

    fn clock(&self, argument: Argument, at: usize) -> Result<(), ExecutionError> {
        match self.machine.value(argument, at)? {
            Value::ReadOnly(ObjectId::CLOCK) => Ok(()),
            Value::Pure(_) => Err(wrong(at, CommandArgumentError::InvalidUsageOfPureArgument)),
            Value::Object(_) | Value::ReadOnly(_) | Value::Typed(..) => {
                Err(wrong(at, CommandArgumentError::TypeMismatch))
            }
        }
    }

    /// `PACKAGE_VERSION` of the version that is called. Trails remember which one made them.
    fn version(&self) -> u64 {
        if self.call.package == PACKAGES.audit_trails { 1 } else { 2 }
    }

    fn check_version(&self, trail: &AuditTrail) -> Result<(), ExecutionError> {
        if trail.version == self.version() { Ok(()) } else { Err(self.abort_here("EPackageVersionMismatch")) }
    }

    /// `role_map::assert_capability_valid`.
    fn check_capability(
        &self,
        trail: &AuditTrail,
        capability: &Capability,
        permission: Permission,
    ) -> Result<(), ExecutionError> {
        let no = |error| Err(abort(PACKAGES.tf_components, "role_map", "assert_capability_valid", error));
        if capability.target_key != trail.roles.target_key {
            return no("ECapabilityTargetKeyMismatch");
        }
        let Some((_, role)) = trail.roles.roles.iter().find(|(name, _)| *name == capability.role) else {
            return no("ERoleDoesNotExist");
        };
        if !role.permissions.contains(&permission) {
            return no("ECapabilityPermissionDenied");
        }
        let now_ms = self.machine.now_ms;
        let is_early = capability.valid_from.is_some_and(|from| now_ms < from);
        if is_early || capability.valid_until.is_some_and(|until| now_ms > until) {
            return no("ECapabilityTimeConstraintsNotMet");
        }
        if capability.issued_to.is_some_and(|holder| holder != self.machine.sender) {
            return no("ECapabilityIssuedToMismatch");
        }
        Ok(())
    }

    fn abort_here(&self, error: &'static str) -> ExecutionError {
        abort_in(self.call.package, self.call.module.clone(), self.call.function.clone(), error)
    }

    fn emit<T: Serialize>(self, tag: StructTag, value: &T) -> Result<(), ExecutionError> {
        let contents = encode(value)?;
        self.emit_bytes(tag, contents);
        Ok(())
    }

    fn emit_bytes(self, struct_tag: StructTag, contents: Vec<u8>) {
        let (package_id, module) = (self.call.package, self.call.module.clone());
        let sender = self.machine.sender;
        self.machine.events.push(Event { package_id, module, sender, struct_tag, contents });
    }
}

/// `role_map::CapabilityIssued` and its likes: the capability, its target first.
fn issued(capability: &Capability) -> Result<Vec<u8>, ExecutionError> {
    let Capability { id, target_key, role, issued_to, valid_from, valid_until } = capability;
    encode(&(target_key, id, role, issued_to, valid_from, valid_until))
}

fn empty_table<K>(id: ObjectId) -> LinkedTable<K> {
    LinkedTable { id, size: 0, head: None, tail: None }
}
