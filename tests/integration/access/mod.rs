//! Who may call, and what they may see.

mod compiled;
mod keys;
mod policy;
mod streams;
mod tokens;

use crate::support::{Database, TestHub};
use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;
use tonic::{
    Request, Status,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;
use trex::{
    app::{Authentication, Settings},
    proto::{self, rh_trex::v1::dinosaur_service_client::DinosaurServiceClient},
    upkeep::{Issuing, KeySource, TokenRules},
};

pub(crate) const ISSUER: &str = "https://sso.example";
/// Made for these tests.
const EC: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgX69rm7XCWYpJ7oKe2qteT/mmgaxMJqh/PUTth+KNBdihRANCAARMO3RzN7kjaWRtWTuB3dcrDWu5BSrmfgvl7wB+dW6fXl5oJJPVQz7UX/xhkr8bB5cngc/6RzBzX0pCJ6RRghbl";
const X: &str = "TDt0cze5I2lkbVk7gd3XKw1ruQUq5n4L5e8AfnVun14";
const Y: &str = "Xmgkk9VDPtRf_GGSvxsHlyeBz_pHMHNfSkInpFGCFuU";

/// An issuer of tokens, with its keys in a file.
pub(crate) struct Issuer {
    folder: TempDir,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let issuer = Self { folder: tempfile::tempdir().unwrap() };
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "x": X, "y": Y}]});
        fs::write(issuer.keys(), keys.to_string()).unwrap();
        issuer
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    /// Another file beside its keys.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn rules(&self) -> TokenRules {
        TokenRules {
            issuers: vec![Issuing { name: ISSUER.to_owned(), source: KeySource::File(self.keys()) }],
            audiences: vec!["trex".to_owned()],
            leeway: Duration::ZERO,
            longest_life: None,
        }
    }

    /// Settings of a hub that knows its callers by tokens and by keys.
    pub(crate) fn settings(&self, database: &Database) -> Settings {
        let authentication =
            Authentication { tokens: Some(self.rules()), keys: true, ..Authentication::default() };
        Settings { authentication, ..Settings::new(database.target()) }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token of somebody, valid for an hour, with these claims beside or in the place of the usual ones.
pub(crate) fn token(subject: &str, more: Value) -> String {
    let mut claims = json!({"iss": ISSUER, "aud": "trex", "sub": subject, "exp": now() + 3600});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(&STANDARD.decode(EC).unwrap())).unwrap()
}

/// Sends this with each call.
#[derive(Clone)]
pub(crate) struct As(Option<String>);

impl Interceptor for As {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(credential) = &self.0 {
            let value = MetadataValue::<Ascii>::try_from(format!("Bearer {credential}")).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

pub(crate) type Link = InterceptedService<Channel, As>;

/// A connection to gRPC that shows this.
pub(crate) async fn link(hub: &TestHub, credential: Option<&str>) -> Link {
    InterceptedService::new(hub.channel().await, As(credential.map(str::to_owned)))
}

/// A connection to the operator's listener that shows this.
pub(crate) async fn admin_link(hub: &TestHub, credential: Option<&str>) -> Link {
    let endpoint = Channel::from_shared(format!("http://{}", hub.app().addresses().admin)).unwrap();
    InterceptedService::new(endpoint.connect().await.unwrap(), As(credential.map(str::to_owned)))
}

pub(crate) async fn dinosaurs(hub: &TestHub, credential: Option<&str>) -> DinosaurServiceClient<Link> {
    DinosaurServiceClient::new(link(hub, credential).await)
}

/// What an error says to programs.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Calls a method with an empty message.
pub(crate) async fn call(link: Link, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(link);
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = path.parse().unwrap();
    grpc.unary(Request::new(()), path, ProstCodec::<(), ()>::default()).await.map(drop)
}

/// The path of every method of our services, from their descriptors: a new one is in by itself.
pub(crate) fn methods() -> Vec<String> {
    let files = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap().file;
    let methods = files.iter().flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            let path = move |name| format!("/{}.{}/{name}", file.package(), service.name());
            service.method.iter().map(move |method| path(method.name()))
        })
    });
    let methods: Vec<_> = methods.collect();
    assert!(methods.len() > 20, "the descriptors are elsewhere");
    methods
}
