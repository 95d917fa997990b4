//! The Move functions that the mock knows, after the source of the packages
//! (`iotaledger/notarization`, `audit-trail-move/sources`; `tf_components`). Those that work on a trail are in `trails`.

mod trails;

use iota_sdk::types::{Argument, Command, ExecutionError, Identifier, MoveCall, MoveLocation, ObjectId, TypeTag};
use serde::Serialize;

use super::commands::{Fetch, Machine, Value, encode};
use super::rejection::Rejection;
use crate::audit_trail::{Data, DeletionWindow, ImmutableMetadata, Permission, TimeLock, generic, struct_tag};
use crate::network::Packages;

const PACKAGES: Packages = Packages::MOCK;

/// A function by name, with the package it is called at.
#[derive(Clone, Copy, Debug)]
enum Function {
    OptionNone,
    OptionSome,
    Infinite,
    NoLock,
    TimeWindow,
    NewLocking,
    AddRecordPermission,
    PermissionsFromVector,
    NewText,
    NewMetadata,
    Create,
    CreateRole,
    NewCapability,
    DestroyInitialAdmin,
    AddRecord,
}

fn find(call: &MoveCall) -> Option<Function> {
    let is_audit_trails = call.package == PACKAGES.audit_trails || call.package == PACKAGES.audit_trails_called;
    let name = (call.module.as_str(), call.function.as_str());
    Some(match name {
        ("option", "none") if call.package == ObjectId::STD => Function::OptionNone,
        ("option", "some") if call.package == ObjectId::STD => Function::OptionSome,
        ("timelock", "infinite") if call.package == PACKAGES.tf_components => Function::Infinite,
        ("timelock", "none") if call.package == PACKAGES.tf_components => Function::NoLock,
        _ if !is_audit_trails => return None,
        ("locking", "window_time_based") => Function::TimeWindow,
        ("locking", "new") => Function::NewLocking,
        ("permission", "add_record") => Function::AddRecordPermission,
        ("permission", "from_vec") => Function::PermissionsFromVector,
        ("record", "new_text") => Function::NewText,
        ("main", "new_trail_metadata") => Function::NewMetadata,
        ("main", "create") => Function::Create,
        ("main", "create_role") => Function::CreateRole,
        ("main", "new_capability") => Function::NewCapability,
        ("main", "destroy_initial_admin_capability") => Function::DestroyInitialAdmin,
        ("main", "add_record") => Function::AddRecord,
        _ => return None,
    })
}

/// Refuses a transaction with a command that the mock does not know, before anything is paid.
pub(super) fn check_all_known(commands: &[Command]) -> Result<(), Rejection> {
    for command in commands {
        match command {
            Command::MoveCall(call) if find(call).is_none() => {
                let name = format!("{}::{}::{}", call.package, call.module.as_str(), call.function.as_str());
                return Err(Rejection::beyond_the_mock(&name));
            }
            Command::Publish(_) => return Err(Rejection::beyond_the_mock("publishing a package")),
            Command::Upgrade(_) => return Err(Rejection::beyond_the_mock("upgrading a package")),
            _ => {}
        }
    }
    Ok(())
}

/// Calls a function.
pub(super) fn call(machine: &mut Machine, call: &MoveCall, fetch: Fetch<'_>) -> Result<Vec<Value>, ExecutionError> {
    let function = find(call).ok_or(ExecutionError::FunctionNotFound)?;
    let call = Call { machine, call };
    match function {
        Function::OptionNone => call.option(None),
        Function::OptionSome => call.option(Some(0)),
        Function::Infinite => call.constant(time_lock(), &TimeLock::Infinite),
        Function::NoLock => call.constant(time_lock(), &TimeLock::None),
        Function::TimeWindow => call.time_window(),
        Function::NewLocking => call.new_locking(),
        Function::AddRecordPermission => call.constant(PACKAGES.permission(), &Permission::AddRecord),
        Function::PermissionsFromVector => call.permissions_from_vector(),
        Function::NewText => call.new_text(),
        Function::NewMetadata => call.new_metadata(),
        Function::Create => call.create(),
        Function::CreateRole => call.create_role(),
        Function::NewCapability => call.new_capability(),
        Function::DestroyInitialAdmin => call.destroy_initial_admin(),
        Function::AddRecord => call.add_record(fetch),
    }
}

/// The argument of a call that it changes: the trail, always the first.
pub(super) fn changes(call: &MoveCall) -> Option<Argument> {
    match find(call)? {
        Function::CreateRole | Function::NewCapability | Function::DestroyInitialAdmin | Function::AddRecord => {
            call.arguments.first().copied()
        }
        Function::OptionNone
        | Function::OptionSome
        | Function::Infinite
        | Function::NoLock
        | Function::TimeWindow
        | Function::NewLocking
        | Function::AddRecordPermission
        | Function::PermissionsFromVector
        | Function::NewText
        | Function::NewMetadata
        | Function::Create => None,
    }
}

struct Call<'a> {
    machine: &'a mut Machine,
    call: &'a MoveCall,
}

