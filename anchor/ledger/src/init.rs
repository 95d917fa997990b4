//! Making a sealed trail: key, gas, two transactions, and a look at the result.
//!
//! Each step leaves its trace on disk before the next begins, and a transaction's signed bytes are on disk before the
//! node gets them. So `init` can be killed anywhere and run again, and there is one trail in the end. Run again on a
//! finished one, it takes over the records in it that its state does not know: the way back when the state was lost.

use std::path::Path;
use std::time::Duration;

use iota_sdk::types::{Address, ObjectId, Owner};
use tokio::time::{Instant, sleep};

use crate::error::LedgerError;
use crate::faucet;
use crate::file::Folder;
use crate::key::LedgerKey;
use crate::ledger::{Step, Watch, tell};
use crate::money::Costs;
use crate::network::Endpoints;
use crate::node::{Executed, GasCoin};
use crate::nodes::Nodes;
use crate::program::{Program, Shared};
use crate::seal::Seal;
use crate::state::{Created, Paid, Pending, Progress, Purpose, Sealed, State};
use crate::trail::TrailReader;
use crate::wallet::{Settled, Wallet, total};

/// What `init` and a first record need, several times over.
const ENOUGH: u64 = 100_000_000;
/// How long a faucet's coins may take.
const COINS_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Coins that one transaction merges; each is an input, of which there may be 2048.
const COINS_AT_ONCE: usize = 200;

/// What `init` makes, and where.
#[derive(Clone, Copy, Debug)]
pub struct InitSettings<'a> {
    /// The folder for key, state and pending transaction. Made if it is not there.
    pub folder: &'a Path,
    /// The network.
    pub endpoints: &'a Endpoints,
    /// The trail's immutable name: the log's origin.
    pub name: &'a str,
    /// The trail's immutable description: the log's key and the SHA-256 of the CA certificate, as readable text.
    pub description: &'a str,
}

/// What `init` made.
#[derive(Clone, Debug)]
pub struct InitReport {
    /// The trail.
    pub trail: ObjectId,
    /// The chain it is on, to be kept with the trail's id ([`crate::Network::chain`]).
    pub chain: String,
    /// The address that adds records and pays for them.
    pub address: Address,
    /// The capability that lets it.
    pub recorder: ObjectId,
    /// What the trail shows of itself, read back.
    pub seal: Seal,
    /// The transaction that made the trail.
    pub create: Paid,
    /// The transaction that sealed it.
    pub sealing: Paid,
    /// What is left, in NANOS.
    pub balance: u64,
    /// Pages for people: the trail, both transactions, and the address.
    pub links: InitLinks,
}

/// Pages for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitLinks {
    /// The trail.
    pub trail: String,
    /// The transaction that made it.
    pub create: String,
    /// The transaction that sealed it.
    pub seal: String,
    /// What the address owns.
    pub address: String,
}

/// Makes a sealed trail, or goes on with one that was begun in the folder; on a finished one it only looks and reports.
pub async fn init(settings: InitSettings<'_>, mut watch: Option<Watch>) -> Result<InitReport, LedgerError> {
    let endpoints = settings.endpoints;
    let packages = endpoints.packages.ok_or(LedgerError::NoPackages(endpoints.network))?;
    let folder = Folder::open(settings.folder)?;
    let stored = State::load(&folder)?;
    let expected = stored.as_ref().map(|state| state.chain.as_str()).or(endpoints.network.chain());
    let nodes = Nodes::connect(&endpoints.grpc, expected).await?;
    let key = load_or_make_key(&folder, stored.is_some(), &mut watch)?;
    let state = match stored {
        Some(state) => state,
        None => {
            let (name, description) = (settings.name.to_owned(), settings.description.to_owned());
            let (network, address, chain) = (endpoints.network, key.address(), nodes.chain().to_owned());
            let state = State { network, chain, packages, address, name, description, progress: Progress::Key };
            state.store(&folder)?;
            tell(&mut watch, Step::KeyStored { address })?;
            state
        }
    };
    check_same(&settings, &state, &key)?;
    let packages = state.packages;
    let mut run = Run { wallet: Wallet { folder, nodes, key, packages, watch }, state };
    run.settle().await?;
    run.go(endpoints).await
}

/// The key is stored before the state that names it, so without a state it may be there already.
fn load_or_make_key(folder: &Folder, must_exist: bool, watch: &mut Option<Watch>) -> Result<LedgerKey, LedgerError> {
    if let Some(key) = LedgerKey::load(folder)? {
        return Ok(key);
    }
    if must_exist {
        let reason =
            "ledger.json is there, but not the key (is it lost for good? Then continue the trail with another)";
        let reason = reason.to_owned();
        return Err(LedgerError::Damaged { path: folder.path("ledger.key"), reason });
    }
    let (key, words) = LedgerKey::generate()?;
    tell(watch, Step::NewKey { words: &words, address: key.address() })?;
    key.store(folder)?;
    Ok(key)
}

