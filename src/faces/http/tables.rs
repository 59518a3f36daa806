//! Attached tables, and their rows as JSON objects.

use super::{
    body::{HttpBody, json, with_status},
    conditional::{IF_MATCH, Tag, has_changed},
    problem::Problem,
    query::Query,
    routes::{Answered, Exchange, Route},
    watch::quotes,
};
use crate::{
    call::Call,
    catalog::Attached,
    error::Error,
    service::{RowsRequest, Seen, UseCases},
    store::TableRow,
};
use http::{HeaderValue, Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use std::sync::Arc;

/// The routes.
pub(super) fn routes(cases: &UseCases) -> Vec<Route> {
    let with = || Tables(cases.clone());
    let (list, describe, rows, create) = (with(), with(), with(), with());
    let (get, update, delete) = (with(), with(), with());
    vec![
        Route::at("/v1/tables").on(Method::GET, move |exchange| list.clone().list(exchange)),
        Route::at("/v1/tables/{table}").on(Method::GET, move |exchange| describe.clone().describe(exchange)),
        Route::at("/v1/tables/{table}/rows")
            .on(Method::GET, move |exchange| rows.clone().rows(exchange))
            .on(Method::POST, move |exchange| create.clone().create(exchange)),
        Route::at("/v1/tables/{table}/rows/{id}")
            .on(Method::GET, move |exchange| get.clone().get(exchange))
            .on(Method::PATCH, move |exchange| update.clone().update(exchange))
            .on(Method::DELETE, move |exchange| delete.clone().delete(exchange)),
    ]
}

/// A table as its description shows it.
pub(super) fn described(attached: &Attached) -> Value {
    let table = &attached.table;
    let columns = table.visible().map(|column| {
        let mut described = json!({
            "name": column.name,
            "type": column.type_name,
            "number": column.number,
            "nullable": column.nullable,
            "generated": column.generated,
        });
        if !column.enum_labels.is_empty() {
            described["enum_labels"] = json!(column.enum_labels);
        }
        if let Some(comment) = &column.comment {
            described["comment"] = json!(comment);
        }
        described
    });
    let mut described = json!({
        "name": table.name.to_string(),
        "id": table.id,
        "schema_version": table.schema_version.to_string(),
        "columns": columns.collect::<Vec<_>>(),
        "key": table.key,
        "attached_revision": table.attached_revision.to_string(),
    });
    if let Some(comment) = &table.comment {
        described["comment"] = json!(comment);
    }
    described
}

/// How a request wants to see rows.
fn seen(query: &Query) -> Result<Seen, Problem> {
    let columns = query.list("columns").map(str::to_owned).collect();
    Ok(Seen { columns, quote_numbers: quotes(query.get("numbers")?.unwrap_or_default())? })
}

/// The same without a choice of columns, for one who changes a row.
fn seen_whole(exchange: &Exchange) -> Result<Seen, Problem> {
    let query = exchange.query()?;
    query.only(&["numbers"])?;
    seen(&query)
}

/// A row in a list.
#[derive(Serialize)]
struct Listed {
    resource_id: String,
    row: Box<RawValue>,
}

fn raw(json: String) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(json).map_err(|error| Error::Internal(error.into()))
}

#[derive(Clone)]
struct Tables(UseCases);

impl Tables {
    async fn list(self, exchange: Exchange) -> Answered {
        let tables = self.0.tables(&exchange.call).await?;
        let tables: Vec<_> = tables.iter().map(|attached| described(attached)).collect();
        Ok(json(StatusCode::OK, &json!({ "tables": tables })))
    }

    async fn describe(self, exchange: Exchange) -> Answered {
        let attached = self.0.table(&exchange.call, &exchange.parameter("table")?).await?;
        let described = described(&attached);
        // A comment is no part of the version of a schema.
        let tag = Tag::new(described.to_string().as_bytes(), "");
        let known = tag.if_known(&exchange);
        Ok(known.unwrap_or_else(|| tag.on(json(StatusCode::OK, &described))))
    }

