//! Who may call what: one table, and a layer before all services that goes by it. What is not in the table is refused.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use sensor_trust::Role;
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tower::{Layer, Service};

use super::Peer;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Whoever reaches the collector.
    Anybody,
    /// Whoever has a certificate.
    Certified,
    /// Agents alone.
    Agents,
    /// Those who read: viewers, responders, admins.
    Readers,
    /// Those who have things done: responders and admins.
    Responders,
    /// Admins.
    Admins,
    /// It is not offered by a collector.
    Nobody,
}

/// Every call, by its path.
pub const TABLE: &[(&str, Callers)] = &[
    ("/sensor.v1.Ingest/Deliver", Callers::Agents),
    ("/sensor.v1.Collector/Subscribe", Callers::Readers),
    ("/sensor.v1.Collector/ListHosts", Callers::Readers),
    ("/sensor.v1.Collector/ListFleetIncidents", Callers::Readers),
    ("/sensor.v1.Collector/ListApprovals", Callers::Readers),
    ("/sensor.v1.Collector/Query", Callers::Readers),
    ("/sensor.v1.Trust/Enroll", Callers::Anybody),
    ("/sensor.v1.Trust/Renew", Callers::Certified),
    ("/sensor.v1.Trust/Invite", Callers::Admins),
    ("/sensor.v1.Trust/Revoke", Callers::Admins),
    ("/sensor.v1.Trust/ListIdentities", Callers::Admins),
    ("/sensor.v1.Trust/ReadAudit", Callers::Admins),
    ("/sensor.v1.Control/Listen", Callers::Agents),
    ("/sensor.v1.Control/OfferBundle", Callers::Agents),
    ("/sensor.v1.Control/PutBundle", Callers::Agents),
    ("/sensor.v1.Control/ShareFacts", Callers::Agents),
    ("/sensor.v1.Response/Ask", Callers::Responders),
    ("/sensor.v1.Response/ListCommands", Callers::Responders),
    ("/sensor.v1.Response/ListBundles", Callers::Responders),
    ("/sensor.v1.Response/GetBundle", Callers::Responders),
    ("/grpc.health.v1.Health/Check", Callers::Anybody),
    ("/grpc.health.v1.Health/Watch", Callers::Certified),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Callers::Certified,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Callers::Certified,
    ),
];

/// Services of an agent's own socket, with all their calls.
const ELSEWHERE: &str = "/sensor.v1.Agent/";

/// Who may make the call with this path.
#[must_use]
pub fn callers(path: &str) -> Callers {
    if path.starts_with(ELSEWHERE) {
        return Callers::Nobody;
    }
    let found = TABLE.iter().find(|(listed, _)| *listed == path);
    found.map_or(Callers::Nobody, |(_, callers)| *callers)
}

impl Callers {
    /// Whether `peer` is one of them.
    #[must_use]
    pub fn include(self, peer: &Peer) -> bool {
        match (self, peer) {
            (Self::Nobody, _) => false,
            (Self::Anybody, _) => true,
            (Self::Agents, Peer::Owner { .. }) => false,
            (_, Peer::Owner { .. }) => true,
            (_, Peer::Stranger(_)) => false,
            (callers, Peer::Unchecked(_)) => {
                matches!(callers, Self::Certified | Self::Agents | Self::Readers)
            }
            (callers, Peer::Known { identity, .. }) => callers.include_role(identity.role),
        }
    }

    fn include_role(self, role: Role) -> bool {
        match self {
            Self::Nobody => false,
            Self::Anybody | Self::Certified => true,
            Self::Agents => role == Role::Agent,
            Self::Readers => role != Role::Agent,
            Self::Responders => matches!(role, Role::Responder | Role::Admin),
            Self::Admins => role == Role::Admin,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Anybody | Self::Certified => "everybody",
            Self::Agents => "agents",
            Self::Readers => "viewers, responders and admins",
            Self::Responders => "responders and admins",
            Self::Admins => "admins",
        }
    }
}

