//! Who made a change, when it came through the API.

use crate::support::{Database, TestHub, wire::reason};
use tonic::{Code, Request};
use trex::{
    app::Settings,
    faces::Registry,
    proto::rh_trex::v1::{
        CreateDinosaurRequest, DeleteDinosaurRequest, ImportDinosaursItem, ImportDinosaursRequest,
        ImportDinosaursStart, UpdateDinosaurRequest, import_dinosaurs_request::Message,
    },
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn call<T>(message: T, metadata: &[(&'static str, &'static str)]) -> Request<T> {
    let mut call = Request::new(message);
    for (name, value) in metadata {
        call.metadata_mut().insert(*name, value.parse().unwrap());
    }
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_is_recorded_where_the_hub_is_told_to_believe_it() {
    let database = Database::create().await;
    let mut settings = Settings::new(database.target());
    // One connection: one call's attribution must not stick to the next.
    settings.db_pool_size = 1;
    settings.trusted_actor = Some(http::HeaderName::from_static("trex-actor"));
    let hub = TestHub::start_with(settings, Registry::of_this_program()).await;
    let plain = TestHub::start(&database).await;
    let alice: &[_] = &[("trex-actor", "alice"), ("traceparent", TRACE)];
    let mut client = hub.client().await;
    let species = |species: &str| CreateDinosaurRequest { species: species.to_owned() };
    let created = client.create_dinosaur(call(species("one"), alice)).await.unwrap().into_inner();
    let id = created.metadata.unwrap().id;
    let update = UpdateDinosaurRequest { id: id.clone(), species: Some("two".into()) };
    client
        .update_dinosaur(call(update.clone(), &[("trex-actor", "bob"), ("traceparent", "nonsense")]))
        .await
        .unwrap();
    client.update_dinosaur(call(update, &[])).await.unwrap();
    client.delete_dinosaur(call(DeleteDinosaurRequest { id: id.clone() }, alice)).await.unwrap();
    let gone = client.delete_dinosaur(call(DeleteDinosaurRequest { id }, alice)).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    client.create_dinosaur(call(species("after a failure"), &[])).await.unwrap();
    let refused = client.create_dinosaur(call(species("nobody"), &[("trex-actor", "")])).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    plain.client().await.create_dinosaur(call(species("unbelieved"), alice)).await.unwrap();

    let items = || tokio_stream::iter(vec![species("first of many").into(), species("second").into()]);
    client.bulk_create_dinosaurs(call(items(), alice)).await.unwrap();
    client
        .bulk_create_dinosaurs(call(items(), &[("import-id", "more"), ("trex-actor", "carol")]))
        .await
        .unwrap();
    let import = [
        Message::Start(ImportDinosaursStart { import_id: "stream".into(), ..Default::default() }),
        Message::Item(ImportDinosaursItem { species: "imported".into(), ..Default::default() }),
    ];
    let import = import.map(|message| ImportDinosaursRequest { message: Some(message) }.into());
    let import = call(tokio_stream::iter(import), &[("trex-actor", "dave"), ("traceparent", TRACE)]);
    let mut imported = client.import_dinosaurs(import).await.unwrap().into_inner();
    while imported.message().await.unwrap().is_some() {}
    client.create_dinosaur(call(species("after them"), &[])).await.unwrap();

    let session = database.connect().await;
    let rows =
        session.query("SELECT actor, coalesce(trace, '') FROM hub.change ORDER BY seq", &[]).await.unwrap();
    let recorded: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let pair = |actor: &str, trace: &str| (actor.to_owned(), trace.to_owned());
    let expected = [
        pair("alice", TRACE),
        pair("bob", ""),
        pair("postgres", ""),
        pair("alice", TRACE),
        pair("postgres", ""),
        pair("postgres", TRACE),
        pair("alice", TRACE),
        pair("alice", TRACE),
        pair("carol", ""),
        pair("carol", ""),
        pair("dave", TRACE),
        pair("postgres", ""),
    ];
    assert_eq!(recorded, expected);
    hub.stop().await;
    plain.stop().await;
}
