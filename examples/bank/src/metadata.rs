//! What every call of the bank carries: a 6 KiB bearer token, the tenant, an idempotency key, twenty `x-scope` fields and a
//! binary seal over all of them. The gateway mints it, every service verifies it and passes it on unchanged, so that a field
//! that anybody on the way alters, drops, joins or reorders fails the request and is named.
//!
//! Beside it travels the trace context (W3C Trace Context), unsealed: whoever records a trace changes it on the way. Each service passes on to the
//! calls that it makes for a request what the request came with, so that a payment is one trace.
//!
//! The seal is a checksum and protects against accidents. A real bank's token is signed.

use std::time::Duration;

use rand::Rng;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

/// Length of the bearer token, with its scheme.
const TOKEN_LEN: usize = 6 * 1024;
/// How many `x-scope` fields a call carries.
const SCOPES: usize = 20;
/// The sealed fields, in the order of their checksums in the seal.
const SEALED: [&str; 4] = ["authorization", "x-tenant", "x-idempotency-key", "x-scope"];
const SEAL: &str = "x-bank-seal-bin";
/// The trace context.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// The metadata of one call, verified or freshly minted.
#[derive(Clone, Debug)]
pub struct Call {
    fields: MetadataMap,
}

impl Call {
    /// New metadata at the edge of the bank.
    pub fn mint(tenant: &str, idempotency_key: &str) -> Result<Self, Status> {
        let mut fields = MetadataMap::with_capacity(SCOPES + SEALED.len());
        fields.insert("authorization", ascii(&token())?);
        fields.insert("x-tenant", ascii(tenant)?);
        fields.insert("x-idempotency-key", ascii(idempotency_key)?);
        for scope in 0..SCOPES {
            fields.append("x-scope", ascii(&format!("payments:write:region-{scope:02}"))?);
        }
        let seal = seal(&fields);
        fields.insert_bin(SEAL, MetadataValue::from_bytes(&seal));
        Ok(Self { fields })
    }

    /// Makes the call part of the trace that a client's request belongs to.
    #[must_use]
    pub fn traced_as(mut self, client: &http::HeaderMap) -> Self {
        for name in TRACE {
            for value in client.get_all(name) {
                self.fields.as_mut().append(name, value.clone());
            }
        }
        self
    }

    /// Takes the bank's fields out of what arrived, and checks each against the seal.
    pub fn verify(arrived: &MetadataMap) -> Result<Self, Status> {
        let claimed =
            seal_of(arrived).ok_or_else(|| Status::unauthenticated(format!("`{SEAL}` is missing or damaged")))?;
        let found = seal(arrived);
        for (i, name) in SEALED.iter().enumerate() {
            if claimed[i * 8..][..8] != found[i * 8..][..8] {
                let values: Vec<usize> = arrived
                    .get_all(*name)
                    .iter()
                    .map(|value| value.as_encoded_bytes().len())
                    .collect();
                return Err(Status::data_loss(format!(
                    "metadata `{name}` was altered on the way: {} values of {values:?} bytes arrived",
                    values.len()
                )));
            }
        }
        let mut fields = MetadataMap::with_capacity(SCOPES + SEALED.len());
        for name in SEALED {
            for value in arrived.get_all(name) {
                fields.append(name, value.clone());
            }
        }
        fields.insert_bin(SEAL, MetadataValue::from_bytes(&claimed));
        Ok(Self { fields }.traced_as(arrived.as_ref()))
    }

    /// A request that carries this metadata and a deadline.
    pub fn request<M>(&self, message: M, deadline: Duration) -> Request<M> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.fields.clone();
        request.set_timeout(deadline);
        request
    }

    /// The message of an answer, if the answer echoes the seal.
    pub fn answer<M>(&self, answer: Result<Response<M>, Status>) -> Result<M, Status> {
        let answer = answer?;
        if seal_of(answer.metadata()) != seal_of(&self.fields) {
            return Err(Status::data_loss(format!(
                "metadata `{SEAL}` of the answer was altered or lost on the way"
            )));
        }
        Ok(answer.into_inner())
    }

    /// The seal, for the answer's metadata.
    pub fn echo(&self, headers: &mut http::HeaderMap) {
        if let Some(seal) = self.fields.as_ref().get(SEAL) {
            headers.insert(SEAL, seal.clone());
        }
    }

    /// Key under which this call has an effect once, however often it is sent.
    pub fn idempotency_key(&self) -> &str {
        self.fields
            .get("x-idempotency-key")
            .and_then(|key| key.to_str().ok())
            .unwrap_or_default()
    }
}