fn check_same(settings: &InitSettings<'_>, state: &State, key: &LedgerKey) -> Result<(), LedgerError> {
    let pairs = [
        ("network", state.network.to_string(), settings.endpoints.network.to_string()),
        ("name", state.name.clone(), settings.name.to_owned()),
        ("description", state.description.clone(), settings.description.to_owned()),
        ("address", state.address.to_string(), key.address().to_string()),
    ];
    for (what, stored, given) in pairs {
        if stored != given {
            return Err(LedgerError::Different { folder: settings.folder.to_owned(), what, stored, given });
        }
    }
    Ok(())
}

struct Run {
    wallet: Wallet,
    state: State,
}

impl Run {
    /// Finishes what an earlier run began.
    async fn settle(&mut self) -> Result<(), LedgerError> {
        if Pending::load(&self.wallet.folder)?.is_some_and(|it| matches!(it.purpose, Purpose::Add { .. })) {
            // A record: whoever adds the next one settles it, and needs its receipt.
            return Ok(());
        }
        let Some((pending, settled)) = self.wallet.settle().await? else { return Ok(()) };
        match settled {
            Settled::Done(executed) => self.note(&pending.purpose, &executed).await,
            // It changed nothing, and if it still may, what is built next excludes it: the largest coin is the same as
            // before, and the capability. What it was for is still to be done.
            Settled::Aborted(_) | Settled::Refused(_) => Pending::remove(&self.wallet.folder),
        }
    }

    async fn go(mut self, endpoints: &Endpoints) -> Result<InitReport, LedgerError> {
        loop {
            match &self.state.progress {
                Progress::Key => {
                    let coin = self.fund(endpoints).await?;
                    let coin = self.merge(coin).await?;
                    let (name, description) = (self.state.name.clone(), self.state.description.clone());
                    let program = Program::Create { name: &name, description: &description };
                    let executed = self.submit(Purpose::Create, &program, coin).await?;
                    self.note(&Purpose::Create, &executed).await?;
                }
                Progress::Created(created) => {
                    let (trail, admin) = (created.trail, created.admin);
                    let coin = self.fund(endpoints).await?;
                    let admin =
                        self.wallet.nodes.object(admin).await?.ok_or_else(|| {
                            LedgerError::NotAsMade(format!("its admin capability {admin} is not there"))
                        })?;
                    let program = Program::Seal { trail, admin: admin.object_ref() };
                    let executed = self.submit(Purpose::Seal, &program, coin).await?;
                    self.note(&Purpose::Seal, &executed).await?;
                }
                Progress::Sealed(sealed) => {
                    let sealed = Sealed::clone(sealed);
                    return self.check(endpoints, sealed).await;
                }
            }
        }
    }

    /// Whoever runs `init` is there to read what it costs, so nothing but the protocol limits it.
    async fn submit(
        &mut self,
        purpose: Purpose,
        program: &Program<'_>,
        coin: GasCoin,
    ) -> Result<Executed, LedgerError> {
        let submitted = self.wallet.submit(purpose, program, &[coin], u64::MAX).await;
        if let Err(LedgerError::Refused { .. }) = &submitted {
            Pending::remove(&self.wallet.folder)?;
        }
        submitted
    }

    /// The largest coin, once there is enough in all of them.
    async fn fund(&mut self, endpoints: &Endpoints) -> Result<GasCoin, LedgerError> {
        let address = self.wallet.address();
        let mut coins = self.wallet.nodes.coins(address).await?;
        if total(&coins) < ENOUGH
            && let Some(url) = &endpoints.faucet
        {
            faucet::ask(url, address).await?;
            self.wallet.tell(Step::FaucetAsked { faucet: url })?;
            let deadline = Instant::now() + COINS_WITHIN;
            while total(&coins) < ENOUGH && Instant::now() < deadline {
                coins = self.wallet.nodes.coins(address).await?;
                if total(&coins) < ENOUGH {
                    sleep(LOOK_EVERY).await;
                }
            }
        }
        let balance = total(&coins);
        match coins.first() {
            Some(coin) if balance >= ENOUGH => {
                self.wallet.tell(Step::Funded { balance })?;
                Ok(*coin)
            }
            Some(_) | None => Err(LedgerError::Unfunded { address, balance, needed: ENOUGH }),
        }
    }