    async fn rows(self, exchange: Exchange) -> Answered {
        let query = exchange.query()?;
        query.only(&["filter", "order_by", "columns", "numbers", "page_size", "page_token", "count"])?;
        let text = |name| Ok::<_, Problem>(query.get(name)?.unwrap_or_default().to_owned());
        let request = RowsRequest {
            filter: text("filter")?,
            order_by: text("order_by")?,
            seen: seen(&query)?,
            page_size: query.value("page_size", "must be a number of rows")?.unwrap_or_default(),
            page_token: text("page_token")?,
            count: query.value("count", "must be true or false")?.unwrap_or_default(),
        };
        let table = exchange.parameter("table")?;
        let listed = self.0.list_rows(&exchange.call, &table, &request).await?;
        let row =
            |row: TableRow| Ok::<_, Error>(Listed { resource_id: row.resource_id, row: raw(row.json)? });
        #[derive(Serialize)]
        struct List<'a> {
            rows: Vec<Listed>,
            next_page_token: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            total_size: Option<String>,
            epoch: &'a str,
            revision: String,
        }
        let list = List {
            rows: listed.page.rows.into_iter().map(row).collect::<Result<_, _>>()?,
            next_page_token: listed.page.next_page_token.unwrap_or_default(),
            total_size: listed.page.total.map(|total| total.to_string()),
            epoch: listed.epoch.as_str(),
            revision: listed.revision.to_string(),
        };
        Ok(json(StatusCode::OK, &list))
    }

    async fn get(self, exchange: Exchange) -> Answered {
        let query = exchange.query()?;
        query.only(&["columns", "numbers"])?;
        let shown = self.shown(&exchange, seen(&query)?).await?;
        let row = self.whole(&exchange.call, &shown, &exchange.parameter("id")?).await?;
        if let Some(known) = shown.tag(&row).if_known(&exchange) {
            return Ok(known);
        }
        shown.answer(StatusCode::OK, row)
    }

    async fn create(self, exchange: Exchange) -> Answered {
        if exchange.header_list("idempotency-key").is_some() {
            return Err(Error::invalid("Idempotency-Key", NO_IDEMPOTENCY_KEYS).into());
        }
        let shown = self.shown(&exchange, seen_whole(&exchange)?).await?;
        let call = exchange.call.clone();
        let row: Box<RawValue> = exchange.json().await?;
        let made = self.0.create_row(&call, &shown.table, row.get(), &Seen::default()).await?;
        let part = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let place = format!("/v1/tables/{}/rows/{}", part(&shown.table), part(&made.resource_id));
        let mut response = shown.answer(StatusCode::CREATED, made)?;
        if let Ok(place) = HeaderValue::from_str(&place) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        Ok(response)
    }

    async fn update(self, exchange: Exchange) -> Answered {
        let shown = self.shown(&exchange, seen_whole(&exchange)?).await?;
        let (call, id) = (exchange.call.clone(), exchange.parameter("id")?);
        let expected = self.expected(&exchange, &shown, &id).await?;
        let row: Box<RawValue> = exchange.json().await?;
        let change = (&*id, row.get());
        let changed =
            self.0.update_row(&call, &shown.table, change, expected.as_deref(), &Seen::default()).await;
        shown.answer(StatusCode::OK, changed.map_err(unexpected)?)
    }

    async fn delete(self, exchange: Exchange) -> Answered {
        let shown = self.shown(&exchange, seen_whole(&exchange)?).await?;
        let id = exchange.parameter("id")?;
        let expected = self.expected(&exchange, &shown, &id).await?;
        let deleted = self.0.delete_row(&exchange.call, &shown.table, &id, expected.as_deref()).await;
        deleted.map_err(unexpected)?;
        Ok(with_status(StatusCode::NO_CONTENT, HttpBody::empty()))
    }

    async fn shown(&self, exchange: &Exchange, seen: Seen) -> Result<Shown, Problem> {
        let table = exchange.parameter("table")?;
        let attached = self.0.table(&exchange.call, &table).await?;
        Ok(Shown { table, attached, seen })
    }

    /// A row with all its columns: that is what it has a version of.
    async fn whole(&self, call: &Call, shown: &Shown, id: &str) -> Result<TableRow, Error> {
        shown.check()?;
        self.0.get_row(call, &shown.table, id, &Seen::default()).await
    }

    /// The row that must still be there, if the request says which it expects.
    async fn expected(
        &self,
        exchange: &Exchange,
        shown: &Shown,
        id: &str,
    ) -> Result<Option<String>, Problem> {
        let Some(expected) = exchange.header_list(IF_MATCH.as_str()) else { return Ok(None) };
        let row = self.whole(&exchange.call, shown, id).await?;
        if shown.tag(&row).is_expected(&expected) { Ok(Some(row.json)) } else { Err(has_changed()) }
    }
}

/// A promise that is not kept is not to be heard in silence.
const NO_IDEMPOTENCY_KEYS: &str =
    "is not supported: send the row with its key, and a POST that comes twice is answered with 409";

fn unexpected(error: Error) -> Problem {
    match error {
        Error::RowChanged => has_changed(),
        error => error.into(),
    }
}

/// How the rows of a table are shown.
struct Shown {
    table: String,
    attached: Arc<Attached>,
    seen: Seen,
}

impl Shown {
    fn check(&self) -> Result<(), Error> {
        let is_column = |name: &String| self.attached.table.visible().any(|column| column.name == *name);
        match self.seen.columns.iter().find(|name| !is_column(name)) {
            Some(name) => {
                let rule = format!("{} has no column {name}", self.attached.table.name);
                Err(Error::invalid("columns", rule))
            }
            None => Ok(()),
        }
    }

    fn tag(&self, row: &TableRow) -> Tag {
        Tag::new(row.json.as_bytes(), &format!("{:?}", self.seen))
    }

    fn answer(&self, status: StatusCode, row: TableRow) -> Answered {
        let tag = self.tag(&row);
        let projection = self.attached.projection(&self.seen.columns, self.seen.quote_numbers);
        let text = if projection.is_whole() {
            row.json
        } else {
            let mut text = Vec::with_capacity(row.json.len());
            projection.write(&row.json, &mut text).map_err(|error| Error::Internal(error.into()))?;
            String::from_utf8(text).map_err(|error| Error::Internal(error.into()))?
        };
        Ok(tag.on(super::json_text(status, text)))
    }
}
