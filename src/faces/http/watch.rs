//! What is asked of a watch over HTTP, whether it stands in an address or in a message.

use super::{
    problem::Problem,
    query::{Query, wrong},
};
use crate::{
    broker::Policy,
    model::{ChangeType, Revision},
    service::{Seen, WatchRequest},
    wire::{NO_POLICY, Rendition},
};
use serde::Deserialize;
use std::time::Duration;

/// A stream that is not told how often says this often that it lives, and how far it is.
const BOOKMARKS: Duration = Duration::from_secs(15);

/// What is asked, in the words of its client.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    /// `created`, `updated`, `deleted`; none: all.
    pub types: Vec<String>,
    pub resource_ids: Vec<String>,
    pub filter: String,
    pub columns: Vec<String>,
    /// `quoted` or `as-is`: how long numbers are written.
    pub numbers: String,
    pub previous: bool,
    /// `drop`, `catch-up`, `disconnect`, `latest`.
    pub policy: String,
    pub buffer: u32,
    /// Whether the rows that are there come first.
    pub state: bool,
    /// A position; empty: now.
    pub after: String,
    /// How often, such as `15s`.
    pub bookmarks: String,
}

impl Asked {
    /// The parameters of an address that it is read from.
    pub(super) const PARAMETERS: [&'static str; 12] = [
        "types",
        "resource_ids",
        "filter",
        "columns",
        "numbers",
        "previous",
        "policy",
        "buffer",
        "state",
        "after",
        "bookmarks",
        "last_event_id",
    ];

    /// From the parameters of an address.
    pub(super) fn from_query(query: &Query) -> Result<Self, Problem> {
        query.only(&Self::PARAMETERS)?;
        let text = |name| Ok::<_, Problem>(query.get(name)?.unwrap_or_default().to_owned());
        let flag = |name| Ok::<_, Problem>(query.value(name, "must be true or false")?.unwrap_or_default());
        Ok(Self {
            types: query.list("types").map(str::to_owned).collect(),
            // An id may hold a comma.
            resource_ids: query.all("resource_ids").map(str::to_owned).collect(),
            filter: text("filter")?,
            columns: query.list("columns").map(str::to_owned).collect(),
            numbers: text("numbers")?,
            previous: flag("previous")?,
            policy: text("policy")?,
            buffer: query.value("buffer", "must be a number of events")?.unwrap_or_default(),
            state: flag("state")?,
            after: text("after")?,
            bookmarks: text("bookmarks")?,
        })
    }

    /// As the use cases are asked. `resumes` counts for more than what was asked at first.
    pub(super) fn request(
        self,
        rendition: Rendition,
        resumes: Option<Place>,
    ) -> Result<(WatchRequest, Seen), Problem> {
        let after = match self.after.as_str() {
            "" => None,
            text => Some(Place::parse("after", text)?),
        };
        let initial_state = self.state && resumes.is_none();
        let place = resumes.or(after);
        let seen = Seen { columns: self.columns, quote_numbers: quotes(&self.numbers)? };
        let request = WatchRequest {
            types: self.types.iter().map(|name| change_type(name)).collect::<Result<_, _>>()?,
            resource_ids: self.resource_ids,
            filter: self.filter,
            epoch: place.as_ref().map(|place| place.epoch.clone()).unwrap_or_default(),
            mark: place.as_ref().map(|place| place.mark.clone()).unwrap_or_default(),
            after: place.map(|place| place.revision),
            rendition,
            policy: policy(&self.policy)?,
            include_previous: self.previous,
            buffer: self.buffer.into(),
            initial_state,
            bookmarks: Some(bookmarks(&self.bookmarks)?),
            ..WatchRequest::default()
        };
        Ok((request, seen))
    }
}

/// A position: where a reader stands, as ids of events and `after` say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub epoch: String,
    pub revision: Revision,
    /// Names what could be seen there; empty: not said, or all.
    pub mark: String,
}