    /// Makes one coin of all, so that later there is no question which pays.
    async fn merge(&mut self, mut largest: GasCoin) -> Result<GasCoin, LedgerError> {
        loop {
            let coins = self.wallet.nodes.coins(self.wallet.address()).await?;
            let others = coins.iter().filter(|coin| coin.reference.object_id != largest.reference.object_id);
            let others: Vec<_> = others.take(COINS_AT_ONCE).map(|coin| coin.reference).collect();
            let same = coins.iter().find(|coin| coin.reference.object_id == largest.reference.object_id);
            largest = same.copied().unwrap_or(largest);
            if others.is_empty() {
                return Ok(largest);
            }
            let executed = self.submit(Purpose::Merge, &Program::Merge { coins: others }, largest).await?;
            self.note(&Purpose::Merge, &executed).await?;
        }
    }

    /// Waits until the node shows what the transaction did, and writes it down.
    async fn note(&mut self, purpose: &Purpose, executed: &Executed) -> Result<(), LedgerError> {
        let effects = &executed.effects;
        self.wallet.nodes.settled(effects.transaction_digest).await?;
        let paid = Paid { transaction: effects.transaction_digest, nanos: effects.gas_cost_summary.net_gas_usage() };
        let (mut shared, mut owned) = (None, None);
        for object in effects.created() {
            let id = *object.reference().object_id();
            match object.owner() {
                Owner::Shared(initial_version) => shared = Some(Shared { id, initial_version: *initial_version }),
                Owner::Address(_) => owned = Some(id),
                _ => {}
            }
        }
        let made = |what| LedgerError::NotAsMade(format!("transaction {} made no {what}", paid.transaction));
        match (purpose, &self.state.progress) {
            (Purpose::Create, Progress::Key) => {
                let trail = shared.ok_or_else(|| made("trail"))?;
                let admin = owned.ok_or_else(|| made("admin capability"))?;
                self.state.progress = Progress::Created(Created { trail, admin, create: paid });
            }
            (Purpose::Seal, Progress::Created(created)) => {
                let Created { trail, admin, create } = created.clone();
                let recorder = owned.ok_or_else(|| made("recorder capability"))?;
                let (last, known, given_up, costs) = (None, 0, Vec::new(), Costs::default());
                let sealed = Sealed { trail, admin, recorder, create, seal: paid, last, known, given_up, costs };
                self.state.progress = Progress::Sealed(Box::new(sealed));
            }
            // It changed no state of ours, or was noted by a run that was stopped before it could remove it.
            (Purpose::Merge | Purpose::Create | Purpose::Seal | Purpose::Add { .. }, _) => {}
        }
        self.wallet.note(purpose, &self.state)
    }

    /// Reads everything back: what was made is judged by what the ledger shows, not by what we meant.
    async fn check(mut self, endpoints: &Endpoints, sealed: Sealed) -> Result<InitReport, LedgerError> {
        let wallet = &self.wallet;
        let reader = &TrailReader::on(wallet.nodes.clone(), wallet.packages, sealed.trail.id);
        let (admin, recorder) = (sealed.admin, sealed.recorder);
        let looked = wallet.nodes.ask(|node| async move {
            let seal = reader.seal_at(&node).await?;
            wallet.check_recorder(&node, recorder, &seal).await?;
            Ok((seal, node.object(admin).await?))
        });
        let (seal, remaining) = looked.await?;
        if remaining.is_some() {
            return Err(LedgerError::NotAsMade(format!("its admin capability {admin} still exists")));
        }
        let same = [
            ("name", seal.name.as_deref(), self.state.name.as_str()),
            ("description", seal.description.as_deref(), self.state.description.as_str()),
        ];
        for (what, found, meant) in same {
            if found != Some(meant) {
                return Err(LedgerError::NotAsMade(format!("its {what} is {found:?}, not {meant:?}")));
            }
        }
        let address = wallet.address();
        if seal.creator != address {
            return Err(LedgerError::NotAsMade(format!("{} made it, not {address}", seal.creator)));
        }
        let balance = total(&wallet.nodes.coins(address).await?);
        if let Progress::Sealed(stored) = &mut self.state.progress
            && stored.known < seal.records
        {
            // A person says by running this that the trail is ours as it is, also when its state was lost.
            let unknown = seal.records - stored.known;
            tracing::warn!(unknown, "takes over records that are in the trail and were not known here");
            stored.known = seal.records;
            self.state.store(&self.wallet.folder)?;
        }
        self.wallet.tell(Step::Checked)?;
        Ok(InitReport {
            trail: sealed.trail.id,
            chain: self.state.chain,
            address,
            recorder: sealed.recorder,
            seal,
            create: sealed.create,
            sealing: sealed.seal,
            balance,
            links: InitLinks {
                trail: endpoints.object_page(sealed.trail.id),
                create: endpoints.transaction_page(sealed.create.transaction),
                seal: endpoints.transaction_page(sealed.seal.transaction),
                address: endpoints.address_page(address),
            },
        })
    }
}