type Returned = Result<Vec<Value>, ExecutionError>;

impl Call<'_> {
    fn constant<T: Serialize>(self, tag: TypeTag, value: &T) -> Returned {
        self.arguments::<0>()?;
        Ok(vec![Value::Typed(tag, encode(value)?)])
    }

    fn option(self, some: Option<usize>) -> Returned {
        let [of] = self.call.type_arguments.as_slice() else { return Err(ExecutionError::TypeArityMismatch) };
        let bytes = match some {
            None => {
                self.arguments::<0>()?;
                vec![0]
            }
            Some(_) => {
                let [value] = self.arguments::<1>()?;
                let mut bytes = vec![1];
                bytes.extend(self.machine.typed(value, 0, of)?);
                bytes
            }
        };
        Ok(vec![Value::Typed(option_of(of.clone()), bytes)])
    }

    fn time_window(self) -> Returned {
        let [seconds] = self.arguments::<1>()?;
        let window = DeletionWindow::TimeBased { seconds: self.machine.pure(seconds, 0)? };
        Ok(vec![Value::Typed(deletion_window(), encode(&window)?)])
    }

    fn new_locking(self) -> Returned {
        let [window, trail_lock, write_lock] = self.arguments::<3>()?;
        let mut bytes = self.machine.typed(window, 0, &deletion_window())?;
        bytes.extend(self.machine.typed(trail_lock, 1, &time_lock())?);
        bytes.extend(self.machine.typed(write_lock, 2, &time_lock())?);
        Ok(vec![Value::Typed(locking_config(), bytes)])
    }

    fn permissions_from_vector(self) -> Returned {
        let [permissions] = self.arguments::<1>()?;
        let vector = TypeTag::Vector(Box::new(PACKAGES.permission()));
        let bytes = self.machine.typed(permissions, 0, &vector)?;
        let permissions: Vec<Permission> = decode(&bytes)?;
        for (at, permission) in permissions.iter().enumerate() {
            if permissions[..at].contains(permission) {
                return Err(abort(ObjectId::FRAMEWORK, "vec_set", "insert", "EKeyAlreadyExists"));
            }
        }
        Ok(vec![Value::Typed(permission_set(), bytes)])
    }

    fn new_text(self) -> Returned {
        let [text] = self.arguments::<1>()?;
        let data = Data::Text(self.machine.pure(text, 0)?);
        Ok(vec![Value::Typed(PACKAGES.data(), encode(&data)?)])
    }

    fn new_metadata(self) -> Returned {
        let [name, description] = self.arguments::<2>()?;
        let metadata =
            ImmutableMetadata { name: self.machine.pure(name, 0)?, description: self.machine.pure(description, 1)? };
        Ok(vec![Value::Typed(immutable_metadata(), encode(&metadata)?)])
    }

    fn arguments<const N: usize>(&self) -> Result<[Argument; N], ExecutionError> {
        self.call.arguments.as_slice().try_into().map_err(|_| ExecutionError::ArityMismatch)
    }
}

/// An abort of a call that would have gone well.
pub(super) fn abort_on_demand(call: &MoveCall) -> ExecutionError {
    abort_in(call.package, call.module.clone(), call.function.clone(), "EOnDemand")
}

fn abort(package: ObjectId, module: &'static str, function: &'static str, error: &'static str) -> ExecutionError {
    abort_in(package, Identifier::from_static(module), Identifier::from_static(function), error)
}

/// An abort. In the packages the code holds a source line and the place of the error's text; here it holds, after the
/// bit that says so, the first bytes of a hash of the error's name: as useless to match on, and as distinct.
fn abort_in(package: ObjectId, module: Identifier, function: Identifier, error: &'static str) -> ExecutionError {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(error.as_bytes());
    let code = hash.iter().take(6).fold(1 << 15, |code: u64, byte| code << 8 | u64::from(*byte));
    tracing::debug!(%package, error, "a Move call aborts ({})", super::NOT_IOTA);
    let location = MoveLocation { package, module, function: 0, instruction: 0, function_name: Some(function) };
    ExecutionError::MoveAbort { location, code }
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, ExecutionError> {
    bcs::from_bytes(bytes).map_err(|_| ExecutionError::InvariantViolation)
}

fn option_of(tag: TypeTag) -> TypeTag {
    generic(ObjectId::STD, "option", "Option", vec![tag]).into()
}

fn time_lock() -> TypeTag {
    struct_tag(PACKAGES.tf_components, "timelock", "TimeLock").into()
}

fn deletion_window() -> TypeTag {
    struct_tag(PACKAGES.audit_trails, "locking", "LockingWindow").into()
}

fn locking_config() -> TypeTag {
    struct_tag(PACKAGES.audit_trails, "locking", "LockingConfig").into()
}

fn immutable_metadata() -> TypeTag {
    struct_tag(PACKAGES.audit_trails, "main", "ImmutableMetadata").into()
}

fn permission_set() -> TypeTag {
    generic(ObjectId::FRAMEWORK, "vec_set", "VecSet", vec![PACKAGES.permission()]).into()
}
