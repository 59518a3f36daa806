//! What the unary calls do when all is well.

use crate::support::{Database, TestHub};
use std::collections::BTreeSet;
use tonic::{Code, codec::CompressionEncoding};
use trex::proto::rh_trex::v1::{
    CreateDinosaurRequest, DeleteDinosaurRequest, GetDinosaurRequest, ListDinosaursRequest, ListMeta,
    UpdateDinosaurRequest,
};

#[tokio::test]
async fn a_dinosaur_lives_and_dies() {
    let hub = TestHub::start(&Database::create().await).await;
    let mut client = hub.client().await;
    let created = client
        .create_dinosaur(CreateDinosaurRequest { species: "Iguanodon".into() })
        .await
        .unwrap()
        .into_inner();
    let metadata = created.metadata.clone().unwrap();
    assert_eq!((created.species.as_str(), metadata.kind.as_str()), ("Iguanodon", "Dinosaur"));
    assert_eq!(metadata.href, format!("/api/rh-trex/v1/dinosaurs/{}", metadata.id));
    assert!(metadata.created_at.is_some() && metadata.created_at == metadata.updated_at);
    let id = metadata.id;

    let got = client.get_dinosaur(GetDinosaurRequest { id: id.clone() }).await.unwrap().into_inner();
    assert_eq!(got, created);
    let absent = UpdateDinosaurRequest { id: id.clone(), species: None };
    assert_eq!(
        client.update_dinosaur(absent).await.unwrap().into_inner(),
        created,
        "an absent field is left"
    );
    let emptied = UpdateDinosaurRequest { id: id.clone(), species: Some(String::new()) };
    let emptied = client.update_dinosaur(emptied).await.unwrap().into_inner();
    assert_eq!(emptied.species, "");
    assert!(emptied.metadata.unwrap().updated_at.unwrap().nanos != metadata.updated_at.unwrap().nanos);

    client.delete_dinosaur(DeleteDinosaurRequest { id: id.clone() }).await.unwrap();
    let gone = client.get_dinosaur(GetDinosaurRequest { id }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    hub.stop().await;
}

#[tokio::test]
async fn a_species_has_up_to_255_bytes() {
    let hub = TestHub::start(&Database::create().await).await;
    let mut client = hub.client().await;
    for species in ["x".repeat(255), format!("{}é", "x".repeat(253)), " \t\n".into()] {
        let request = CreateDinosaurRequest { species: species.clone() };
        assert_eq!(client.create_dinosaur(request).await.unwrap().into_inner().species, species);
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_compressed_request_is_understood() {
    let hub = TestHub::start(&Database::create().await).await;
    let mut client = hub.client().await.send_compressed(CompressionEncoding::Gzip);
    let request = CreateDinosaurRequest { species: "z".repeat(200) };
    assert_eq!(client.create_dinosaur(request).await.unwrap().into_inner().species, "z".repeat(200));
    hub.stop().await;
}

#[tokio::test]
async fn pages_show_every_row_once() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let insert = "INSERT INTO dinosaurs (species) SELECT 's' || n FROM generate_series(1, 1100) n";
    database.connect().await.batch_execute(insert).await.unwrap();
    let mut client = hub.client().await;
    let mut list = async |page, size| {
        let request = ListDinosaursRequest { page, size, ..Default::default() };
        client.list_dinosaurs(request).await.unwrap().into_inner()
    };
    let mut ids = Vec::new();
    for (page, length) in [(1, 500), (2, 500), (3, 100), (4, 0)] {
        let listed = list(page, 500).await;
        let metadata = listed.metadata.unwrap();
        assert_eq!((metadata.page, metadata.size, metadata.total), (page, 500, 1100));
        assert_eq!(listed.items.len(), length);
        ids.extend(listed.items.into_iter().map(|item| item.metadata.unwrap().id));
    }
    assert!(ids.is_sorted());
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1100);

    for (page, size) in [(0, 0), (-3, -1), (1, 501), (i32::MIN, i32::MAX)] {
        let listed = list(page, size).await;
        let ListMeta { page, size, total, .. } = listed.metadata.unwrap();
        assert_eq!((page, size, total, listed.items.len()), (1, 20, 1100, 20));
    }
    assert_eq!(list(i32::MAX, 500).await.items, []);
    hub.stop().await;
}
