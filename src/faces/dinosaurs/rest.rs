//! The REST resource of `rh_trex.v1`, as clients of the upstream service expect it.

use super::{
    openapi,
    row::{Flat, flat},
    rules,
};
use crate::{
    catalog::Kind,
    error::Error,
    faces::http::{
        Answered, Exchange, Http, HttpBody, Problem, Query, Route, json, json_text, with_status, wrong,
    },
    service::{ListRequest, Listed, Paging, UseCases},
};
use http::{HeaderValue, Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Rows on a page, if the request does not say.
const DEFAULT_SIZE: i32 = 100;
/// The most rows on a page; a larger size counts as this one.
const LARGEST_SIZE: i32 = 65_500;
/// What `fields` may name.
const FIELDS: [&str; 6] = ["id", "kind", "href", "created_at", "updated_at", "species"];

/// What the handlers work with.
struct Rest {
    cases: UseCases,
    kind: Kind,
}

/// Adds the resource.
pub(super) fn serve(cases: &UseCases, kind: Kind, http: &mut Http) {
    let rest = Arc::new(Rest { cases: cases.clone(), kind });
    let with = |rest: &Arc<Rest>| rest.clone();
    let (list, create, get) = (with(&rest), with(&rest), with(&rest));
    let (update, delete) = (with(&rest), rest);
    http.add(
        Route::at("/api/rh-trex/v1/dinosaurs")
            .on(Method::GET, move |exchange| list.clone().list(exchange))
            .on(Method::POST, move |exchange| create.clone().create(exchange)),
    );
    http.add(
        Route::at("/api/rh-trex/v1/dinosaurs/{id}")
            .on(Method::GET, move |exchange| get.clone().get(exchange))
            .on(Method::PATCH, move |exchange| update.clone().update(exchange))
            .on(Method::DELETE, move |exchange| delete.clone().delete(exchange)),
    );
    http.add(
        Route::at("/api/rh-trex/v1/openapi")
            .on(Method::GET, async |_| Ok(json_text(StatusCode::OK, openapi::DOCUMENT))),
    );
}

/// A dinosaur to create. The database sets everything else, so other members are not read.
#[derive(Deserialize)]
struct New {
    id: Option<String>,
    species: Option<String>,
}

#[derive(Deserialize)]
struct Patch {
    species: Option<String>,
}

fn resource(status: StatusCode, row: &str) -> Answered {
    let flat = flat(row).map_err(|error| Error::Internal(error.into()))?;
    let mut response = json(status, &flat);
    if status == StatusCode::CREATED {
        let place = format!("/api/rh-trex/v1/dinosaurs/{}", utf8_percent_encode(&flat.id, NON_ALPHANUMERIC));
        if let Ok(place) = HeaderValue::from_str(&place) {
            response.headers_mut().insert(header::LOCATION, place);
        }
    }
    Ok(response)
}

impl Rest {
    async fn get(self: Arc<Self>, exchange: Exchange) -> Answered {
        let id = exchange.parameter("id")?;
        let row = self.cases.get(&exchange.call, &self.kind, rules::id(&id)?).await?;
        resource(StatusCode::OK, &row)
    }

    async fn create(self: Arc<Self>, exchange: Exchange) -> Answered {
        let call = exchange.call.clone();
        let New { id, species } = exchange.json().await?;
        if id.is_some_and(|id| !id.is_empty()) {
            return Err(Error::invalid("id", "must be empty: it is given here").into());
        }
        let species = species.unwrap_or_default();
        let species = rules::new_species(&species)?;
        let row = self.cases.create(&call, &self.kind, &[("species", species)]).await?;
        resource(StatusCode::CREATED, &row)
    }

    async fn update(self: Arc<Self>, exchange: Exchange) -> Answered {
        let (call, id) = (exchange.call.clone(), exchange.parameter("id")?);
        let Patch { species } = exchange.json().await?;
        let id = rules::id(&id)?;
        let row = match species {
            Some(species) if species.is_empty() => {
                return Err(Problem::from(Error::invalid("species", "cannot be empty"))
                    .saying("species cannot be empty"));
            }
            Some(species) => {
                let species = rules::species(&species)?;
                self.cases.update(&call, &self.kind, id, &[("species", species)]).await?
            }
            None => self.cases.update(&call, &self.kind, id, &[]).await?,
        };
        resource(StatusCode::OK, &row)
    }

    async fn delete(self: Arc<Self>, exchange: Exchange) -> Answered {
        let id = exchange.parameter("id")?;
        self.cases.delete(&exchange.call, &self.kind, rules::id(&id)?).await?;
        Ok(with_status(StatusCode::NO_CONTENT, HttpBody::empty()))
    }

    async fn list(self: Arc<Self>, exchange: Exchange) -> Answered {
        let query = exchange.query()?;
        let fields = fields(&query)?;
        let (search, order_by) = (query.get("search")?, query.get("orderBy")?);
        let request = ListRequest {
            paging: paging(&query)?,
            search: search.unwrap_or_default(),
            order_by: order_by.unwrap_or_default(),
            ..ListRequest::default()
        };
        let listed = self.cases.list(&exchange.call, &self.kind, request).await.map_err(wrongly_put)?;
        // A page may be large, and the thread has streams to serve.
        let written = tokio::task::spawn_blocking(move || written(&listed, fields.as_deref())).await;
        let text = written.map_err(|error| Error::Internal(error.into()))??;
        Ok(json_text(StatusCode::OK, text))
    }
}

/// Which page a request wants. A value out of bounds counts as the bound.
fn paging(query: &Query) -> Result<Paging, Problem> {
    let number = |name| query.value::<i32>(name, "must be a number");
    let (page, size) = (number("page")?.unwrap_or(1), number("size")?.unwrap_or(DEFAULT_SIZE));
    let size = if (0..=LARGEST_SIZE).contains(&size) { size } else { LARGEST_SIZE };
    Ok(Paging { page: page.max(1), size })
}

/// The fields that a request wants; `None`: all.
fn fields(query: &Query) -> Result<Option<Vec<String>>, Problem> {
    let wanted: Vec<_> = query.list("fields").map(|name| name.trim().to_owned()).collect();
    match wanted.iter().find(|name| !FIELDS.contains(&name.as_str())) {
        Some(name) => {
            let rule = format!("there is no field {name}; there are {}", FIELDS.join(", "));
            Err(wrong("fields", &rule).upstream(8))
        }
        None => Ok((!wanted.is_empty()).then_some(wanted)),
    }
}

/// The upstream service has a special code for a search that it does not understand.
fn wrongly_put(error: Error) -> Problem {
    match &error {
        Error::Invalid(violation) if violation.field == "search" => {
            let message = format!("Failed to parse search query: {}", violation.rule);
            Problem::from(error).upstream(23).saying(message)
        }
        Error::Invalid(_) => Problem::from(error).upstream(21),
        _ => error.into(),
    }
}

/// A page as clients of the upstream service read it.
fn written(listed: &Listed, fields: Option<&[String]>) -> Result<Vec<u8>, Error> {
    #[derive(Serialize)]
    struct List<T> {
        kind: &'static str,
        page: i32,
        size: usize,
        total: i64,
        items: Vec<T>,
    }
    let flat = listed.rows.iter().map(|row| flat(row)).collect::<Result<Vec<_>, _>>();
    let items = flat.map_err(|error| Error::Internal(error.into()))?;
    let (kind, page, size, total) = ("DinosaurList", listed.paging.page, items.len(), listed.total);
    let text = match fields {
        None => serde_json::to_vec(&List { kind, page, size, total, items }),
        Some(fields) => {
            let items = items.into_iter().map(|item| chosen(item, fields)).collect();
            serde_json::to_vec(&List { kind, page, size, total, items })
        }
    };
    text.map_err(|error| Error::Internal(error.into()))
}

/// These fields of a dinosaur, and its id.
fn chosen(flat: Flat, fields: &[String]) -> Map<String, Value> {
    let Flat { id, kind, href, created_at, updated_at, species } = flat;
    let all = [
        ("id", Some(id)),
        ("kind", Some(kind)),
        ("href", Some(href)),
        ("created_at", created_at),
        ("updated_at", updated_at),
        ("species", Some(species)),
    ];
    let wanted =
        all.into_iter().filter(|(name, _)| *name == "id" || fields.iter().any(|field| field == name));
    wanted.filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect()
}
