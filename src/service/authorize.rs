//! The door that every use case passes. What the use cases work with lies behind it: none of it can be had
//! without a [`Grant`], so that a use case that forgets the door does not compile. A grant says what may be
//! seen, as a value that has to be taken.

mod sights;
mod usage;

pub use crate::auth::Action;
use crate::{
    auth::{Over, Policy, PolicyCell, Principal},
    call::Call,
    catalog::{Attached, Catalog, Kind},
    error::Error,
    model::{KindName, KindRef, TableName, filter::Sight},
};
use sights::Sights;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};
pub(super) use usage::OpenWatch;
use usage::Usage;

/// Says that a call may do something, and what it may see. The [`Door`] makes it, and nobody else can.
#[derive(Debug)]
pub(super) struct Grant {
    sight: Sight,
    /// Names the sight to a client, so that it cannot go on under another; `None`: there is no policy.
    mark: Option<String>,
}

impl Grant {
    /// What may be seen.
    pub(super) fn sight(&self) -> &Sight {
        &self.sight
    }

    /// What names the sight to a client; empty: there is no policy.
    pub(super) fn mark(&self) -> &str {
        self.mark.as_deref().unwrap_or_default()
    }

    /// For what shows rows as they are: it needs a grant of all of them.
    pub(super) fn of_everything(self) -> Result<Self, Error> {
        match self.sight {
            Sight::Whole => Ok(self),
            Sight::Part(_) => {
                Err(denied("this shows whole rows, and needs a rule without rows, hide and show"))
            }
        }
    }
}

fn denied(why: &'static str) -> Error {
    Error::Denied { why: why.into(), revoked: false }
}

/// Lets calls in, or says why not. Cheap to clone: clones are one door.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    policy: PolicyCell,
    catalog: Catalog,
    sights: Sights,
    usage: Usage,
    /// With which sights are named to clients.
    secret: OnceLock<[u8; 32]>,
}

impl Door {
    /// To these kinds, by this policy.
    pub fn new(policy: PolicyCell, catalog: Catalog) -> Self {
        let (sights, usage) = (Sights::default(), Usage::default());
        Self(Arc::new(Inner { policy, catalog, sights, usage, secret: OnceLock::new() }))
    }

    /// Sets what sights are named with. The first stands; before it, nobody who is under a policy is let in.
    pub fn share(&self, secret: [u8; 32]) {
        let _ = self.0.secret.set(secret);
    }

    /// Whether there is a policy.
    pub fn is_guarded(&self) -> bool {
        self.0.policy.is_set()
    }

    /// Whether a call may do this with resources of this kind; `None`: it is about no kind, or about all.
    ///
    /// # Errors
    ///
    /// It may not, or it has done so too often.
    pub(super) fn authorize(
        &self,
        call: &Call,
        action: Action,
        kind: Option<&KindName>,
    ) -> Result<Grant, Error> {
        let (operation, shown) = (call.operation(), kind.map(KindName::as_str));
        tracing::trace!(operation, actor = call.actor(), action = action.name(), kind = shown, "asked");
        let Some((_, policy)) = self.0.policy.get() else {
            return Ok(Grant { sight: Sight::Whole, mark: None });
        };
        let principal =
            call.principal().ok_or_else(|| denied("nobody is known to call, and may do nothing"))?;
        self.0.usage.count_call(principal, policy.limits(principal))?;
        self.grant(call, (&policy, principal), (action, kind))
    }

    /// What a policy grants, which may be asked for as often as one likes.
    fn grant(
        &self,
        call: &Call,
        (policy, principal): (&Policy, &Arc<Principal>),
        (action, kind): (Action, Option<&KindName>),
    ) -> Result<Grant, Error> {
        let secret = self.0.secret.get().ok_or(UNREADY)?;
        match self.look(policy, principal, action, kind) {
            Ok(sight) => {
                self.hold(call, principal, (action, kind), &sight);
                let mark = Some(sights::mark(secret, kind, &sight));
                Ok(Grant { sight, mark })
            }
            Err(why) => {
                let (operation, kind) = (call.operation(), kind.map(KindName::as_str));
                tracing::info!(operation, actor = call.actor(), action = action.name(), kind, why, "denied");
                Err(Error::Denied { why: why.into(), revoked: false })
            }
        }
    }

    /// Lets in a call that asks what there is. Of what is found it may be told what it [`Door::may`] use.
    pub(super) fn knock(&self, call: &Call) -> Result<Grant, Error> {
        if self.is_guarded() && call.principal().is_none() {
            return Err(denied("nobody is known to call, and may do nothing"));
        }
        Ok(Grant { sight: Sight::Whole, mark: None })
    }

    /// The kinds with which a call may do this, if it may see all of their rows.
    pub(super) fn authorize_each(
        &self,
        call: &Call,
        action: Action,
    ) -> Result<(Grant, Vec<KindName>), Error> {
        let (knock, kinds) = (self.knock(call)?, self.0.catalog.kinds());
        let (policy, principal) = (self.0.policy.get(), call.principal());
        let whole = |kind: &&KindName| match (&policy, principal) {
            (Some((_, policy)), Some(principal)) => {
                let grant = self.grant(call, (policy, principal), (action, Some(kind)));
                grant.and_then(Grant::of_everything).is_ok()
            }
            (policy, _) => policy.is_none(),
        };
        match kinds.names().filter(whole).cloned().collect::<Vec<_>>() {
            kinds if kinds.is_empty() => {
                Err(denied("no rule of the policy allows that of any kind, with all of its rows"))
            }
            kinds => Ok((knock, kinds)),
        }
    }

