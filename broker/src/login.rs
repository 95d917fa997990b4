//! From the first byte to the CONNACK: who is let in, as whom, and with which session.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use crate::access::{Credentials, Identity, Rights, shortened};
use crate::clients::{Key, Login};
use crate::doors::Arrival;
use crate::ending::{Ending, Refusal};
use crate::message::{Message, Millis};
use crate::metrics::RefusedRequest;
use crate::request::{Connect, Request, Will};
use crate::session::Session;
use crate::shared::Shared;
use crate::topic;
use crate::wire::properties::Publisher;
use crate::wire::{Welcome, Wire};

/// A client that was let in.
pub struct Admitted {
    /// Its place.
    pub login: Login,
    /// Who it is.
    pub identity: Identity,
    /// What it may do.
    pub rights: Arc<Rights>,
    /// What its messages say of who published them.
    pub publisher: Option<Publisher>,
    /// Its session, new or continued.
    pub session: Session,
    /// How long the session is kept after the connection.
    pub expiry: Duration,
    /// Its last will.
    pub will: Option<Message>,
    /// Seconds; 0 means none.
    pub keep_alive: u16,
    /// Unacknowledged messages that it takes.
    pub receive_maximum: u16,
    /// What its CONNACK says.
    pub welcome: Welcome,
}

/// Reads up to and including the first packet, which must be CONNECT (\[MQTT-3.1.0-1\]), until `deadline`.
pub async fn first_request<S>(
    shared: &Shared,
    stream: &mut S,
    wire: &mut Wire,
    input: &mut BytesMut,
    deadline: Instant,
) -> Result<Connect, Ending>
where
    S: AsyncRead + Unpin,
{
    let read = async {
        loop {
            match stream.read_buf(input).await {
                Ok(0) => return Err(Ending::Lost("closed before CONNECT".to_owned())),
                Ok(read) => shared.metrics.bytes_received.inc_by(u64::try_from(read).unwrap_or_default()),
                Err(e) => return Err(Ending::Lost(e.to_string())),
            };
            match wire.receive(input)? {
                Some(Request::Connect(connect)) => return Ok(*connect),
                Some(_) => return Err(Ending::Violation("the first packet is not CONNECT [MQTT-3.1.0-1]")),
                None => {}
            }
        }
    };
    let connect = tokio::time::timeout_at(deadline, read).await;
    let connect = connect.unwrap_or(Err(Ending::ConnectTimeout(shared.limits.connect_timeout)))?;
    shared.metrics.messages_received.inc();
    shared.metrics.connects.inc();
    Ok(connect)
}

/// Checks the CONNECT and takes the client's place, or refuses.
pub async fn log_in(
    shared: &Arc<Shared>,
    wire: &mut Wire,
    connect: Connect,
    arrival: &Arrival,
) -> Result<Admitted, Ending> {
    let refusal = match admit(shared, connect, arrival).await {
        Ok(admitted) => return Ok(admitted),
        Err(refusal) => refusal,
    };
    shared.metrics.refuse(RefusedRequest::Login);
    wire.refuse(&refusal).map_err(Ending::Codec)?;
    Err(Ending::Refused(refusal))
}

async fn admit(shared: &Arc<Shared>, connect: Connect, arrival: &Arrival) -> Result<Admitted, Refusal> {
    if connect.enhanced_authentication {
        return Err(Refusal::AuthenticationMethod);
    }
    let nameless = connect.client_id.is_empty();
    // [MQTT-3.1.3-8]: 3.1.1 has no way to tell an assigned id, so it goes with a clean session only.
    if (nameless && !connect.v5 && !connect.clean)
        || connect.client_id.contains('\0')
        || connect.client_id.len() > shared.limits.max_topic
    {
        return Err(Refusal::ClientId);
    }
    let access = Arc::clone(&shared.access.borrow());
    let credentials =
        Credentials { certificate: arrival.certificate.clone(), user: connect.user, password: connect.password };
    // Passwords are checked one after the other.
    let identified = tokio::time::timeout_at(arrival.deadline, access.identify(&credentials)).await;
    let identity = identified.map_err(|_| Refusal::Busy)?.map_err(Refusal::Denied)?;
    let rights = access.rights(&identity).ok_or_else(|| Refusal::Denied(identity.gone()))?;
    let publisher = identity.publisher().and_then(Publisher::new);
    let mut will = match connect.will {
        Some(will) => Some(checked_will(shared, will, &rights, publisher.as_ref())?),
        None => None,
    };
    let number = shared.next_session();
    let client_id = match identity.client_id(&connect.client_id).map_err(Refusal::Denied)? {
        Some(id) => id,
        None => format!("auto-{number}-{:016x}", random()),
    };

    let key = Key { owner: identity.owner(), client_id };
    let (login, older) = match shared.clients.login(&key, identity.is_machine()).await {
        Ok(place) => place,
        Err(refusal) => {
            if let Some(orphan) = shared.clients.orphan(&key) {
                orphan.end(shared).await;
            }
            return Err(refusal);
        }
    };
    let continued = match older {
        Some(older) if connect.clean => {
            older.end(shared).await;
            None
        }
        older => older,
    };
    let session_present = continued.is_some();
    let mut session = continued.unwrap_or_else(|| Session::new(shared, number, key.client_id));
    // Its rights may be others than those of the connection before.
    session.subscriptions.reconsider(&rights);
    if let Some(will) = &mut will {
        will.publisher = session.number;
    }
    let expiry = shared.limits.session_expiry(connect.session_expiry);
    let granted = u32::try_from(expiry.as_secs()).ok();
    let welcome = Welcome {
        session_present,
        assigned: nameless,
        session_expiry: granted.filter(|granted| *granted != connect.session_expiry),
    };
    Ok(Admitted {
        login,
        identity,
        rights,
        publisher,
        session,
        expiry,
        will,
        keep_alive: connect.keep_alive,
        receive_maximum: connect.receive_maximum,
        welcome,
    })
}

/// An assigned client id must not be one that somebody else can guess and take over.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

fn checked_will(
    shared: &Shared,
    will: Will,
    rights: &Rights,
    publisher: Option<&Publisher>,
) -> Result<Message, Refusal> {
    if !topic::is_valid_topic(&will.topic) || will.topic.len() > shared.limits.max_topic {
        return Err(Refusal::WillTopic(shortened(&will.topic)));
    }
    if !rights.may_publish(&will.topic) {
        return Err(Refusal::WillNotAuthorized(will.topic));
    }
    if will.payload.len() > shared.limits.max_payload {
        return Err(Refusal::WillTooLarge);
    }
    Ok(Message {
        sequence: 0,
        publisher: 0,
        received: Millis(0),
        topic: will.topic,
        qos: will.qos,
        retain: will.retain,
        properties: publisher.map_or_else(|| will.properties.clone(), |publisher| publisher.sign(&will.properties)),
        payload: will.payload,
    })
}
