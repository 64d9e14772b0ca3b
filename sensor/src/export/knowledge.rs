//! What was learned, and what somebody has said is no attack, for whoever asks on the local socket.

use std::time::Duration;

use sensor_behaviour::SNAPSHOT_MAX;
use sensor_proto::v1::{
    AddExceptionRequest, Exception, ExceptionScope, ExportModelsResponse, ImportModelsRequest, Model,
    Surprise, UsualFact,
};
use tokio_stream::{self as stream, Stream, StreamExt as _};
use tonic::{Code, Status};

use super::convert::escape;
use crate::{
    detect::{self, Scope, Verdict},
    orders::Orders,
    time::{BootTime, WallTime},
};

/// Bytes of models in one message.
const CHUNK: usize = 256 << 10;

/// How long an exception holds where nobody says, and how long it may.
const HOLDS: Duration = Duration::from_secs(90 * 86_400);
const HOLDS_MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// The pipeline as somebody to ask what is known.
pub(super) struct Knowledge(pub(super) Orders);

type Answer<T> = Result<T, Status>;

fn ending() -> Status {
    Status::unavailable("the agent is ending, or too busy to answer")
}

impl Knowledge {
    pub(super) async fn models(&self) -> Answer<Vec<Model>> {
        let models = self
            .0
            .examine(|detector, _| detector.models())
            .await
            .ok_or_else(ending)?;
        Ok(models.into_iter().map(model).collect())
    }

    pub(super) async fn model(&self, subject: String) -> Answer<Model> {
        let name = subject.clone();
        let found = self.0.examine(move |detector, _| detector.model(&name)).await;
        found
            .ok_or_else(ending)?
            .map(model)
            .ok_or_else(|| unknown(&subject))
    }

    pub(super) async fn forget(&self, subject: String) -> Answer<()> {
        let name = subject.clone();
        let known = self.0.examine(move |detector, _| detector.forget(&name)).await;
        if known.ok_or_else(ending)? {
            tracing::info!(
                "{} is learned anew, as somebody asked for",
                subject.escape_debug()
            );
            Ok(())
        } else {
            Err(unknown(&subject))
        }
    }

    pub(super) async fn export(
        &self,
    ) -> Answer<impl Stream<Item = Result<ExportModelsResponse, Status>> + Send + use<>> {
        let state = self
            .0
            .examine(|detector, _| detector.state())
            .await
            .ok_or_else(ending)?;
        let chunks: Vec<_> = state
            .chunks(CHUNK)
            .map(|chunk| Ok(ExportModelsResponse { data: chunk.to_vec() }))
            .collect();
        Ok(stream::iter(chunks))
    }

    pub(super) async fn import(&self, mut chunks: tonic::Streaming<ImportModelsRequest>) -> Answer<()> {
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            bytes.extend(chunk?.data);
            if bytes.len() > SNAPSHOT_MAX {
                return Err(Status::invalid_argument(format!(
                    "more than {SNAPSHOT_MAX} bytes are no models of an agent"
                )));
            }
        }
        let merged = self
            .0
            .examine(move |detector, _| detector.merge(&bytes, BootTime::now(), WallTime::now()));
        let merged = merged.await.ok_or_else(ending)?;
        merged.map_err(|error| Status::invalid_argument(error.to_string()))?;
        tracing::info!("models of another agent were added, as somebody asked for");
        Ok(())
    }

    pub(super) async fn except(&self, request: AddExceptionRequest) -> Answer<Exception> {
        let now = WallTime::now();
        let seconds = match request.seconds {
            0 => HOLDS.as_secs(),
            seconds => seconds.min(HOLDS_MAX.as_secs()),
        };
        let verdict = Verdict {
            scope: match request.scope() {
                ExceptionScope::Unspecified => Scope::This,
                ExceptionScope::Subject => Scope::Subject,
                ExceptionScope::Program => Scope::Program,
            },
            author: request.author,
            why: request.why,
            now,
            expires: WallTime(now.0.saturating_add(seconds.saturating_mul(1_000_000_000))),
        };
        let incident = request.incident_id.clone();
        let added = self
            .0
            .examine(move |detector, _| detector.except(&incident, verdict))
            .await;
        let added = added.ok_or_else(ending)?.ok_or_else(|| {
            Status::new(
                Code::NotFound,
                format!(
                    "no open incident has the id {:?}, or there are {} exceptions already; `sensor events --signal incident` shows incidents, \
                     `sensor feedback --list` exceptions",
                    request.incident_id,
                    detect::EXCEPTIONS
                ),
            )
        })?;
        tracing::info!(
            "{} says that incident {} was none",
            added.author.escape_debug(),
            added.incident
        );
        Ok(exception(&added))
    }

    pub(super) async fn exceptions(&self) -> Answer<Vec<Exception>> {
        let found = self.0.examine(|detector, _| detector.exceptions().to_vec()).await;
        Ok(found.ok_or_else(ending)?.iter().map(exception).collect())
    }

    pub(super) async fn take_back(&self, id: String) -> Answer<()> {
        let name = id.clone();
        let known = self
            .0
            .examine(move |detector, _| detector.remove_exception(&name))
            .await;
        if known.ok_or_else(ending)? {
            Ok(())
        } else {
            Err(Status::not_found(format!(
                "there is no exception {id:?}; `sensor feedback --list` shows them"
            )))
        }
    }
}

fn unknown(subject: &str) -> Status {
    Status::not_found(format!(
        "nothing is known of {subject:?}; `sensor models list` names what is"
    ))
}

fn model(model: detect::Model) -> Model {
    let usual = model.usual.iter().map(|(fact, times)| UsualFact {
        fact: escape(fact),
        times: *times,
    });
    let surprises = model.surprises.into_iter().map(|surprise| Surprise {
        time_ns: surprise.at.0,
        p_value: surprise.p_value,
        reason: surprise.reason,
    });
    Model {
        usual: usual.collect(),
        surprises: surprises.collect(),
        subject: model.subject.into(),
        observations: model.observations,
        facts: model.facts as u64,
        unseen: model.unseen,
        ready: model.is_ready,
    }
}

fn exception(exception: &detect::Exception) -> Exception {
    let scope = match exception.scope {
        Scope::This => ExceptionScope::Unspecified,
        Scope::Subject => ExceptionScope::Subject,
        Scope::Program => ExceptionScope::Program,
    };
    Exception {
        id: exception.id.clone(),
        incident_id: exception.incident.clone(),
        scope: scope.into(),
        subject: exception.subject.clone(),
        author: exception.author.clone(),
        why: exception.why.clone(),
        created_ns: exception.created.0,
        expires_ns: exception.expires.0,
        held: exception.held,
    }
}
