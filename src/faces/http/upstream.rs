//! The resources by which the upstream service describes itself.

use super::{body::json, problem::Problem, routes::Route};
use http::{Method, StatusCode};
use serde_json::{Value, json};

/// Its errors: the code, its meaning, and the status.
const ERRORS: [(u16, &str); 12] = [
    (4, "Forbidden to perform this action"),
    (6, "An entity with the specified unique values already exists"),
    (7, "Resource not found"),
    (8, "General validation failure"),
    (9, "Unspecified error"),
    (10, "HTTP Method not implemented for this endpoint"),
    (11, "Account is unauthorized to perform this action"),
    (15, "Account authentication could not be verified"),
    (17, "Unable to read request body"),
    (21, "Bad request"),
    (23, "Failed to parse search query"),
    (26, "Database advisory lock error"),
];

pub(super) fn routes() -> [Route; 3] {
    [
        Route::at("/api/rh-trex").on(Method::GET, async |_| Ok(json(StatusCode::OK, &metadata()))),
        Route::at("/api/rh-trex/v1/errors").on(Method::GET, async |_| {
            let items: Vec<_> = ERRORS.iter().map(error).collect();
            let (size, kind) = (items.len(), "ErrorList");
            let list = json!({ "kind": kind, "page": 1, "size": size, "total": size, "items": items });
            Ok(json(StatusCode::OK, &list))
        }),
        Route::at("/api/rh-trex/v1/errors/{code}").on(Method::GET, async |exchange| {
            let code = exchange.parameter("code")?;
            let found = ERRORS.iter().find(|(known, _)| known.to_string() == code);
            found.map(|found| json(StatusCode::OK, &error(found))).ok_or_else(|| {
                Problem::new(
                    StatusCode::NOT_FOUND,
                    "NOT_FOUND",
                    "NOT_FOUND",
                    format!("there is no error {code}"),
                )
            })
        }),
    ]
}

fn metadata() -> Value {
    json!({
        "id": "trex",
        "kind": "API",
        "href": "/api/rh-trex",
        "version": env!("CARGO_PKG_VERSION"),
        "build_time": "",
    })
}

fn error((code, reason): &(u16, &str)) -> Value {
    json!({
        "id": code.to_string(),
        "kind": "Error",
        "href": format!("/api/rh-trex/v1/errors/{code}"),
        "code": format!("rh-trex-{code}"),
        "reason": reason,
    })
}
