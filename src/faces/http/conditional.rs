//! Conditional requests (RFC 9110, section 13): what a client has already is not sent again, and what it has
//! not seen is not overwritten.

use super::{
    body::{HttpBody, with_status},
    problem::Problem,
    routes::Exchange,
};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};

/// An answer's version. It names what the answer is of, and how that is shown: only the former matters to one
/// who changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    thing: String,
    form: String,
}

impl Tag {
    /// Of something, shown in a form.
    pub(super) fn new(thing: &[u8], form: &str) -> Self {
        Self { thing: digest(thing), form: digest(form.as_bytes()) }
    }

    fn text(&self) -> String {
        format!("\"{}.{}\"", self.thing, self.form)
    }

    /// An answer with this version, which whoever keeps it has to ask about each time.
    pub(super) fn on(&self, mut response: Response<HttpBody>) -> Response<HttpBody> {
        const SEEN_BY: &str = "Authorization, Cookie, Accept";
        let headers = response.headers_mut();
        headers.extend(HeaderValue::from_str(&self.text()).ok().map(|tag| (header::ETAG, tag)));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.append(header::VARY, HeaderValue::from_static(SEEN_BY));
        response
    }

    /// The answer to a client that has this version already.
    pub(super) fn if_known(&self, exchange: &Exchange) -> Option<Response<HttpBody>> {
        let known = exchange.header_list(header::IF_NONE_MATCH.as_str())?;
        let is_known = tags(&known).any(|tag| tag == "*" || tag.trim_start_matches("W/") == self.text());
        is_known.then(|| self.on(with_status(StatusCode::NOT_MODIFIED, HttpBody::empty())))
    }

    /// Whether this is what a client has seen that wants to change it, as its `If-Match` says.
    pub(super) fn is_expected(&self, expected: &str) -> bool {
        let is_it = |tag: &str| tag.trim_matches('"').split('.').next() == Some(&self.thing);
        tags(expected).any(|tag| tag == "*" || (tag.starts_with('"') && is_it(tag)))
    }
}

/// Why nothing was changed.
pub(super) fn has_changed() -> Problem {
    let message = "the row is another by now than If-Match says; get it again";
    Problem::new(StatusCode::PRECONDITION_FAILED, "ABORTED", "ROW_CHANGED", message)
}

/// The header that says what a client expects.
pub(super) const IF_MATCH: HeaderName = header::IF_MATCH;

/// None of ours has a comma within.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_asks_for_the_thing_and_not_for_its_form() {
        let (whole, part) = (Tag::new(b"row", ""), Tag::new(b"row", "columns"));
        assert_ne!(whole, part);
        assert!(whole.is_expected(&part.text()) && whole.is_expected(&format!("\"x\", {}", whole.text())));
        assert!(whole.is_expected("*"));
        let other = Tag::new(b"other", "");
        for wrong in
            [other.text(), String::new(), format!("W/{}", whole.text()), whole.text().replace('"', "")]
        {
            assert!(!whole.is_expected(&wrong), "{wrong}");
        }
    }
}
