//! The audit trail: written by its controller, read by its service.

use super::{
    DatabaseError, Store,
    controller::{Turn, Unnested, change},
    fault::is_about_encoding,
};
use crate::{
    error::Error,
    model::{AttributedChange, ChangeType, Epoch, Gap, Revision},
};
use std::time::{Duration, SystemTime};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// One row of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditRecord {
    /// A change.
    Change(AttributedChange),
    /// Changes up to this revision may be missing.
    Gap {
        /// The history that begins or goes on here.
        epoch: Epoch,
        /// Where.
        revision: Revision,
        /// When it was found.
        found_at: SystemTime,
    },
}

impl AuditRecord {
    /// Where it stands in the trail.
    pub fn place(&self) -> AuditPlace {
        let (revision, epoch) = match self {
            Self::Change(change) => (change.revision, &change.epoch),
            Self::Gap { revision, epoch, .. } => (*revision, epoch),
        };
        AuditPlace { revision, epoch: epoch.clone() }
    }
}

/// A place in the trail, which is in the order of revisions, and of epochs where two have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPlace {
    /// The revision.
    pub revision: Revision,
    /// The history that it belongs to.
    pub epoch: Epoch,
}

/// Which records are wanted; `None` matches any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this resource.
    pub resource_id: Option<String>,
    /// Made by this actor.
    pub actor: Option<String>,
    /// Captured then or later.
    pub from: Option<SystemTime>,
    /// Captured before.
    pub until: Option<SystemTime>,
}

const COLUMNS: &str =
    "epoch, revision, kind, resource_id, type, after::text, before::text, captured_at, actor, origin, trace";

impl Turn<'_> {
    /// Writes changes into the trail. A change that is there already is an error: the position moves in this
    /// transaction.
    pub async fn record(&self, changes: &[AttributedChange]) -> Result<(), DatabaseError> {
        let columns = Unnested::new(changes.iter());
        let sql = format!(
            "INSERT INTO hub.audit ({}) SELECT {} FROM {}",
            Unnested::COLUMNS,
            Unnested::VALUES,
            Unnested::ROWS
        );
        self.query(&sql, &columns.parameters()).await.map(drop)
    }

    /// Records in the trail that changes may be missing up to a place.
    pub async fn record_gap(&self, gap: &Gap) -> Result<(), DatabaseError> {
        let sql = "INSERT INTO hub.audit (revision, epoch, kind, resource_id, type, captured_at)
                   VALUES ($1, $2, '', '', 0, clock_timestamp())";
        let (revision, epoch) = (gap.resume.to_sql(), gap.epoch.as_str());
        self.query(sql, &[(&revision, Type::INT8), (&epoch, Type::TEXT)]).await.map(drop)
    }
}

impl Store {
    /// Up to where the trail is complete, and in which history; `None`: no trail was ever kept.
    pub async fn audited(&self, controller: &str) -> Result<Option<AuditPlace>, Error> {
        let sql = "SELECT revision, epoch FROM hub.controller WHERE name = $1 AND epoch <> ''";
        let rows = self.run("audited", sql, &[&controller]).await?;
        let place = |row: &Row| {
            Ok(AuditPlace {
                revision: Revision::from_sql(row.try_get(0)?),
                epoch: Epoch::new(row.try_get(1)?),
            })
        };
        rows.first().map(place).transpose()
    }