impl Place {
    /// Reads `epoch:revision`, which a policy may follow.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, Problem> {
        let mut parts = text.split(':');
        let (epoch, revision) = (parts.next(), parts.next().and_then(|number| number.parse().ok()));
        let (mark, more) = (parts.next().filter(|mark| *mark != NO_POLICY), parts.next());
        match (epoch.filter(|epoch| !epoch.is_empty()), revision, more) {
            (Some(epoch), Some(revision), None) => {
                let mark = mark.unwrap_or_default().to_owned();
                Ok(Self { epoch: epoch.to_owned(), revision: Revision::new(revision), mark })
            }
            _ => Err(wrong(name, "must be a position: epoch:revision")),
        }
    }
}

/// Whether long numbers are quoted: for JavaScript cannot hold them, they are unless a request says
/// otherwise.
pub(super) fn quotes(numbers: &str) -> Result<bool, Problem> {
    match numbers {
        "" | "quoted" => Ok(true),
        "as-is" => Ok(false),
        _ => Err(wrong("numbers", "must be quoted or as-is")),
    }
}

fn change_type(name: &str) -> Result<ChangeType, Problem> {
    match name {
        "created" => Ok(ChangeType::Created),
        "updated" => Ok(ChangeType::Updated),
        "deleted" => Ok(ChangeType::Deleted),
        _ => Err(wrong("types", "there are created, updated and deleted")),
    }
}

fn policy(name: &str) -> Result<Policy, Problem> {
    match name {
        "" | "drop" => Ok(Policy::Drop),
        "catch-up" | "catch_up" => Ok(Policy::CatchUp),
        "disconnect" => Ok(Policy::Disconnect),
        "latest" => Ok(Policy::Latest),
        _ => Err(wrong("policy", "must be drop, catch-up, disconnect or latest")),
    }
}

fn bookmarks(interval: &str) -> Result<Duration, Problem> {
    match interval {
        "" => Ok(BOOKMARKS),
        text => {
            humantime::parse_duration(text).map_err(|_| wrong("bookmarks", "must be a span, such as 15s"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_an_epoch_and_a_revision() {
        let place = Some(Place { epoch: "e".into(), revision: Revision::new(7), mark: String::new() });
        assert_eq!(Place::parse("after", "e:7:m").unwrap().mark, "m");
        for good in ["e:7", "e:7:0", "e:7:"] {
            assert_eq!(Place::parse("after", good).ok(), place, "{good}");
        }
        for bad in ["", "e", "e:", "e:x", ":7", "e:7:0:0", "e:-1", "7"] {
            assert!(Place::parse("after", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_reader_has_seen_counts_for_more_than_what_it_asked_at_first() {
        let asked = |resumes| {
            let query =
                Query::parse("state=true&types=created,deleted&resource_ids=a,b&resource_ids=c").unwrap();
            Asked::from_query(&query).unwrap().request(Rendition::Sse, resumes).unwrap()
        };
        let (request, seen) = asked(None);
        assert!(request.initial_state && request.after.is_none() && seen.quote_numbers);
        assert_eq!(request.types, [ChangeType::Created, ChangeType::Deleted]);
        assert_eq!(
            (request.resource_ids, request.bookmarks),
            (vec!["a,b".into(), "c".into()], Some(BOOKMARKS))
        );
        let (request, _) = asked(Some(Place::parse("id", "e:7:0").unwrap()));
        assert!(!request.initial_state);
        assert_eq!((request.after, &*request.epoch), (Some(Revision::new(7)), "e"));
    }

    #[test]
    fn what_is_misspelt_means_nothing() {
        for bad in [
            "fliter=x",
            "types=snapshot",
            "policy=none",
            "state=maybe",
            "after=7",
            "bookmarks=soon",
            "numbers=x",
        ] {
            let query = Query::parse(bad).unwrap();
            let asked = Asked::from_query(&query).and_then(|asked| asked.request(Rendition::Sse, None));
            assert!(asked.is_err(), "{bad}");
        }
    }
}
