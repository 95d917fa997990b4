//! The programmable transactions that the anchor submits, call by call.
//!
//! Every object is given with its reference, so that building asks nobody and signs what was looked at.

use iota_sdk::transaction_builder::TransactionBuilder;
use iota_sdk::transaction_builder::unresolved::{
    Argument, Command, MakeMoveVector, MergeCoins, MoveCall, TransferObjects,
};
use iota_sdk::types::{
    Address, Identifier, Input, ObjectId, ObjectReference, SharedObjectReference, StructTag, Transaction, TypeTag,
    Version,
};

use crate::audit_trail::{RECORDER, generic, struct_tag};
use crate::error::LedgerError;
use crate::network::Packages;
use crate::seal::HUNDRED_YEARS;

/// A shared object and the version at which it became shared, which never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Shared {
    pub(crate) id: ObjectId,
    pub(crate) initial_version: Version,
}

/// What a transaction does.
#[derive(Clone, Debug)]
pub(crate) enum Program<'a> {
    /// Makes one coin of several. The gas coin takes them all.
    Merge { coins: Vec<ObjectReference> },
    /// Makes a trail with locks that nobody outlives.
    Create { name: &'a str, description: &'a str },
    /// Hands out the one capability that can add records, and destroys the one that could change anything else.
    Seal { trail: Shared, admin: ObjectReference },
    /// Adds a record.
    Add { trail: Shared, recorder: ObjectReference, text: &'a str, metadata: Option<&'a str> },
}

/// Who pays how much for a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Gas {
    /// They become one, the first, on paying.
    pub(crate) coins: Vec<ObjectReference>,
    pub(crate) price: u64,
    pub(crate) budget: u64,
}

impl Program<'_> {
    /// The transaction, unsigned.
    pub(crate) fn build(&self, packages: &Packages, sender: Address, gas: Gas) -> Result<Transaction, LedgerError> {
        let mut calls = Calls { packages, builder: TransactionBuilder::new(sender) };
        match self {
            Self::Merge { coins } => calls.merge(coins),
            Self::Create { name, description } => calls.create(name, description, sender),
            Self::Seal { trail, admin } => calls.seal(*trail, *admin, sender),
            Self::Add { trail, recorder, text, metadata } => calls.add(*trail, *recorder, text, *metadata),
        }
        let mut builder = calls.builder;
        builder.gas(gas.coins).gas_price(gas.price).gas_budget(gas.budget);
        builder
            .finish()
            .map_err(|error| LedgerError::Internal { action: "build a transaction", reason: error.to_string() })
    }
}

struct Calls<'a> {
    packages: &'a Packages,
    builder: TransactionBuilder,
}