    /// The gap with which the trail of a history begins.
    pub async fn audit_gap(&self, epoch: &Epoch) -> Result<Option<AuditRecord>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM hub.audit WHERE type = 0 AND epoch = $1 ORDER BY revision LIMIT 1"
        );
        let rows = self.run("audit_gap", &sql, &[&epoch.as_str()]).await?;
        rows.first().map(record).transpose()
    }

    /// At most `most` records, newest first, older than `before`.
    pub async fn audit_list(
        &self,
        filter: &AuditFilter,
        before: Option<&AuditPlace>,
        most: u32,
    ) -> Result<Vec<AuditRecord>, Error> {
        let mut wanted = Conditions::of(filter, "");
        let place = before.map(|place| (place.revision.to_sql(), place.epoch.as_str()));
        if let Some((revision, epoch)) = &place {
            wanted.add("(revision, epoch) < ({}, {})", &[(revision, Type::INT8), (epoch, Type::TEXT)]);
        }
        match self.records("audit_list", wanted, "ORDER BY revision DESC, epoch DESC", most).await {
            // What the database cannot say stands in no record of it.
            Err(error) if is_about_encoding(&error) => Ok(Vec::new()),
            records => records,
        }
    }

    /// At most `most` records after a place and up to a revision, oldest first. Gaps match every query.
    pub async fn audit_after(
        &self,
        filter: &AuditFilter,
        place: &AuditPlace,
        upto: Revision,
        most: u32,
    ) -> Result<Vec<AuditRecord>, Error> {
        let (revision, epoch, upto) = (place.revision.to_sql(), place.epoch.as_str(), upto.to_sql());
        let mut wanted = Conditions::of(filter, " OR type = 0");
        wanted.add_span((&revision, &epoch), &upto);
        match self.records("audit_after", wanted, "ORDER BY revision, epoch", most).await {
            Err(error) if is_about_encoding(&error) => {
                let mut gaps = Conditions::default();
                gaps.add("type = 0", &[]);
                gaps.add_span((&revision, &epoch), &upto);
                self.records("audit_after", gaps, "ORDER BY revision, epoch", most).await
            }
            records => records,
        }
    }

    async fn records(
        &self,
        name: &'static str,
        wanted: Conditions<'_>,
        order: &str,
        most: u32,
    ) -> Result<Vec<AuditRecord>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM hub.audit{} {order} LIMIT {most}", wanted.text);
        let rows = self.run_once(name, &sql, &wanted.values).await?;
        rows.iter().map(record).collect()
    }

    /// Deletes at most `step` of the oldest records that are older than this. Returns how many.
    pub async fn audit_trim(&self, age: Duration, step: u32) -> Result<u64, Error> {
        // Only the oldest by revision are examined: time is nearly in that order.
        let sql = "WITH gone AS (
                     DELETE FROM hub.audit a
                     USING (SELECT o.revision, o.epoch, o.captured_at FROM hub.audit o ORDER BY o.revision,
                       o.epoch LIMIT $2) oldest
                     WHERE a.revision = oldest.revision AND a.epoch = oldest.epoch
                     AND oldest.captured_at < clock_timestamp() - make_interval(secs => $1)
                     RETURNING a.revision)
                   SELECT count(*) FROM gone";
        let rows = self.run("audit_trim", sql, &[&age.as_secs_f64(), &i64::from(step)]).await?;
        let gone: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        Ok(u64::try_from(gone).unwrap_or(0))
    }
}

/// The statement has only the conditions that are asked for: with others in it, switched off by a NULL, no
/// plan would fit.
#[derive(Default)]
struct Conditions<'a> {
    text: String,
    values: Vec<(&'a (dyn ToSql + Sync), Type)>,
}

impl<'a> Conditions<'a> {
    /// `or`: what matches in any case.
    fn of(filter: &'a AuditFilter, or: &str) -> Self {
        let AuditFilter { kind, resource_id, actor, from, until } = filter;
        let mut conditions = Self::default();
        for (column, value) in [("kind", kind), ("resource_id", resource_id), ("actor", actor)] {
            if let Some(value) = value {
                conditions.add(&format!("({column} = {{}}{or})"), &[(value, Type::TEXT)]);
            }
        }
        for (comparison, value) in [(">=", from), ("<", until)] {
            if let Some(value) = value {
                conditions.add(&format!("captured_at {comparison} {{}}"), &[(value, Type::TIMESTAMPTZ)]);
            }
        }
        conditions
    }

    /// After a place, and up to a revision.
    fn add_span(&mut self, (revision, epoch): (&'a i64, &'a &'a str), upto: &'a i64) {
        self.add("(revision, epoch) > ({}, {})", &[(revision, Type::INT8), (epoch, Type::TEXT)]);
        self.add("revision <= {}", &[(upto, Type::INT8)]);
    }

    /// A condition with its values in the places of `{}`.
    fn add(&mut self, condition: &str, values: &[(&'a (dyn ToSql + Sync), Type)]) {
        let mut condition = condition.to_owned();
        for value in values {
            self.values.push(value.clone());
            condition = condition.replacen("{}", &format!("${}", self.values.len()), 1);
        }
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        self.text.push_str(&condition);
    }
}

fn record(row: &Row) -> Result<AuditRecord, Error> {
    let (epoch, revision) = (Epoch::new(row.try_get(0)?), Revision::from_sql(row.try_get(1)?));
    let number: i16 = row.try_get(4)?;
    Ok(match ChangeType::from_number(number.into()) {
        Some(_) => AuditRecord::Change(change(row, 2, epoch, revision)?),
        None => AuditRecord::Gap { epoch, revision, found_at: row.try_get(7)? },
    })
}
