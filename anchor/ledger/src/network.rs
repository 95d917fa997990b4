//! Which ledger: addresses of nodes, faucets, explorers and packages. Everything else is the same for all networks.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use iota_sdk::types::{Address, ObjectId, TransactionDigest};
use serde::{Deserialize, Serialize};

/// A network that runs the Audit Trails packages, or plays one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// IOTA itself: gas costs money, and there is no faucet.
    Mainnet,
    /// IOTA's public test network.
    Testnet,
    /// IOTA's public development network, wiped now and then.
    Devnet,
    /// A node of one's own; the packages must be published there first.
    Localnet,
    /// The development double of [`crate::mock`]. Not IOTA.
    Mock,
}

/// The name is of no network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no network: choose mainnet, testnet, devnet, localnet or mock")]
pub struct UnknownNetwork(pub String);

impl Network {
    /// As in configurations and links.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Testnet => "testnet",
            Self::Devnet => "devnet",
            Self::Localnet => "localnet",
            Self::Mock => "mock",
        }
    }

    /// The first four bytes of the digest of the genesis checkpoint, in hex, where they are known beforehand.
    pub fn chain(self) -> Option<&'static str> {
        match self {
            Self::Mainnet => Some("6364aad5"),
            Self::Testnet => Some("2304aa97"),
            Self::Devnet => Some("daf90477"),
            Self::Localnet | Self::Mock => None,
        }
    }

    /// Where the network's services are, unless somebody runs them elsewhere.
    pub fn endpoints(self) -> Endpoints {
        let public = |faucet: bool, packages| Endpoints {
            network: self,
            grpc: vec![format!("https://grpc.{self}.iota.cafe:443")],
            faucet: faucet.then(|| format!("https://faucet.{self}.iota.cafe/gas")),
            explorer: EXPLORER.to_owned(),
            packages: Some(packages),
        };
        match self {
            Self::Mainnet => public(false, Packages::MAINNET),
            Self::Testnet => public(true, Packages::TESTNET),
            Self::Devnet => public(true, Packages::DEVNET),
            Self::Localnet => Endpoints {
                network: self,
                grpc: vec!["http://localhost:50051".to_owned()],
                faucet: Some("http://localhost:9123/gas".to_owned()),
                explorer: EXPLORER.to_owned(),
                packages: None,
            },
            Self::Mock => Endpoints::mock(SocketAddr::from(([127, 0, 0, 1], 50052))),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Network {
    type Err = UnknownNetwork;

    fn from_str(name: &str) -> Result<Self, UnknownNetwork> {
        [Self::Mainnet, Self::Testnet, Self::Devnet, Self::Localnet, Self::Mock]
            .into_iter()
            .find(|network| network.name() == name)
            .ok_or_else(|| UnknownNetwork(name.to_owned()))
    }
}

const EXPLORER: &str = "https://explorer.iota.org";

/// Where a network's services are. Start from [`Network::endpoints`] and override what is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Which network these belong to.
    pub network: Network,
    /// The nodes' gRPC services, as URLs with a port. The first is asked as long as it answers, then the next.
    pub grpc: Vec<String>,
    /// Where gas is given away, if anywhere: the URL to post to.
    pub faucet: Option<String>,
    /// What links to transactions, objects and addresses begin with.
    pub explorer: String,
    /// The packages' addresses. `None` where everybody publishes their own.
    pub packages: Option<Packages>,
}

impl Endpoints {
    /// Those of a mock that listens there: one port for everything.
    pub fn mock(listens: SocketAddr) -> Self {
        Self {
            network: Network::Mock,
            grpc: vec![format!("http://{listens}")],
            faucet: Some(format!("http://{listens}/gas")),
            explorer: format!("http://{listens}"),
            packages: Some(Packages::MOCK),
        }
    }

    /// A page that shows a transaction to people.
    pub fn transaction_page(&self, transaction: TransactionDigest) -> String {
        self.page("txblock", &transaction.to_string())
    }

    /// A page that shows an object, such as a trail, to people.
    pub fn object_page(&self, object: ObjectId) -> String {
        self.page("object", &object.to_string())
    }

    /// A page that shows what an address owns.
    pub fn address_page(&self, address: Address) -> String {
        self.page("address", &address.to_string())
    }

    fn page(&self, kind: &str, id: &str) -> String {
        let explorer = self.explorer.trim_end_matches('/');
        match self.network {
            Network::Mock => format!("{explorer}/{kind}/{id}"),
            network => format!("{explorer}/{kind}/{id}?network={network}"),
        }
    }
}

/// Where the Move packages are published. Types keep the address of a package's first version for good, while a
/// function is called at the address of the version one wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packages {
    /// First version of `audit_trails`: the address in its types.
    pub audit_trails: ObjectId,
    /// The version of `audit_trails` that new trails are made with.
    pub audit_trails_called: ObjectId,
    /// `tf_components`, on which it builds.
    pub tf_components: ObjectId,
}

