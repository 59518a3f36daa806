//! REST, as clients of the upstream service expect it.

use super::wire::{Connection, escaped, hub};
use serde_json::{Value, json};

const ALL: &str = "/api/rh-trex/v1/dinosaurs";

async fn create(client: &mut Connection, species: &str) -> Value {
    let body = json!({ "species": species }).to_string();
    let answer = client.json("POST", ALL, &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

async fn species(client: &mut Connection, query: &str) -> Vec<String> {
    let answer = client.get(&format!("{ALL}?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let list = answer.json();
    let items = list["items"].as_array().unwrap();
    assert_eq!(list["size"], items.len());
    items.iter().map(|item| item["species"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_made_read_changed_and_deleted() {
    let (hub, mut client) = hub().await;
    let made = create(&mut client, "Tyrannosaurus").await;
    let id = made["id"].as_str().unwrap().to_owned();
    let names: Vec<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["created_at", "href", "id", "kind", "species", "updated_at"]);
    assert_eq!((&made["kind"], &made["href"]), (&json!("Dinosaur"), &json!(format!("{ALL}/{id}"))));
    assert!(made["created_at"].as_str().unwrap().ends_with('Z'), "{made}");
    let place = format!("{ALL}/{id}");
    assert_eq!(client.get(&place).await.json(), made);
    let patched = client.json("PATCH", &place, r#"{"species":"Triceratops"}"#).await;
    assert_eq!((patched.status, &patched.json()["species"]), (200, &json!("Triceratops")));
    assert_eq!(client.json("PATCH", &place, "{}").await.json()["species"], "Triceratops");
    let head = client.ask("HEAD", &place, "", "").await;
    assert_eq!(head.status, 200);
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 50);
    let deleted = client.ask("DELETE", &place, "", "").await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    let gone = client.get(&place).await;
    let error = gone.json();
    assert_eq!((gone.status, &error["code"], &error["kind"]), (404, &json!("rh-trex-7"), &json!("Error")));
    assert_eq!(error["href"], "/api/rh-trex/v1/errors/7");
    assert_eq!(error["operation_id"], gone.header("x-operation-id").unwrap());
    assert_eq!(
        hub.metric("http_requests_total", r#"code="204",route="/api/rh-trex/v1/dinosaurs/{id}""#),
        1.0
    );
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_refused_with_the_codes_of_upstream() {
    let (hub, mut client) = hub().await;
    let id = create(&mut client, "Rex").await["id"].as_str().unwrap().to_owned();
    let place = format!("{ALL}/{id}");
    for (method, path, body, code) in [
        ("POST", ALL, "{", 17),
        ("POST", ALL, "[]", 17),
        ("POST", ALL, r#"{"species":7}"#, 17),
        ("POST", ALL, r#"{"id":"x","species":"Rex"}"#, 8),
        ("POST", ALL, "{}", 8),
        ("POST", ALL, r#"{"species":"a\u0000b"}"#, 8),
        ("PATCH", &place, "nonsense", 17),
        ("PATCH", &place, r#"{"species":""}"#, 8),
    ] {
        let answer = client.json(method, path, body).await;
        assert_eq!((answer.status, &answer.json()["id"]), (400, &json!(code.to_string())), "{body}");
        if body == r#"{"species":""}"# {
            assert_eq!(answer.json()["reason"], "species cannot be empty");
        }
    }
    let large = format!("{{\"species\":\"{}\"}}", "x".repeat(5 << 20));
    let answer = Connection::open(&hub).await.json("POST", ALL, &large).await;
    assert_eq!(answer.status, 413);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_searched_sorted_and_cut() {
    let (hub, mut client) = hub().await;
    for name in ["Tyrannosaurus", "Triceratops", "Stegosaurus", "O'Hara", "100%"] {
        create(&mut client, name).await;
    }
    let list = client.get(ALL).await.json();
    assert_eq!(
        (&list["kind"], &list["page"], &list["size"], &list["total"]),
        (&json!("DinosaurList"), &json!(1), &json!(5), &json!(5))
    );
    let page = client.get(&format!("{ALL}?page=2&size=2&orderBy=species+asc")).await.json();
    assert_eq!((&page["page"], &page["size"], &page["total"]), (&json!(2), &json!(2), &json!(5)));
    assert_eq!(page["items"][0]["species"], "Stegosaurus");
    let none = client.get(&format!("{ALL}?size=0")).await.json();
    assert_eq!((&none["size"], &none["total"]), (&json!(0), &json!(5)));
    assert_eq!(client.get(&format!("{ALL}?size=9999999")).await.json()["size"], 5);
    for (search, expected) in [
        ("species like 'T%'", vec!["Triceratops", "Tyrannosaurus"]),
        ("species ilike 't%' and not species = 'Triceratops'", vec!["Tyrannosaurus"]),
        ("species in ('Stegosaurus', 'O''Hara')", vec!["O'Hara", "Stegosaurus"]),
        (
            "(species < 'P' or species = 'Stegosaurus') and created_at > '2020-01-01'",
            vec!["100%", "O'Hara", "Stegosaurus"],
        ),
        ("species between 'S' and 'Ts'", vec!["Stegosaurus", "Triceratops"]),
        ("species is null", vec![]),
    ] {
        let query = format!("search={}&orderBy=species", escaped(search));
        assert_eq!(species(&mut client, &query).await, expected, "{search}");
    }
    let cut = client.get(&format!("{ALL}?fields=species&orderBy=species%20desc&size=1")).await.json();
    let names: Vec<_> = cut["items"][0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((names, &cut["items"][0]["species"]), (vec!["id", "species"], &json!("Tyrannosaurus")));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_search_injects_is_refused_with_its_place() {
    let (hub, mut client) = hub().await;
    create(&mut client, "Rex").await;
    for search in [
        "species = 'x' or 1=1",
        "species = 'x'; drop table dinosaurs",
        "species = 'x' -- '",
        "species = 'x' union select 1",
        "pg_sleep(5) = 1",
        "species = (select 1)",
        "species = $1",
        "\"species\"\"\" = 'x'",
        "species = 'x",
        "spcies = 'x'",
        "species = 'a\0b'",
    ] {
        let answer = client.get(&format!("{ALL}?search={}", escaped(search))).await;
        let error = answer.json();
        assert_eq!((answer.status, &error["id"]), (400, &json!("23")), "{search}: {error}");
        let reason = error["reason"].as_str().unwrap();
        assert!(reason.starts_with("Failed to parse search query: at character "), "{reason}");
    }
    // Quotes within a value are a part of it.
    assert!(
        species(&mut client, &format!("search={}", escaped("species = ''' or ''1''=''1'"))).await.is_empty()
    );
    for bad in ["orderBy=nothing", "orderBy=species;drop", "fields=nothing", "page=x", "size=1&size=2"] {
        let answer = client.get(&format!("{ALL}?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
    }
    assert_eq!(species(&mut client, "").await, ["Rex"]);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_describes_itself() {
    let (hub, mut client) = hub().await;
    let metadata = client.get("/api/rh-trex").await.json();
    assert_eq!((&metadata["kind"], &metadata["href"]), (&json!("API"), &json!("/api/rh-trex")));
    assert!(metadata["version"].is_string() && metadata["build_time"].is_string());
    assert_eq!(client.get("/api/rh-trex/v1/openapi").await.json()["openapi"], "3.0.0");
    let errors = client.get("/api/rh-trex/v1/errors").await.json();
    assert_eq!((&errors["kind"], errors["items"].as_array().unwrap().len()), (&json!("ErrorList"), 12));
    assert_eq!(client.get("/api/rh-trex/v1/errors/7").await.json()["code"], "rh-trex-7");
    assert_eq!(client.get("/api/rh-trex/v1/errors/5").await.status, 404);
    hub.stop().await;
}