    /// Lets in a call that attaches a table, or ends that.
    pub(super) fn authorize_table(&self, call: &Call, table: &TableName) -> Result<Grant, Error> {
        match self.may(call, Action::Admin, KindRef::Table(table)) {
            true => self.knock(call),
            false => Err(denied("no rule of the policy allows `admin` of that table")),
        }
    }

    /// Whether a call may do this with some kind of this name, known or not, and whatever it may see of it.
    /// To ask counts as nothing.
    pub(super) fn may(&self, call: &Call, action: Action, kind: KindRef<'_>) -> bool {
        let Some((_, policy)) = self.0.policy.get() else { return true };
        call.principal()
            .is_some_and(|principal| policy.granting(principal, action, Some(kind)).next().is_some())
    }

    /// What a call may see of a table's description: of what it may read at all.
    pub(super) fn shown(&self, call: &Call, kind: &Kind) -> Option<Sight> {
        let Some((_, policy)) = self.0.policy.get() else { return Some(Sight::Whole) };
        let principal = call.principal()?;
        let actions = [Action::List, Action::Get, Action::Watch];
        actions.into_iter().find_map(|action| self.look(&policy, principal, action, Some(kind.name())).ok())
    }

    /// A place among the watches that a principal may have open.
    pub(super) fn open_watch(&self, call: &Call) -> Result<Option<OpenWatch>, Error> {
        match (self.0.policy.get(), call.principal()) {
            (Some((_, policy)), Some(principal)) => {
                self.0.usage.open_watch(principal, policy.limits(principal)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A table as it is seen, without the columns that are not.
    pub(super) fn reduced(&self, attached: &Arc<Attached>, sight: &Sight) -> Arc<Attached> {
        match sight.hidden() {
            [] => attached.clone(),
            hidden => self.0.sights.reduced(attached, hidden),
        }
    }

    /// What a principal may see of a kind, or why nothing.
    fn look(
        &self,
        policy: &Policy,
        principal: &Principal,
        action: Action,
        kind: Option<&KindName>,
    ) -> Result<Sight, &'static str> {
        const NOTHING: &str = "no rule of the policy allows that; `trex acl check` explains it";
        let Some(name) = kind else {
            return match policy.granting(principal, action, None).next() {
                Some(_) => Ok(Sight::Whole),
                None => Err(NOTHING),
            };
        };
        let kinds = self.0.catalog.kinds();
        let kind = kinds.get(name.as_str()).ok_or(NOTHING)?;
        let granting = policy.granting(principal, action, Some(kind_ref(kind)));
        self.0.sights.of(kind, principal, granting)?.ok_or(NOTHING)
    }

    /// Ends the call's stream when what was granted is not granted any more.
    fn hold(
        &self,
        call: &Call,
        principal: &Arc<Principal>,
        (action, kind): (Action, Option<&KindName>),
        sight: &Sight,
    ) {
        let Some(term) = call.term() else { return };
        let (door, principal, kind, sight) =
            (Arc::downgrade(&self.0), principal.clone(), kind.cloned(), sight.clone());
        let seen = AtomicU64::new(self.version());
        term.stands_on(move || {
            let door = Self(door.upgrade()?);
            let version = door.version();
            if seen.load(Ordering::Relaxed) == version {
                return None;
            }
            let over = door.over(&principal, action, kind.as_ref(), &sight);
            if over.is_none() {
                seen.store(version, Ordering::Relaxed);
            }
            over
        });
    }

    /// Changes with the policy and with the kinds.
    fn version(&self) -> u64 {
        (self.0.policy.version() << 40) + self.0.catalog.kinds().version()
    }

    fn over(
        &self,
        principal: &Principal,
        action: Action,
        kind: Option<&KindName>,
        sight: &Sight,
    ) -> Option<Over> {
        let (_, policy) = self.0.policy.get()?;
        // The streams of a kind that went end for that.
        if kind.is_some_and(|kind| self.0.catalog.kinds().get(kind.as_str()).is_none()) {
            return None;
        }
        match self.look(&policy, principal, action, kind) {
            Err(_) => Some(Over::GrantGone),
            Ok(now) => (!sights::is_same(&now, sight)).then_some(Over::PolicyChanged),
        }
    }
}

const UNREADY: Error = Error::Unavailable {
    why: "the hub has not seen its database yet",
    retry_after: std::time::Duration::from_secs(1),
};

/// What those are told who may see a part.
pub(super) trait Telling {
    /// An error, without what it says of rows that are not seen.
    fn told(&self, error: Error) -> Error;
}

impl Telling for Sight {
    fn told(&self, error: Error) -> Error {
        match error {
            Error::Refused { sqlstate, .. } if !self.is_whole() && sqlstate.starts_with("23") => {
                Error::Refused { sqlstate, constraint: None, message: "a constraint of the table".to_owned() }
            }
            error => error,
        }
    }
}

/// What a kind is for patterns.
pub(super) fn kind_ref(kind: &Kind) -> KindRef<'_> {
    match &kind.attached {
        Some(attached) => KindRef::Table(&attached.table.name),
        None => KindRef::Compiled(kind.name().as_str()),
    }
}

/// What lies behind the door.
#[derive(Debug, Clone)]
pub(super) struct Guarded<T>(T);

impl<T> Guarded<T> {
    /// Puts it there.
    pub(super) fn new(inner: T) -> Self {
        Self(inner)
    }

    /// Hands it to a call that came through the door.
    pub(super) fn open(&self, _: &Grant) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests;