fn ascii(text: &str) -> Result<MetadataValue<Ascii>, Status> {
    text.try_into()
        .map_err(|_| Status::invalid_argument("tenant and key must be printable ASCII"))
}

/// A token in the shape of a JWT that carries many claims.
fn token() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = [0_u8; TOKEN_LEN];
    rand::rng().fill(&mut random[..]);
    let mut token = String::with_capacity(TOKEN_LEN);
    token.push_str("Bearer ");
    for (i, byte) in random.iter().enumerate().skip(token.len()) {
        let dot = i == 48 || i == TOKEN_LEN - 342;
        token.push(if dot {
            '.'
        } else {
            char::from(ALPHABET[usize::from(byte & 63)])
        });
    }
    token
}

fn seal_of(fields: &MetadataMap) -> Option<[u8; 32]> {
    let bytes = fields.get_bin(SEAL)?.to_bytes().ok()?;
    bytes.as_ref().try_into().ok()
}

/// One checksum a field, over its values in order and where each ends.
fn seal(fields: &MetadataMap) -> [u8; 32] {
    let mut seal = [0; 32];
    for (i, name) in SEALED.iter().enumerate() {
        let mut hash = Fnv::default();
        for value in fields.get_all(*name) {
            hash.write(value.as_encoded_bytes());
            hash.write(&[0]); // no header value may hold one: values cannot be joined unseen
        }
        seal[i * 8..][..8].copy_from_slice(&hash.0.to_be_bytes());
    }
    seal
}

/// FNV-1a, 64 bits: short, and the same on every machine.
#[derive(Clone, Copy)]
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Takes in some bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minted() -> MetadataMap {
        Call::mint("retail", "key-1").unwrap().fields
    }

    #[test]
    fn minted_metadata_has_the_size_of_a_banks() {
        let fields = minted();
        assert_eq!(fields.get("authorization").unwrap().as_encoded_bytes().len(), 6144);
        assert_eq!(fields.get_all("x-scope").iter().count(), 20);
    }

    #[test]
    fn verified_metadata_passes_on_unchanged() {
        let once = Call::verify(&minted()).unwrap();
        let twice = Call::verify(&once.fields).unwrap();
        assert_eq!(once.fields.into_headers(), twice.fields.into_headers());
    }

    #[test]
    fn a_trace_context_is_passed_on_and_no_seal_minds_it() {
        let mut client = http::HeaderMap::new();
        client.insert(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
                .parse()
                .unwrap(),
        );
        client.append("tracestate", "a=1".parse().unwrap());
        client.append("tracestate", "b=2".parse().unwrap());
        let call = Call::mint("retail", "key-1").unwrap().traced_as(&client);
        let mut arrived = call.request((), Duration::from_secs(1)).metadata().clone();
        // A proxy on the way says that it is the parent.
        let other = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        arrived.insert("traceparent", other.parse().unwrap());
        let next = Call::verify(&arrived).unwrap().request((), Duration::from_secs(1));
        assert_eq!(next.metadata().get("traceparent").unwrap(), other);
        assert_eq!(next.metadata().get_all("tracestate").iter().count(), 2);
    }

    #[test]
    fn a_lost_scope_is_named() {
        let mut fields = minted();
        let kept: Vec<_> = fields.get_all("x-scope").iter().skip(1).cloned().collect();
        fields.remove("x-scope");
        for scope in kept {
            fields.append("x-scope", scope);
        }
        let status = Call::verify(&fields).unwrap_err();
        assert_eq!(status.code(), tonic::Code::DataLoss);
        assert!(
            status.message().contains("`x-scope`") && status.message().contains("19 values"),
            "{status}"
        );
    }

    #[test]
    fn joined_and_reordered_values_are_noticed() {
        let mut joined = minted();
        let all: Vec<String> = joined
            .get_all("x-scope")
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect();
        joined.insert("x-scope", ascii(&all.join(", ")).unwrap());
        assert!(Call::verify(&joined).is_err());

        let mut reordered = minted();
        reordered.remove("x-scope");
        for scope in all.iter().rev() {
            reordered.append("x-scope", ascii(scope).unwrap());
        }
        assert!(Call::verify(&reordered).is_err());
    }

    #[test]
    fn no_seal_is_no_entry() {
        assert_eq!(
            Call::verify(&MetadataMap::new()).unwrap_err().code(),
            tonic::Code::Unauthenticated
        );
    }
}
