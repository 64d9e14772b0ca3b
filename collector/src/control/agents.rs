//! The agents' side: what they are told, their answers, their bundles.

use sensor_proto::v1::{
    BundleState, ListenRequest, ListenResponse, OfferBundleRequest, OfferBundleResponse, PutBundleRequest,
    PutBundleResponse, ShareFactsRequest, ShareFactsResponse, control_server::Control, listen_request::Frame,
};
use sensor_trust::Name;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Desk,
    bundles::{self, Incoming},
    refusal,
};
use crate::{ingest::stopped, trust::service::peer};

/// Commands on the way to an agent.
const ON_THE_WAY: usize = 16;

/// The service.
#[derive(Clone, Debug)]
pub struct ControlService(pub Desk);

#[tonic::async_trait]
impl Control for ControlService {
    type ListenStream = ReceiverStream<Result<ListenResponse, Status>>;

    async fn listen(
        &self,
        request: Request<Streaming<ListenRequest>>,
    ) -> Result<Response<Self::ListenStream>, Status> {
        let host = speaker(&request)?;
        let (commands, stream) = mpsc::channel(ON_THE_WAY);
        let desk = self.0.clone();
        tokio::spawn(async move {
            if let Err(status) = listen(&desk, &host, request.into_inner(), &commands).await {
                tracing::debug!(%host, "no more commands: {}", status.message());
                // If the agent is gone, nobody is there to be told.
                let _ = commands.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn offer_bundle(
        &self,
        request: Request<OfferBundleRequest>,
    ) -> Result<Response<OfferBundleResponse>, Status> {
        let host = speaker(&request)?.to_string();
        let offer = request.into_inner();
        bundles::check(&offer)?;
        let sha256 = offer.sha256.clone();
        self.0
            .commands
            .offer(host.clone(), offer)
            .await
            .map_err(refusal)?;
        let bundle = self.bundle(&host, &sha256).await?;
        let received = match bundle.ended_ns {
            0 => self.incoming(bundle).await?.received(),
            _ => bundle.size,
        };
        Ok(Response::new(OfferBundleResponse { received }))
    }

    async fn put_bundle(
        &self,
        request: Request<Streaming<PutBundleRequest>>,
    ) -> Result<Response<PutBundleResponse>, Status> {
        let host = speaker(&request)?.to_string();
        let mut pieces = request.into_inner();
        let first = pieces
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("there is nothing in it"))?;
        let bundle = self.bundle(&host, &first.sha256).await?;
        if bundle.ended_ns > 0 {
            return Ok(Response::new(PutBundleResponse {}));
        }
        let mut incoming = self.incoming(bundle.clone()).await?;
        let mut next = Some(first);
        while let Some(piece) = next {
            incoming = blocking(move || incoming.take(piece.offset, &piece.data).map(|()| incoming)).await?;
            next = pieces.message().await?;
        }
        blocking(move || incoming.finish()).await?;
        self.0.commands.received(bundle).await.map_err(refusal)?;
        Ok(Response::new(PutBundleResponse {}))
    }

    async fn share_facts(
        &self,
        request: Request<ShareFactsRequest>,
    ) -> Result<Response<ShareFactsResponse>, Status> {
        let host = speaker(&request)?;
        let facts = request.into_inner().facts;
        let (hosts, others) = self.0.facts.share(host.as_str(), facts).await?;
        Ok(Response::new(ShareFactsResponse { hosts, others }))
    }
}

impl ControlService {
    /// A bundle that this host has offered.
    async fn bundle(&self, host: &str, sha256: &str) -> Result<BundleState, Status> {
        let missing = || Status::not_found("this bundle was not offered");
        if sha256.len() != 64 {
            return Err(missing());
        }
        let found = self
            .0
            .commands
            .bundles(host.to_owned(), sha256.to_owned())
            .await
            .map_err(refusal)?;
        found.into_iter().next().ok_or_else(missing)
    }

    async fn incoming(&self, bundle: BundleState) -> Result<Incoming, Status> {
        let directory = bundles::place(&self.0.bundles, &bundle.host);
        blocking(move || Incoming::open(&directory, &bundle)).await
    }
}

/// Until the agent is gone, or the collector stops.
async fn listen(
    desk: &Desk,
    host: &Name,
    mut frames: Streaming<ListenRequest>,
    commands: &mpsc::Sender<Result<ListenResponse, Status>>,
) -> Result<(), Status> {
    let mut stopping = desk.stopping.clone();
    match frames.message().await?.and_then(|frame| frame.frame) {
        Some(Frame::Hello(hello)) if hello.host == host.as_str() => {
            tracing::info!(%host, "listening to what is asked; allowed: {}", hello.allowed.join(", "));
        }
        Some(Frame::Hello(hello)) => {
            let message = format!(
                "this agent says that it is host {:?}, and its certificate is of {host}",
                hello.host
            );
            return Err(Status::permission_denied(message));
        }
        _ => return Err(Status::invalid_argument("an agent must say who it is first")),
    }
    let bell = desk.waiting.bell(host.as_str());
    let mut told = std::collections::HashSet::new();
    loop {
        // Before it is looked, so that what comes meanwhile is not missed.
        let rung = bell.notified();
        tokio::pin!(rung);
        rung.as_mut().enable();
        for command in desk.commands.tell(host.to_string()).await.map_err(refusal)? {
            if told.insert(command.id.clone()) {
                let sent = commands
                    .send(Ok(ListenResponse {
                        command: Some(command),
                    }))
                    .await;
                sent.map_err(|_| Status::cancelled("the agent is gone"))?;
            }
        }
        loop {
            tokio::select! {
                () = &mut rung => break,
                () = stopped(&mut stopping) => return Err(Status::unavailable("the collector is stopping; connect again")),
                frame = frames.message() => match frame?.and_then(|frame| frame.frame) {
                    Some(Frame::Answer(answer)) => {
                        desk.commands.answer(host.to_string(), answer).await.map_err(refusal)?;
                    }
                    Some(Frame::Hello(_)) => return Err(Status::invalid_argument("hello was said twice")),
                    None => return Ok(()),
                },
            }
        }
    }
}

/// The host that calls, by its certificate.
fn speaker<T>(request: &Request<T>) -> Result<Name, Status> {
    let name = peer(request)?.speaks_for().cloned();
    name.ok_or_else(|| {
        Status::permission_denied("without TLS nothing is asked of hosts: nobody knows who is who")
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Status::unavailable("the collector is stopping")))
}
