//! What every gRPC client expects, with no `.proto` at hand: health and reflection.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_tests::{client, stack::Stack};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("grpc::agent_has_health_and_reflection", || {
            let stack = Stack::shared()?;
            check(
                &client::connect_unix(&stack.agent.socket())?,
                &["sensor.v1.Agent"],
            )
        }),
        case("grpc::collector_has_health_and_reflection", || {
            let stack = Stack::shared()?;
            check(
                &client::connect(&stack.collector.address())?,
                &["sensor.v1.Collector", "sensor.v1.Ingest"],
            )
        }),
    ]
}

fn check(channel: &Channel, services: &[&str]) -> Result<()> {
    let known = reflection(channel.clone())?;
    for service in services {
        ensure!(
            known.iter().any(|name| name == service),
            "reflection knows {known:?}, but not {service}"
        );
        let health = health(channel.clone(), service)?;
        ensure!(
            health == ServingStatus::Serving as i32,
            "health of {service} is {health}"
        );
    }
    let whole = health(channel.clone(), "")?;
    ensure!(
        whole == ServingStatus::Serving as i32,
        "health of the whole is {whole}"
    );
    Ok(())
}

fn health(channel: Channel, service: &str) -> Result<i32> {
    let mut client = HealthClient::new(channel);
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let response = client::wait(client.check(request))?.with_context(|| format!("health of {service:?}"))?;
    Ok(response.into_inner().status)
}

fn reflection(channel: Channel) -> Result<Vec<String>> {
    let mut client = ServerReflectionClient::new(channel);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let call = async {
        let mut responses = client
            .server_reflection_info(tokio_stream::once(request))
            .await?
            .into_inner();
        responses.message().await
    };
    let response = client::wait(call)??.context("reflection says nothing")?;
    match response.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => anyhow::bail!("reflection answers {other:?}"),
    }
}
