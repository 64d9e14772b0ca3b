//! The side of those who ask.

use std::time::{Duration, SystemTime};

use sensor_proto::v1::{
    AskRequest, AskResponse, BundleState, Command, GetBundleRequest, GetBundleResponse, ListBundlesRequest,
    ListBundlesResponse, ListCommandsRequest, ListCommandsResponse, command::What,
    response_server::Response as Service,
};
use sensor_trust::{Name, Secret};
use tokio::{fs::File, io::AsyncReadExt as _, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Desk, bundles, refusal};
use crate::trust::{database::nanoseconds, service::peer};

/// How long a command waits, where nobody says otherwise, and at most.
const WAITS: (Duration, Duration) = (Duration::from_secs(3_600), Duration::from_secs(7 * 86_400));

/// Longest reason in bytes.
const WHY_MAX: usize = 1_024;

/// Most bytes of rules.
const RULES_MAX: usize = 4 << 20;

/// Commands in one answer, where nobody says otherwise, and at most.
const LISTED: (u32, u32) = (100, 1_000);

/// Bytes of a piece of a bundle.
const PIECE: usize = 256 << 10;

/// The service.
#[derive(Clone, Debug)]
pub struct ResponseService(pub Desk);

#[tonic::async_trait]
impl Service for ResponseService {
    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<AskResponse>, Status> {
        let who = peer(&request)?.who();
        let AskRequest {
            host,
            command,
            seconds,
        } = request.into_inner();
        let host: Name = host
            .parse()
            .map_err(|error: sensor_trust::IdentityError| Status::invalid_argument(error.to_string()))?;
        let mut command = command.ok_or_else(|| Status::invalid_argument("nothing is asked"))?;
        check(&command)?;
        command.who = who;
        if command.id.is_empty() {
            command.id = new_id()?;
        }
        let waits = if seconds == 0 {
            WAITS.0
        } else {
            Duration::from_secs(seconds).min(WAITS.1)
        };
        command.expires_ns = nanoseconds(SystemTime::now() + waits).cast_unsigned();
        let state = self
            .0
            .commands
            .ask(host.to_string(), command)
            .await
            .map_err(refusal)?;
        self.0.waiting.ring(host.as_str());
        Ok(Response::new(AskResponse { state: Some(state) }))
    }

    async fn list_commands(
        &self,
        request: Request<ListCommandsRequest>,
    ) -> Result<Response<ListCommandsResponse>, Status> {
        let ListCommandsRequest { host, id, limit } = request.into_inner();
        let limit = if limit == 0 { LISTED.0 } else { limit.min(LISTED.1) };
        let mut commands = self
            .0
            .commands
            .list(host, id.clone(), limit)
            .await
            .map_err(refusal)?;
        if id.is_empty() {
            // A list of snapshots and rules would be longer than a message may be.
            commands.iter_mut().for_each(shorten);
        }
        Ok(Response::new(ListCommandsResponse { commands }))
    }

    async fn list_bundles(
        &self,
        request: Request<ListBundlesRequest>,
    ) -> Result<Response<ListBundlesResponse>, Status> {
        let host = request.into_inner().host;
        let mut bundles = self
            .0
            .commands
            .bundles(host, String::new())
            .await
            .map_err(refusal)?;
        for bundle in bundles.iter_mut().filter(|bundle| bundle.ended_ns == 0) {
            let partial =
                bundles::place(&self.0.bundles, &bundle.host).join(format!("{}.partial", bundle.sha256));
            bundle.received = tokio::fs::metadata(partial).await.map_or(0, |about| about.len());
        }
        Ok(Response::new(ListBundlesResponse { bundles }))
    }

    type GetBundleStream = ReceiverStream<Result<GetBundleResponse, Status>>;

    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<Self::GetBundleStream>, Status> {
        let begins = request.into_inner().sha256;
        let bundle = self.one(begins).await?;
        let path = bundles::place(&self.0.bundles, &bundle.host).join(&bundle.sha256);
        let gone = |error| Status::not_found(format!("the file of the bundle cannot be read: {error}"));
        let file = File::open(path).await.map_err(gone)?;
        let (pieces, stream) = mpsc::channel(2);
        tokio::spawn(send(file, pieces));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl ResponseService {
    /// The bundle whose SHA-256 begins so, if it is one and whole.
    async fn one(&self, begins: String) -> Result<BundleState, Status> {
        let is_digits = !begins.is_empty() && begins.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut found = match is_digits {
            true => self
                .0
                .commands
                .bundles(String::new(), begins.clone())
                .await
                .map_err(refusal)?,
            false => Vec::new(),
        };
        let bundle = match (found.pop(), found.is_empty()) {
            (None, _) => {
                return Err(Status::not_found(format!(
                    "there is no bundle {begins:?}; `collector bundles list` shows all"
                )));
            }
            (Some(_), false) => {
                return Err(Status::invalid_argument(format!(
                    "several bundles begin with {begins}; give more of it"
                )));
            }
            (Some(bundle), true) => bundle,
        };
        if bundle.ended_ns == 0 {
            return Err(Status::failed_precondition(
                "this bundle is on its way yet; `collector bundles list` shows how far it is",
            ));
        }
        Ok(bundle)
    }
}

async fn send(mut file: File, pieces: mpsc::Sender<Result<GetBundleResponse, Status>>) {
    loop {
        let mut data = vec![0; PIECE];
        let piece = match file.read(&mut data).await {
            Ok(0) => return,
            Ok(length) => {
                data.truncate(length);
                Ok(GetBundleResponse { data })
            }
            Err(error) => Err(Status::data_loss(format!(
                "the bundle cannot be read to its end: {error}"
            ))),
        };
        let is_end = piece.is_err();
        if pieces.send(piece).await.is_err() || is_end {
            return;
        }
    }
}

fn check(command: &Command) -> Result<(), Status> {
    let wrong = |what: String| Err(Status::invalid_argument(what));
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if command.id.len() > 64 || !command.id.bytes().all(is_id) {
        return wrong("an id is 1 to 64 letters, digits and hyphens".to_owned());
    }
    if command.why.len() > WHY_MAX {
        return wrong(format!(
            "a reason of {} bytes is longer than {WHY_MAX}",
            command.why.len()
        ));
    }
    match &command.what {
        None => wrong("nothing is asked".to_owned()),
        Some(What::Rules(rules)) => {
            let bytes: usize = rules
                .files
                .iter()
                .map(|file| file.text.len() + file.name.len())
                .sum();
            if bytes > RULES_MAX {
                wrong(format!("{bytes} bytes of rules are more than {RULES_MAX}"))
            } else {
                Ok(())
            }
        }
        Some(_) => Ok(()),
    }
}

fn new_id() -> Result<String, Status> {
    let random = Secret::random().map_err(|error| Status::internal(format!("no randomness: {error}")))?;
    Ok(random.bytes()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn shorten(state: &mut sensor_proto::v1::CommandState) {
    use sensor_proto::v1::command_answer::Answer;
    if let Some(What::Rules(rules)) = state.command.as_mut().and_then(|command| command.what.as_mut()) {
        rules.files.iter_mut().for_each(|file| file.text.clear());
    }
    if let Some(Answer::Snapshot(snapshot)) = state.answer.as_mut().and_then(|answer| answer.answer.as_mut())
    {
        snapshot.left_out += snapshot.processes.len() as u64;
        snapshot.processes.clear();
    }
}
