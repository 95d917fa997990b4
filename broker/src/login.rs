//! From the first byte to the CONNACK: who is let in, and as whom.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::clients::Login;
use crate::connection::Shared;
use crate::ending::{Ending, Refusal};
use crate::message::{Message, Qos};
use crate::request::{Connect, Request, Will};
use crate::topic;
use crate::wire::Wire;

/// Reads up to and including the first packet, which must be CONNECT (\[MQTT-3.1.0-1\]).
pub async fn first_request<S>(stream: &mut S, wire: &mut Wire, input: &mut BytesMut) -> Result<Connect, Ending>
where
    S: AsyncRead + Unpin,
{
    loop {
        match stream.read_buf(input).await {
            Ok(0) => return Err(Ending::Lost("closed before CONNECT".to_owned())),
            Ok(_) => {}
            Err(e) => return Err(Ending::Lost(e.to_string())),
        }
        match wire.receive(input)? {
            Some(Request::Connect(connect)) => return Ok(*connect),
            Some(_) => return Err(Ending::Violation("the first packet is not CONNECT [MQTT-3.1.0-1]")),
            None => {}
        }
    }
}

/// Checks the CONNECT, takes the client's place and accepts, or refuses.
pub async fn log_in(
    shared: &Arc<Shared>,
    wire: &mut Wire,
    connect: Connect,
    number: u64,
) -> Result<(Connect, Login, String, Option<Message>), Ending> {
    let result = async {
        if connect.enhanced_authentication {
            return Err(Refusal::AuthenticationMethod);
        }
        let assigned = connect.client_id.is_empty();
        // [MQTT-3.1.3-8]: 3.1.1 has no way to tell an assigned id, so it goes with a clean session only.
        if (assigned && !connect.v5 && !connect.clean) || connect.client_id.contains('\0') {
            return Err(Refusal::ClientId);
        }
        let will = match &connect.will {
            Some(will) => Some(checked_will(shared, will, connect.v5, number)?),
            None => None,
        };
        let id = if assigned { format!("auto-{number}-{:016x}", random()) } else { connect.client_id.clone() };
        let login = shared.clients.login(&id).await?;
        Ok((login, id, assigned, will))
    };
    match result.await {
        Ok((login, id, assigned, will)) => {
            wire.accept(&connect, assigned.then_some(&*id)).map_err(Ending::Codec)?;
            Ok((connect, login, id, will))
        }
        Err(refusal) => {
            wire.refuse(refusal).map_err(Ending::Codec)?;
            Err(Ending::Refused(refusal))
        }
    }
}

/// An assigned client id must not be one that somebody else can guess and take over.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

fn checked_will(shared: &Shared, will: &Will, v5: bool, publisher: u64) -> Result<Message, Refusal> {
    if will.qos > 1 && v5 {
        return Err(Refusal::WillQos);
    }
    if !topic::is_valid_topic(&will.topic) {
        return Err(Refusal::WillTopic);
    }
    if will.payload.len() > shared.limits.max_payload {
        return Err(Refusal::WillTooLarge);
    }
    Ok(Message {
        sequence: 0,
        publisher,
        received: shared.now(),
        topic: will.topic.clone(),
        qos: if will.qos == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce },
        retain: will.retain,
        properties: will.properties.clone(),
        payload: will.payload.clone(),
    })
}