impl Calls<'_> {
    fn merge(&mut self, coins: &[ObjectReference]) {
        let coins = coins.iter().map(|coin| self.owned(*coin)).collect();
        self.builder.command(Command::MergeCoins(MergeCoins::new(Argument::Gas, coins)));
    }

    fn create(&mut self, name: &str, description: &str, sender: Address) {
        let initial_record = generic(self.packages.audit_trails, "record", "InitialRecord", vec![self.packages.data()]);
        let initial_record = self.none(initial_record);
        let seconds = self.builder.pure(HUNDRED_YEARS);
        let window = self.audit_trails("locking", "window_time_based", false, vec![seconds]);
        let trail_lock = self.call(self.packages.tf_components, "timelock", "infinite", vec![], vec![]);
        let write_lock = self.call(self.packages.tf_components, "timelock", "none", vec![], vec![]);
        let locking = self.audit_trails("locking", "new", false, vec![window, trail_lock, write_lock]);
        let name = self.builder.pure(name);
        let description = self.builder.pure(Some(description));
        let metadata = self.audit_trails("main", "new_trail_metadata", false, vec![name, description]);
        let metadata_type = struct_tag(self.packages.audit_trails, "main", "ImmutableMetadata").into();
        let metadata = self.call(ObjectId::STD, "option", "some", vec![metadata_type], vec![metadata]);
        let updatable_metadata = self.builder.pure(None::<String>);
        let tags = self.builder.pure(Vec::<String>::new());
        let clock = self.clock();
        let arguments = vec![initial_record, locking, metadata, updatable_metadata, tags, clock];
        let Argument::Result(created) = self.audit_trails("main", "create", true, arguments) else { return };
        let recipient = self.builder.pure(sender);
        let admin = Argument::NestedResult(created, 0);
        self.builder.command(Command::TransferObjects(TransferObjects::new(vec![admin], recipient)));
    }

    fn seal(&mut self, trail: Shared, admin: ObjectReference, recorder: Address) {
        let trail = self.trail(trail);
        let admin = self.owned(admin);
        let permission = self.audit_trails("permission", "add_record", false, vec![]);
        let permissions = MakeMoveVector::new(Some(self.packages.permission()), vec![permission]);
        let permissions = self.builder.command(Command::MakeMoveVector(permissions));
        let permissions = self.audit_trails("permission", "from_vec", false, vec![permissions]);
        let tags = self.none(struct_tag(self.packages.audit_trails, "record_tags", "RoleTags"));
        let role = self.builder.pure(RECORDER);
        let clock = self.clock();
        self.audit_trails("main", "create_role", true, vec![trail, admin, role, permissions, tags, clock]);
        let issued_to = self.builder.pure(Some(recorder));
        let always = self.builder.pure(None::<u64>);
        let arguments = vec![trail, admin, role, issued_to, always, always, clock];
        self.audit_trails("main", "new_capability", true, arguments);
        self.audit_trails("main", "destroy_initial_admin_capability", true, vec![trail, admin]);
    }

    fn add(&mut self, trail: Shared, recorder: ObjectReference, text: &str, metadata: Option<&str>) {
        let text = self.builder.pure(text);
        let data = self.audit_trails("record", "new_text", false, vec![text]);
        let trail = self.trail(trail);
        let recorder = self.owned(recorder);
        let metadata = self.builder.pure(metadata);
        let tag = self.builder.pure(None::<String>);
        let clock = self.clock();
        self.audit_trails("main", "add_record", true, vec![trail, recorder, data, metadata, tag, clock]);
    }

    /// `option::none` of a type that is no pure value.
    fn none(&mut self, of: StructTag) -> Argument {
        self.call(ObjectId::STD, "option", "none", vec![of.into()], vec![])
    }

    fn trail(&mut self, trail: Shared) -> Argument {
        self.builder.input(Input::Shared(SharedObjectReference::new(trail.id, trail.initial_version, true)))
    }

    fn owned(&mut self, object: ObjectReference) -> Argument {
        self.builder.input(Input::ImmutableOrOwned(object))
    }

    fn clock(&mut self) -> Argument {
        let clock = SharedObjectReference::new(ObjectId::CLOCK, Version::INITIAL_SHARED_VERSION, false);
        self.builder.input(Input::Shared(clock))
    }

    /// Calls the version of `audit_trails` that belongs to the trail; about `Data` or not generic.
    fn audit_trails(
        &mut self,
        module: &'static str,
        function: &'static str,
        about_data: bool,
        arguments: Vec<Argument>,
    ) -> Argument {
        let types = if about_data { vec![self.packages.data()] } else { vec![] };
        self.call(self.packages.audit_trails_called, module, function, types, arguments)
    }

    fn call(
        &mut self,
        package: ObjectId,
        module: &'static str,
        function: &'static str,
        types: Vec<TypeTag>,
        arguments: Vec<Argument>,
    ) -> Argument {
        let (module, function) = (Identifier::from_static(module), Identifier::from_static(function));
        self.builder.command(Command::MoveCall(MoveCall::new(package, module, function, types, arguments)))
    }
}
