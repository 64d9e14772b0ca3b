//! The consumers' side: entries as they become durable or since a position, the hosts they come from, and questions about all of them.

pub mod expression;
mod follow;
mod places;
mod wanted;

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Instant};

use sensor_proto::{
    Entries,
    fanout::QUEUE_ITEMS,
    signal_name,
    v1::{
        ListApprovalsRequest, ListApprovalsResponse, ListFleetIncidentsRequest, ListFleetIncidentsResponse,
        ListHostsRequest, ListHostsResponse, QueryRequest, SubscribeRequest, SubscribeResponse,
        collector_server::Collector,
    },
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use self::{
    follow::Follower,
    places::{Place, Places},
    wanted::Wanted,
};
use crate::{
    fleet::Fleet,
    lake::lease::Leases,
    query::{self, Engine},
    store::{KnownHost, Position},
    trust::service::peer,
    writer::{Placed, Published, WriteError, Writer},
};

/// Responses on the way to a consumer that reads from disk.
const AHEAD: usize = 4;

/// The service.
#[derive(Debug)]
pub struct CollectorService {
    /// Reads what is stored.
    pub writer: Writer,
    /// Who is connected.
    pub fleet: Fleet,
    /// What has become durable.
    pub published: Published,
    /// Answers questions.
    pub engine: Engine,
    /// Keeps files that are read.
    pub leases: Leases,
    /// The data directory.
    pub data: PathBuf,
    /// Turns of consumers that read the lake.
    reading: Arc<Semaphore>,
    /// How many subscriptions each of them has.
    places: Places,
}

type Subscription = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

impl CollectorService {
    /// Of these parts.
    #[must_use]
    pub fn new(
        writer: Writer,
        fleet: Fleet,
        published: Published,
        engine: Engine,
        leases: Leases,
        data: PathBuf,
    ) -> Self {
        Self {
            writer,
            fleet,
            published,
            engine,
            leases,
            data,
            reading: Arc::new(Semaphore::new(follow::READING)),
            places: Places::default(),
        }
    }

    /// What comes from now on.
    fn live(&self, wanted: Wanted, place: Place) -> Subscription {
        let wanted = Arc::new(wanted);
        let early = Arc::clone(&wanted);
        let reader = self.published.entries.subscribe(QUEUE_ITEMS, move |placed| {
            early.may_pass(signal_name(&placed.entry))
        });
        Box::pin(
            reader.responses(move |placed: Arc<Placed>, entries: &mut Entries| {
                // Given back when the stream is dropped.
                let _place = &place;
                if wanted.matches(&placed.entry) {
                    entries.push(&placed.entry);
                }
                entries.reach(placed.position.0);
            }),
        )
    }

    /// Everything after a position.
    fn since(&self, wanted: Wanted, after: Position, place: Place) -> Subscription {
        let (responses, stream) = mpsc::channel(AHEAD);
        let next = Position(after.0.saturating_add(1));
        let follower = Follower {
            data: self.data.clone(),
            leases: self.leases.clone(),
            engine: self.engine.clone(),
            reading: Arc::clone(&self.reading),
            wanted: Arc::new(wanted),
            stored: self.published.next.subscribe(),
            responses,
            next,
            told: next,
            entries: Entries::default(),
            waiting: 0,
            taken: 0,
            damaged: 0,
            left_out: Vec::new(),
        };
        let stopped = self.published.entries.clone();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = follower.run() => {}
                () = stopped.closed() => {}
            }
        });
        Box::pin(ReceiverStream::new(stream))
    }
}

#[tonic::async_trait]
impl Collector for CollectorService {
    type SubscribeStream = Subscription;
    type QueryStream = query::service::Responses;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let place = self.places.take(peer(&request)?)?;
        let (wanted, after) = Wanted::of(request.into_inner())?;
        let responses = match after {
            None => self.live(wanted, place),
            Some(after) => self.since(wanted, after, place),
        };
        Ok(Response::new(responses))
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        let responses = query::service::query(&self.engine, request.into_inner()).await?;
        Ok(Response::new(responses))
    }

    async fn list_hosts(
        &self,
        _request: Request<ListHostsRequest>,
    ) -> Result<Response<ListHostsResponse>, Status> {
        let known = self.writer.hosts().await.map_err(unavailable)?;
        let now = Instant::now();
        let hosts = known.into_iter().map(|KnownHost { mut host, stopped }| {
            self.fleet.describe(&mut host, stopped, now);
            host
        });
        let hosts = hosts.collect();
        Ok(Response::new(ListHostsResponse { hosts }))
    }

    async fn list_fleet_incidents(
        &self,
        request: Request<ListFleetIncidentsRequest>,
    ) -> Result<Response<ListFleetIncidentsResponse>, Status> {
        let incidents = self
            .writer
            .incidents(request.into_inner())
            .await
            .map_err(unavailable)?;
        Ok(Response::new(ListFleetIncidentsResponse { incidents }))
    }

    async fn list_approvals(
        &self,
        request: Request<ListApprovalsRequest>,
    ) -> Result<Response<ListApprovalsResponse>, Status> {
        let approvals = self
            .writer
            .approvals(request.into_inner())
            .await
            .map_err(unavailable)?;
        Ok(Response::new(ListApprovalsResponse { approvals }))
    }
}

fn unavailable(error: WriteError) -> Status {
    Status::unavailable(error.to_string())
}
