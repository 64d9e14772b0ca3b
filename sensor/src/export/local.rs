//! The agent's own gRPC service, on a unix socket that root and the socket's group may use.

use std::{
    fs,
    io::{self, ErrorKind},
    net::IpAddr,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use clap::ValueEnum as _;
use ipnet::IpNet;
use sensor_proto::{
    DESCRIPTORS, Entries, MESSAGE_BYTES_MAX,
    v1::{
        self, AddExceptionRequest, AddExceptionResponse, CloseIncidentRequest, CloseIncidentResponse,
        ExportModelsRequest, ExportModelsResponse, ForgetModelRequest, ForgetModelResponse,
        GetIncidentRequest, GetStatusRequest, ImportModelsRequest, ImportModelsResponse, Incident,
        ListExceptionsRequest, ListExceptionsResponse, ListIncidentsRequest, ListIncidentsResponse,
        ListModelsRequest, ListModelsResponse, ListResponsesRequest, ListResponsesResponse, Proposal,
        RecordRequest, RecordResponse, ReloadRequest, ReloadResponse, RemoveExceptionRequest,
        RemoveExceptionResponse, RespondRequest, RespondResponse, ShowModelRequest, ShowModelResponse,
        Status as AgentStatus, SubscribeRequest, SubscribeResponse,
        agent_server::{Agent, AgentServer},
        respond_request, respond_response,
    },
};
use tokio::net::UnixListener;
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::server::UdsConnectInfo};

use super::{
    Converter, Entry, Hub, OutputMonitor, UplinkMonitor,
    convert::{convert_action, kind_meant},
    encode::Encoder,
    knowledge::Knowledge,
    record::Recorder,
};
use crate::{
    book::{Asked, Book, StoreError},
    fleet::Heard,
    forensics::{self, LIMITS, Region},
    host::proc::ProcDir,
    orders::{NoAnswer, Orders},
    reload::Reloader,
    respond::{Answer, Demand, Object, Person, Target, Wish},
    time::{BootTime, WallTime},
};

/// Where the socket is, where nobody says otherwise.
pub const SOCKET: &str = "/run/sensor/sensor.sock";

/// The longest that anybody may ask for: a year, in seconds.
const SECONDS_MAX: u64 = 365 * 86_400;

/// How long subscribers may take to read their last entries when the agent stops.
const DRAIN: Duration = Duration::from_millis(500);

/// Why the service cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// An agent is there already.
    #[error("an agent already answers on {}; stop it, or name another socket", .0.display())]
    Taken(PathBuf),
    /// Something that is not ours to remove.
    #[error("{} is in the way and not a socket; remove it, or name another path for the socket", .0.display())]
    InTheWay(PathBuf),
    /// The socket cannot be made.
    #[error("cannot make the socket {}: {cause}; run as root, or name another socket", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The descriptors of the services do not fit the services: a defect of the build.
    #[error("cannot offer gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Serving failed.
    #[error("cannot serve on the local socket: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// Says how the agent is.
pub trait StatusSource: Send + Sync + 'static {
    /// How the agent is now. What the export stage knows (subscribers, uplink) is filled in afterwards.
    fn status(&self) -> AgentStatus;
}

impl<F: Fn() -> AgentStatus + Send + Sync + 'static> StatusSource for F {
    fn status(&self) -> AgentStatus {
        self()
    }
}

/// What the service offers.
#[derive(Clone)]
pub struct LocalService {
    /// Where entries come from.
    pub hub: Hub,
    /// How they are converted.
    pub converter: Converter,
    /// How the agent is.
    pub status: Arc<dyn StatusSource>,
    /// How the uplink is, where there is one.
    pub uplink: Option<UplinkMonitor>,
    /// How the other ways out are.
    pub outputs: OutputMonitor,
    /// What reads the configuration again, where there is one.
    pub reloader: Option<Arc<Reloader>>,
    /// Who does what people want done, and answers what they ask, where there is somebody.
    pub orders: Option<Orders>,
    /// Where incidents are kept, if anywhere.
    pub book: Option<Book>,
    /// What was heard of other hosts.
    pub heard: Arc<Heard>,
}

