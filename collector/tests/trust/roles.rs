//! What those who are let in may do.

use sensor_proto::v1::{
    InviteRequest, ListHostsRequest, ListIdentitiesRequest, collector_client::CollectorClient,
    trust_client::TrustClient,
};

use crate::world::{Collector, Guest, Stream};

#[tokio::test(flavor = "multi_thread")]
async fn viewers_read_and_agents_do_not() {
    let collector = Collector::start(&[]).await;
    let viewer = Guest::enrolled(&collector, &["--role", "viewer", "--name", "bob"]).await;
    let channel = viewer.connect(&collector).await.expect("connects");
    CollectorClient::new(channel.clone())
        .list_hosts(ListHostsRequest {})
        .await
        .expect("may read");
    let status = TrustClient::new(channel.clone())
        .list_identities(ListIdentitiesRequest {})
        .await
        .expect_err("may not");
    assert_eq!(
        status.message(),
        "Trust/ListIdentities is for admins; you are viewer bob"
    );
    let Err(status) = Stream::open(channel, "bob").await else {
        panic!("a viewer may deliver")
    };
    assert_eq!(
        status.message(),
        "Ingest/Deliver is for agents; you are viewer bob"
    );

    let agent = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let channel = agent.connect(&collector).await.expect("connects");
    let status = CollectorClient::new(channel)
        .list_hosts(ListHostsRequest {})
        .await
        .expect_err("may not");
    assert_eq!(
        status.message(),
        "Collector/ListHosts is for viewers, responders and admins; you are agent web1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_invite_over_the_network() {
    let collector = Collector::start(&[]).await;
    let admin = Guest::enrolled(&collector, &["--role", "admin", "--name", "alice"]).await;
    let mut client = TrustClient::new(admin.connect(&collector).await.expect("connects"));
    let invite = |name: &str| InviteRequest {
        role: "agent".into(),
        name: name.into(),
        seconds: 60,
        lift_revocation: false,
    };
    let token = client
        .invite(invite("web1"))
        .await
        .expect("invites")
        .into_inner()
        .token;
    Guest::with_token(&collector, &token).await.expect("enrols");
    let status = client.invite(invite("a b")).await.expect_err("is no name");
    assert!(
        status.message().starts_with("\"a b\" is not a name"),
        "{}",
        status.message()
    );

    let listed = collector.run(&["identities"]);
    let lines: Vec<_> = listed.lines().collect();
    assert!(
        lines[0].starts_with("admin alice: certificate until 2") && lines[0].ends_with("connected"),
        "{listed}"
    );
    assert!(
        lines[1].starts_with("agent web1: certificate until 2"),
        "{listed}"
    );
    let error = collector.fail(&["revoke", "--host", "web2"]);
    assert_eq!(
        error,
        "collector: nothing is known of agent web2, neither a certificate nor a token; is the name right? `collector identities` lists all\n"
    );
}
