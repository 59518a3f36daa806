//! Every service takes compressed requests.

use crate::support::{Database, TestHub};
use tonic::{Code, codec::CompressionEncoding::Gzip};
use trex::proto::{
    hub::v1::{
        GetStatusRequest, ListAuditRecordsRequest, ReadEventsRequest,
        audit_service_client::AuditServiceClient,
    },
    rh_trex::v1::CreateDinosaurRequest,
};

#[tokio::test]
async fn every_service_takes_gzip() {
    let hub = TestHub::start(&Database::create().await).await;
    let create = CreateDinosaurRequest { species: "s".into() };
    hub.client().await.send_compressed(Gzip).create_dinosaur(create).await.unwrap();
    hub.events().await.send_compressed(Gzip).read_events(ReadEventsRequest::default()).await.unwrap();
    hub.admin().await.send_compressed(Gzip).get_status(GetStatusRequest::default()).await.unwrap();
    let mut auditor = AuditServiceClient::new(hub.channel().await).send_compressed(Gzip);
    let list = ListAuditRecordsRequest { kind: "Dinosaur".into(), ..Default::default() };
    // The trail is refused, because no hub keeps it; not the encoding.
    let status = auditor.list_audit_records(list).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("--audit"), "{}", status.message());
    hub.stop().await;
}