/// Why `peer` may not make the call with `path`.
///
/// # Errors
/// If they may not.
pub fn check(path: &str, peer: Option<&Peer>) -> Result<(), Status> {
    let callers = callers(path);
    let Some(peer) = peer else {
        return Err(Status::internal(
            "nobody knows who is connected: a defect of this collector",
        ));
    };
    if callers.include(peer) {
        return Ok(());
    }
    let call = path.trim_start_matches('/').trim_start_matches("sensor.v1.");
    Err(match (callers, peer) {
        (Callers::Nobody, _) => Status::unimplemented(format!("a collector does not offer {call}")),
        (_, Peer::Stranger(_)) => Status::unauthenticated(format!(
            "{call} is for {} with a certificate, and none was shown; enrol first: `sensor enroll`, with a token of `collector enroll`",
            callers.in_words()
        )),
        (_, Peer::Unchecked(_)) => Status::permission_denied(format!(
            "{call} is for {}, and without TLS nobody knows who you are; use TLS, or the data directory's socket as root",
            callers.in_words()
        )),
        (_, peer) => Status::permission_denied(format!(
            "{call} is for {}; you are {}",
            callers.in_words(),
            peer.who()
        )),
    })
}

/// Puts the check before services.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessLayer;

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access(inner)
    }
}

/// Services behind the check.
#[derive(Clone, Debug)]
pub struct Access<S>(S);

impl<S> Service<Request<Body>> for Access<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match check(request.uri().path(), request.extensions().get::<Peer>()) {
            Ok(()) => Box::pin(self.0.call(request)),
            Err(status) => Box::pin(async { Ok(status.into_http()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use sensor_trust::Identity;

    use super::*;

    /// The paths of all calls of all services that there are.
    fn all() -> Vec<String> {
        let mut paths = Vec::new();
        for set in [
            sensor_proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            let files = FileDescriptorSet::decode(set).expect("is whole").file;
            for file in &files {
                for service in &file.service {
                    let path = |method: &prost_types::MethodDescriptorProto| {
                        format!("/{}.{}/{}", file.package(), service.name(), method.name())
                    };
                    paths.extend(service.method.iter().map(path));
                }
            }
        }
        paths
    }

    fn known(role: &str) -> Peer {
        Peer::Known {
            identity: Identity::from_uri(&format!("sensor://{role}/x")).expect("an identity"),
            address: ([127, 0, 0, 1], 1).into(),
        }
    }

    #[test]
    fn every_call_is_in_the_table_and_nothing_else_is() {
        let all = all();
        assert!(all.len() > 20, "{all:?}");
        for path in all.iter().filter(|path| !path.starts_with(ELSEWHERE)) {
            assert!(
                TABLE.iter().any(|(listed, _)| listed == path),
                "{path} is missing in the table of who may call what"
            );
        }
        for (listed, _) in TABLE {
            assert!(all.iter().any(|path| path == listed), "there is no call {listed}");
        }
    }

    #[test]
    fn who_may_call_what() {
        let peers = [
            ("stranger", Peer::Stranger(([127, 0, 0, 1], 1).into())),
            ("unchecked", Peer::Unchecked(([127, 0, 0, 1], 1).into())),
            ("agent", known("agent")),
            ("viewer", known("viewer")),
            ("responder", known("responder")),
            ("admin", known("admin")),
            ("owner", Peer::Owner { uid: 0 }),
        ];
        let may = |callers: Callers| {
            let names = peers
                .iter()
                .filter(|(_, peer)| callers.include(peer))
                .map(|(name, _)| *name);
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(may(Callers::Nobody), "");
        assert_eq!(
            may(Callers::Anybody),
            "stranger unchecked agent viewer responder admin owner"
        );
        assert_eq!(
            may(Callers::Certified),
            "unchecked agent viewer responder admin owner"
        );
        assert_eq!(may(Callers::Agents), "unchecked agent");
        assert_eq!(may(Callers::Readers), "unchecked viewer responder admin owner");
        assert_eq!(may(Callers::Responders), "responder admin owner");
        assert_eq!(may(Callers::Admins), "admin owner");
    }

    #[test]
    fn who_may_not_is_told_why() {
        let told = |path, peer: Peer| {
            check(path, Some(&peer))
                .expect_err("may not")
                .message()
                .to_owned()
        };
        let stranger = Peer::Stranger(([192, 0, 2, 1], 9).into());
        assert_eq!(
            told("/sensor.v1.Ingest/Deliver", stranger),
            "Ingest/Deliver is for agents with a certificate, and none was shown; enrol first: `sensor enroll`, with a token of \
             `collector enroll`"
        );
        assert_eq!(
            told("/sensor.v1.Trust/Revoke", known("responder")),
            "Trust/Revoke is for admins; you are responder x"
        );
        assert_eq!(
            told("/sensor.v1.Agent/Respond", known("admin")),
            "a collector does not offer Agent/Respond"
        );
        assert_eq!(
            told("/sensor.v1.Ingest/Anything", known("admin")),
            "a collector does not offer Ingest/Anything"
        );
    }
}