impl Packages {
    // From `Move.history.json` of the packages' repository, June and July 2026.
    const MAINNET: Self = Self {
        audit_trails: id("960d8a375af7bd09d19f08a9648940caf7e76289de90aa258b9e8e30a84f1b8a"),
        audit_trails_called: id("5439fccfc27e98ddd3f1163f2d1f22ed8384fe109177514093f020a5c0280b1a"),
        tf_components: id("715d1661b457e96d508ee2108624d04dd4263ce496f3223ba36a7627edd75211"),
    };
    const TESTNET: Self = Self {
        audit_trails: id("51368931f28620c7f65b4ae2c5167b42390e69729357a6347be378755b46e7df"),
        audit_trails_called: id("385307a0da2859851d5820646efe617e1a957a3ea172a0f2a63487c987c93d88"),
        tf_components: id("d45732966e800d52b28044cf3758088bfc4606618dfc96d1ec9b21587379b3d9"),
    };
    const DEVNET: Self = Self {
        audit_trails: id("42550eab2785cca0f825289176fd92074d92b2ad8bf2f226d24f4f3e16720f84"),
        audit_trails_called: id("f5d2b3140f54e959fb656fb73593867b8dd36bb972e2bd83db7956d4e2a1d989"),
        tf_components: id("a0dc5f54b757b6ebc53b4ffc85df975c7552297d04c91107a85a17acebbe5088"),
    };
    /// Those of every mock. Readable, so that nobody takes them for addresses of IOTA.
    pub const MOCK: Self = Self {
        audit_trails: ObjectId::new(*b"NOT IOTA: mock audit_trails    1"),
        audit_trails_called: ObjectId::new(*b"NOT IOTA: mock audit_trails    2"),
        tf_components: ObjectId::new(*b"NOT IOTA: mock tf_components   1"),
    };
}

/// Reads 64 hex digits when the program is compiled.
const fn id(hex: &str) -> ObjectId {
    const fn digit(byte: u8) -> u8 {
        match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => panic!("not a hex digit"),
        }
    }
    let (hex, mut bytes, mut at) = (hex.as_bytes(), [0; 32], 0);
    assert!(hex.len() == 64);
    while at < 32 {
        bytes[at] = digit(hex[2 * at]) << 4 | digit(hex[2 * at + 1]);
        at += 1;
    }
    ObjectId::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_is_found_by_its_name() {
        for network in [Network::Mainnet, Network::Testnet, Network::Devnet, Network::Localnet, Network::Mock] {
            assert_eq!(network.name().parse(), Ok(network));
        }
        assert_eq!("mainent".parse::<Network>(), Err(UnknownNetwork("mainent".to_owned())));
    }

    #[test]
    fn links_lead_to_the_explorer_of_the_network() {
        let endpoints = Network::Testnet.endpoints();
        let trail = id("51368931f28620c7f65b4ae2c5167b42390e69729357a6347be378755b46e7df");
        assert_eq!(
            endpoints.object_page(trail),
            "https://explorer.iota.org/object/\
             0x51368931f28620c7f65b4ae2c5167b42390e69729357a6347be378755b46e7df?network=testnet"
        );
        let digest = TransactionDigest::new([0; 32]);
        let mock = Endpoints::mock(SocketAddr::from(([127, 0, 0, 1], 7)));
        assert_eq!(mock.transaction_page(digest), "http://127.0.0.1:7/txblock/11111111111111111111111111111111");
    }

    #[test]
    fn only_mainnet_has_no_faucet() {
        assert_eq!(Network::Mainnet.endpoints().faucet, None);
        assert_eq!(Network::Devnet.endpoints().faucet.as_deref(), Some("https://faucet.devnet.iota.cafe/gas"));
    }
}