#[tonic::async_trait]
impl Agent for LocalService {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let filter = Arc::new(request.into_inner().into_filter()?);
        let reader = self.hub.subscribe(Arc::clone(&filter));
        let converter = self.converter.clone();
        if filter.is_by_name() {
            let mut encoder = Encoder::new(converter);
            let responses =
                reader.responses(move |entry: Entry, entries: &mut Entries| encoder.push(&entry, entries));
            return Ok(Response::new(Box::pin(responses)));
        }
        let responses = reader.responses(move |entry: Entry, entries: &mut Entries| {
            let entry = converter.entry(&entry);
            if filter.matches(&entry) {
                entries.push(&entry);
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }

    type RecordStream = ReceiverStream<Result<RecordResponse, Status>>;

    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<Self::RecordStream>, Status> {
        // A recording is of all that the agent sees, secrets and all.
        caller(&request, &self.converter)?;
        let Knowledge(orders) = self.knowledge()?;
        let recorder = Recorder::begin(&self.hub, &orders, self.converter.host()).await;
        let recorder = recorder.ok_or_else(|| Status::unavailable("the agent is ending"))?;
        Ok(Response::new(recorder.stream()))
    }

    async fn list_models(
        &self,
        _request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let mut models = self.knowledge()?.models().await?;
        models
            .iter_mut()
            .for_each(|model| self.converter.policy().model(model));
        Ok(Response::new(ListModelsResponse { models }))
    }

    async fn show_model(
        &self,
        request: Request<ShowModelRequest>,
    ) -> Result<Response<ShowModelResponse>, Status> {
        let mut model = self.knowledge()?.model(request.into_inner().subject).await?;
        self.converter.policy().model(&mut model);
        Ok(Response::new(ShowModelResponse { model: Some(model) }))
    }

    async fn forget_model(
        &self,
        request: Request<ForgetModelRequest>,
    ) -> Result<Response<ForgetModelResponse>, Status> {
        caller(&request, &self.converter)?;
        self.knowledge()?.forget(request.into_inner().subject).await?;
        Ok(Response::new(ForgetModelResponse {}))
    }

    type ExportModelsStream = Pin<Box<dyn Stream<Item = Result<ExportModelsResponse, Status>> + Send>>;

    async fn export_models(
        &self,
        _request: Request<ExportModelsRequest>,
    ) -> Result<Response<Self::ExportModelsStream>, Status> {
        Ok(Response::new(Box::pin(self.knowledge()?.export().await?)))
    }

    async fn import_models(
        &self,
        request: Request<Streaming<ImportModelsRequest>>,
    ) -> Result<Response<ImportModelsResponse>, Status> {
        caller(&request, &self.converter)?;
        self.knowledge()?.import(request.into_inner()).await?;
        Ok(Response::new(ImportModelsResponse {}))
    }

    async fn add_exception(
        &self,
        request: Request<AddExceptionRequest>,
    ) -> Result<Response<AddExceptionResponse>, Status> {
        let name = caller(&request, &self.converter)?;
        let mut request = request.into_inner();
        // Who they were before they became root is theirs to say; who they are is the kernel's.
        request.author = match &*request.author {
            "" => name.into(),
            before => format!("{before} as {name}"),
        };
        let (author, why) = (request.author.clone(), request.why.clone());
        let exception = self.knowledge()?.except(request).await?;
        if let Some(book) = &self.book {
            let ending = closed(v1::Verdict::FalsePositive.into(), author, why);
            // The exception holds whatever the book says.
            let _ = book.close(exception.incident_id.clone(), ending).await;
        }
        Ok(Response::new(AddExceptionResponse {
            exception: Some(exception),
        }))
    }

    async fn list_exceptions(
        &self,
        _request: Request<ListExceptionsRequest>,
    ) -> Result<Response<ListExceptionsResponse>, Status> {
        let exceptions = self.knowledge()?.exceptions().await?;
        Ok(Response::new(ListExceptionsResponse { exceptions }))
    }

    async fn remove_exception(
        &self,
        request: Request<RemoveExceptionRequest>,
    ) -> Result<Response<RemoveExceptionResponse>, Status> {
        caller(&request, &self.converter)?;
        self.knowledge()?.take_back(request.into_inner().id).await?;
        Ok(Response::new(RemoveExceptionResponse {}))
    }

    async fn list_incidents(
        &self,
        request: Request<ListIncidentsRequest>,
    ) -> Result<Response<ListIncidentsResponse>, Status> {
        let request = request.into_inner();
        let asked = Asked {
            ended: request.ended,
            severity: request.severity,
            limit: request.limit,
        };
        let incidents = self.book()?.list(asked).await.map_err(unread)?;
        Ok(Response::new(ListIncidentsResponse { incidents }))
    }

    async fn get_incident(&self, request: Request<GetIncidentRequest>) -> Result<Response<Incident>, Status> {
        let incident = self.book()?.get(request.into_inner().id).await;
        incident.map(Response::new).map_err(unread)
    }

    async fn close_incident(
        &self,
        request: Request<CloseIncidentRequest>,
    ) -> Result<Response<CloseIncidentResponse>, Status> {
        let who = caller(&request, &self.converter)?;
        let request = request.into_inner();
        let book = self.book()?;
        let id = book.get(request.id).await.map_err(unread)?.id;
        let name = id.clone();
        let closing = self.orders()?.examine(move |detector, _| detector.close(&name));
        closing.await.ok_or_else(|| unavailable(NoAnswer))?;
        let ending = closed(request.verdict, who.into(), request.why);
        let incident = Some(book.close(id, ending).await.map_err(unread)?);
        Ok(Response::new(CloseIncidentResponse { incident }))
    }

    async fn get_status(&self, _request: Request<GetStatusRequest>) -> Result<Response<AgentStatus>, Status> {
        Ok(Response::new(self.own_status()))
    }

    async fn reload(&self, request: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        let name = caller(&request, &self.converter)?;
        self.reload_for(name).await.map(Response::new)
    }

    async fn list_responses(
        &self,
        _request: Request<ListResponsesRequest>,
    ) -> Result<Response<ListResponsesResponse>, Status> {
        let responses = self.orders()?.responses().await.map_err(unavailable)?;
        let now = BootTime::now();
        let pending = responses.pending.iter().map(|proposal| Proposal {
            number: proposal.number,
            action: Some(self.action(&proposal.action)),
            process: proposal
                .process
                .as_ref()
                .map(|process| self.converter.process_of(process, None)),
            because: self.words(&proposal.because),
            lapses_in_ns: proposal.until.since(now).as_nanos() as u64,
        });
        let holding = responses.holding.iter().map(|held| v1::Hold {
            what: self.words(&held.what),
            ends_in_ns: held.until.map_or(0, |until| until.since(now).as_nanos() as u64),
            hits: held.hits,
            number: held.number.unwrap_or(0),
        });
        Ok(Response::new(ListResponsesResponse {
            holding: holding.collect(),
            pending: pending.collect(),
            history: responses
                .history
                .iter()
                .map(|outcome| self.converter.outcome(outcome))
                .collect(),
        }))
    }

    async fn respond(&self, request: Request<RespondRequest>) -> Result<Response<RespondResponse>, Status> {
        let name = caller(&request, &self.converter)?;
        self.fulfil(request.into_inner(), name).await.map(Response::new)
    }
}

impl LocalService {
    /// How the agent is, with how its readers are.
    pub(crate) fn own_status(&self) -> AgentStatus {
        AgentStatus {
            subscribers: self.hub.subscribers() as u64,
            subscriber_dropped: self.hub.dropped(),
            uplink: self.uplink.as_ref().map(UplinkMonitor::status),
            outputs: self.outputs.status(),
            fleet: self.heard.status(),
            ..self.status.status()
        }
    }

    /// Reads the configuration again, as `name` wishes, who may.
    pub(crate) async fn reload_for(&self, name: Box<str>) -> Result<ReloadResponse, Status> {
        let missing = || Status::unimplemented("there is no configuration to be read again");
        let reloader = self.reloader.as_ref().ok_or_else(missing)?;
        let reloaded = reloader.reload(name).await;
        let reloaded = reloaded.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(ReloadResponse {
            applied: reloaded.applied,
            needs_restart: reloaded.needs_restart,
            rules: reloaded.rules,
        })
    }

    /// Does what `name` wishes, who may.
    pub(crate) async fn fulfil(
        &self,
        request: RespondRequest,
        name: Box<str>,
    ) -> Result<RespondResponse, Status> {
        let orders = self.orders()?;
        let wish = wish(&request)?;
        let person = Person {
            name,
            why: request.why,
        };
        let answer = orders.fulfil(wish, person).await.map_err(unavailable)?;
        let answer = match answer.map_err(Status::failed_precondition)? {
            Answer::Outcome(outcome) => respond_response::Answer::Outcome(self.converter.outcome(&outcome)),
            Answer::Begun(number) => respond_response::Answer::Begun(number),
            Answer::Plan(plan) => respond_response::Answer::Plan(plan),
        };
        Ok(RespondResponse { answer: Some(answer) })
    }

    /// An action as it may leave the host; likewise an outcome and a sentence.
    fn action(&self, action: &crate::respond::Action) -> v1::Action {
        let mut action = convert_action(action);
        self.converter.policy().action(&mut action);
        action
    }

    fn words(&self, text: &str) -> String {
        let mut text = text.to_owned();
        self.converter.policy().words(&mut text);
        text
    }

    fn orders(&self) -> Result<&Orders, Status> {
        let missing = || Status::unimplemented("nothing is done here about anything");
        self.orders.as_ref().ok_or_else(missing)
    }

    fn book(&self) -> Result<&Book, Status> {
        let missing = || Status::unimplemented("no incidents are kept here");
        self.book.as_ref().ok_or_else(missing)
    }

    fn knowledge(&self) -> Result<Knowledge, Status> {
        self.orders().cloned().map(Knowledge)
    }
}

/// Somebody has looked at an incident.
fn closed(verdict: i32, who: String, why: String) -> v1::Ending {
    v1::Ending {
        reason: v1::ending::Reason::Closed.into(),
        verdict,
        who,
        why,
        time_ns: WallTime::now().0,
        into: String::new(),
    }
}

fn unread(error: StoreError) -> Status {
    let message = error.to_string();
    match error {
        StoreError::Unknown(_) => Status::not_found(message),
        StoreError::Ambiguous(_) => Status::invalid_argument(message),
        StoreError::Busy => Status::unavailable(message),
        StoreError::Database { .. } => Status::internal(message),
    }
}

fn unavailable(error: NoAnswer) -> Status {
    Status::unavailable(error.to_string())
}

/// Who is on the other end of the socket, which its group may use too: root alone may act.
fn caller<T>(request: &Request<T>, converter: &Converter) -> Result<Box<str>, Status> {
    let connection = request
        .extensions()
        .get::<UdsConnectInfo>()
        .and_then(|connection| connection.peer_cred);
    let uid = connection
        .ok_or_else(|| Status::permission_denied("the kernel does not say who asks"))?
        .uid();
    if uid != 0 {
        return Err(Status::permission_denied("only root may do that"));
    }
    let named = |uid: u32| match converter.user(uid).as_str() {
        "" => format!("uid {uid}"),
        name => format!("{name} (uid {uid})"),
    };
    // Who became root tells nobody who they are; as whom they came in does.
    let login = connection
        .and_then(|credentials| u32::try_from(credentials.pid()?).ok())
        .and_then(|pid| ProcDir::open(pid).ok()?.credentials()?.login_uid);
    Ok(match login.filter(|login| *login != uid) {
        Some(login) => format!("{}, logged in as {}", named(uid), named(login)).into(),
        None => named(uid).into(),
    })
}

fn wish(request: &RespondRequest) -> Result<Wish, Status> {
    let wish = request.wish.as_ref();
    Ok(
        match wish.ok_or_else(|| Status::invalid_argument("nothing is wished for"))? {
            respond_request::Wish::Approve(number) => Wish::Approve(*number),
            respond_request::Wish::Deny(number) => Wish::Deny(*number),
            respond_request::Wish::Undo(number) => Wish::Undo(*number),
            respond_request::Wish::Order(order) => {
                let demand = demand(order)?;
                if order.dry_run {
                    Wish::Try(demand)
                } else {
                    Wish::Do(demand)
                }
            }
        },
    )
}

/// What somebody wants done, to whom and for how long.
fn demand(order: &v1::Order) -> Result<Demand, Status> {
    use v1::object::Is;
    let unknown = || Status::invalid_argument("this agent does not know that action");
    let is = order.object.as_ref().and_then(|object| object.is.clone());
    let object = match is {
        None => Object::Pid(
            order.pid,
            (order.start_time_ns > 0).then_some(BootTime(order.start_time_ns)),
        ),
        Some(Is::Executable(path)) => Object::Target(Target::Executable(path.into())),
        Some(Is::File(path)) => Object::Target(Target::File(path.into())),
        Some(Is::User(uid)) => Object::Target(Target::User(uid)),
        Some(Is::Host(_)) => Object::Target(Target::Host),
        Some(Is::Network(text)) => {
            let network = text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            let network = network.map_err(|_| {
                Status::invalid_argument(format!(
                    "{text:?} is no address and no network, such as 192.0.2.7 or 2001:db8::/32"
                ))
            })?;
            Object::Target(Target::Network(network.trunc()))
        }
    };
    Ok(Demand {
        kind: kind_meant(order.kind()).ok_or_else(unknown)?,
        object,
        lasts: (order.seconds > 0).then(|| Duration::from_secs(order.seconds.min(SECONDS_MAX))),
        incident: order.incident_id.as_str().into(),
        bundle: order.bundle.as_ref().map(bundle_options).transpose()?,
    })
}

/// How much a bundle is to have.
fn bundle_options(wanted: &v1::BundleOptions) -> Result<forensics::Options, Status> {
    let usual = forensics::Options::default();
    let region = |name: &String| {
        let found = Region::from_str(name, false);
        found.map_err(|_| Status::invalid_argument(format!("there is no memory called {name:?}")))
    };
    let or = |given: u64, usual: u64| if given == 0 { usual } else { given };
    let limit = or(wanted.limit, usual.limit);
    if !LIMITS.contains(&limit) {
        return Err(Status::invalid_argument(format!(
            "a bundle has {} to {} bytes at most, not {limit}",
            LIMITS.start(),
            LIMITS.end()
        )));
    }
    let seconds = or(wanted.seconds, usual.time_limit.as_secs()).min(3_600);
    Ok(forensics::Options {
        memory: wanted.memory.iter().map(region).collect::<Result<_, _>>()?,
        limit,
        memory_limit: or(wanted.memory_limit, usual.memory_limit),
        time_limit: Duration::from_secs(seconds),
        pause: !wanted.no_pause,
        ..usual
    })
}

/// A socket that is listened on, but not served yet. Removed when it is dropped.
#[derive(Debug)]
pub struct LocalServer {
    listener: Option<UnixListener>,
    path: PathBuf,
}

impl LocalServer {
    /// Listens on `path` with mode 0660. Its directory is made (0755) where it is missing; a socket that nobody
    /// answers on any more is replaced. Needs a tokio runtime.
    ///
    /// # Errors
    /// If an agent answers there, or the socket cannot be made.
    pub fn bind(path: &Path) -> Result<Self, LocalError> {
        let failed = |cause| LocalError::Socket {
            path: path.to_owned(),
            cause,
        };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .map_err(failed)?;
        }
        check_free(path)?;
        // It gets its name when it has its mode: nobody can come in between.
        let mut unready = path.as_os_str().to_owned();
        unready.push(format!(".{}", std::process::id()));
        let unready = PathBuf::from(unready);
        let _ = fs::remove_file(&unready);
        let listener = UnixListener::bind(&unready).map_err(failed)?;
        fs::set_permissions(&unready, fs::Permissions::from_mode(0o660))
            .and_then(|()| fs::rename(&unready, path))
            .inspect_err(|_| drop(fs::remove_file(&unready)))
            .map_err(failed)?;
        Ok(Self {
            listener: Some(listener),
            path: path.to_owned(),
        })
    }

    /// Serves until the hub is closed and subscribers have read their last, or half a second later.
    ///
    /// # Errors
    /// If serving fails.
    pub async fn serve(mut self, service: LocalService) -> Result<(), LocalError> {
        let Some(listener) = self.listener.take() else {
            return Ok(());
        };
        let hub = service.hub.clone();
        let agent = AgentServer::new(service).max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<AgentServer<LocalService>>().await;
        let router = tonic::transport::Server::builder()
            .add_service(agent)
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        let (stop, stopped) = (hub.clone(), hub);
        let served = router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
            stop.closed().await;
        });
        let late = async {
            stopped.closed().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            result = served => result?,
            () = late => tracing::warn!("subscribers did not read their last entries within {DRAIN:?}"),
        }
        Ok(())
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // Nothing depends on it: the next agent replaces a socket that is left over.
        let _ = fs::remove_file(&self.path);
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("sensor.v1.Agent")
        .with_service_name("grpc.health.v1.Health")
}

/// Whether a socket may be put at `path`: nothing is there, or a socket that nobody answers on.
fn check_free(path: &Path) -> Result<(), LocalError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(cause) => {
            return Err(LocalError::Socket {
                path: path.to_owned(),
                cause,
            });
        }
    };
    if !metadata.file_type().is_socket() {
        return Err(LocalError::InTheWay(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(LocalError::Taken(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(cause) => Err(LocalError::Socket {
            path: path.to_owned(),
            cause,
        }),
    }
}
