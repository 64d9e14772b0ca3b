//! The consumers' side: entries as they become durable, and the hosts they come from.

use std::{pin::Pin, sync::Arc};

use sensor_proto::{
    Entries,
    fanout::{Fanout, QUEUE_ITEMS},
    signal_name,
    v1::{
        Entry, ListHostsRequest, ListHostsResponse, QueryRequest, SubscribeRequest, SubscribeResponse,
        collector_server::Collector,
    },
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::{
    presence::Presence,
    query::{self, Engine},
    writer::Writer,
};

/// The service.
#[derive(Debug)]
pub struct CollectorService {
    /// Reads what is stored.
    pub writer: Writer,
    /// Who is connected.
    pub presence: Presence,
    /// What has become durable.
    pub entries: Fanout<Arc<Entry>>,
    /// Answers questions.
    pub engine: Engine,
}

#[tonic::async_trait]
impl Collector for CollectorService {
    type QueryStream = query::service::Responses;

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        let responses = query::service::query(&self.engine, request.into_inner()).await?;
        Ok(Response::new(responses))
    }

    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let filter = Arc::new(request.into_inner().into_filter()?);
        let early = Arc::clone(&filter);
        let reader = self
            .entries
            .subscribe(QUEUE_ITEMS, move |entry| early.may_pass(signal_name(entry)));
        let responses = reader.responses(move |entry: Arc<Entry>, entries: &mut Entries| {
            if filter.matches(&entry) {
                entries.push(&entry);
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn list_hosts(
        &self,
        _request: Request<ListHostsRequest>,
    ) -> Result<Response<ListHostsResponse>, Status> {
        let mut hosts = self
            .writer
            .hosts()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        for host in &mut hosts {
            host.connected = self.presence.is_connected(&host.name);
        }
        Ok(Response::new(ListHostsResponse { hosts }))
    }
}
