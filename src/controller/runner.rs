//! Takes a controller's turns, unless another hub does.
//!
//! The hub that took the last turn takes the next one as soon as there is something to do. The others look
//! now and then; a hub that finds the same work undone at two looks takes over. This decides only who goes
//! first; safety comes from the lock on the controller's row, which a turn holds.

use super::{Controller, HandlerError, Resources, Settings, turn::Work};
use crate::{
    backoff::Backoff,
    model::{AttributedChange, ChangeType, Epoch, Gap, GapCause, Revision, SchemaChange},
    store::{ControllerConnection, LogPosition, PageBound, SealError, SnapshotRow, Standing, Turn},
};
use futures_util::TryStreamExt;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// A table must be listed within this.
const LISTING_LIMIT: Duration = Duration::from_secs(600);
/// The longest pause after a failure that is not due to one change.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often metrics are looked up that other hubs may have changed.
const SURVEY: Duration = Duration::from_secs(5);

/// How long changes gather before a turn, which costs the server as much as some hundred changes.
const REST: Duration = Duration::from_millis(20);

/// The outcome of an attempt to take a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Another hub has the turn, or there was nothing to read.
    Lost,
    /// It was taken, and there may be more to do.
    More,
    /// It was taken, and there was no more.
    Done,
}

/// Runs a controller until told to stop; a turn in progress is then rolled back.
pub(super) async fn run(
    controller: Arc<dyn Controller>,
    resources: Resources,
    settings: Settings,
    stop: CancellationToken,
) {
    let mut runner = Runner {
        holder: format!("pid {} {}", std::process::id(), uuid::Uuid::now_v7().simple()),
        controller,
        resources,
        settings,
        connection: None,
        mine: None,
        undone: None,
        delivered: false,
        head: Revision::ZERO,
        backoff: Backoff::new(settings.look, LONGEST_PAUSE),
        tidied: None,
        surveyed: None,
    };
    stop.run_until_cancelled(runner.run_for_ever()).await;
}

struct Runner {
    controller: Arc<dyn Controller>,
    resources: Resources,
    settings: Settings,
    /// Names this hub, for people.
    holder: String,
    /// Only a hub that takes the turns has one.
    connection: Option<Arc<ControllerConnection>>,
    /// The turn that comes after the last one that this hub took.
    mine: Option<i64>,
    /// The turn that was waiting at the last look, and that another hub might have taken.
    undone: Option<i64>,
    /// Whether the last turn was for a dead letter: the next one is then for other changes, so that many dead
    /// letters keep nobody waiting.
    delivered: bool,
    /// The newest sealed revision at the last look.
    head: Revision,
    /// After failures.
    backoff: Backoff,
    tidied: Option<Instant>,
    surveyed: Option<Instant>,
}

impl Runner {
    async fn run_for_ever(&mut self) {
        loop {
            match self.look().await {
                Ok(true) => self.backoff.reset(),
                Ok(false) => self.wait().await,
                Err(error) => {
                    let name = self.controller.name();
                    tracing::warn!(controller = name, %error, "a controller is held up");
                    self.resources.metrics.controller(name).held_up();
                    // With whatever it left unfinished.
                    self.connection = None;
                    tokio::time::sleep(self.backoff.next_pause()).await;
                }
            }
        }
    }

    /// Looks where the controller stands, and takes its next turn if it is this hub's. `true`: it did, and
    /// there may be more.
    async fn look(&mut self) -> Result<bool, HandlerError> {
        self.tidy().await?;
        let standing = self.resources.store.standing(self.controller.name()).await?;
        self.head = standing.head;
        self.survey(&standing).await?;
        let turn = Some(standing.turn);
        self.mine = self.mine.filter(|_| self.mine == turn);
        self.resources.metrics.controller(self.controller.name()).active(self.mine.is_some());
        if !standing.has_work() {
            self.undone = None;
            return Ok(false);
        }
        if self.mine != turn && std::mem::replace(&mut self.undone, turn) != turn {
            self.connection = None;
            return Ok(false);
        }
        let outcome = self.take(&standing).await?;
        self.mine = (outcome != Outcome::Lost).then_some(standing.turn + 1);
        Ok(outcome == Outcome::More)
    }

    /// Waits for something to do: the hub that took the last turn for any news, the others until the next
    /// look.
    async fn wait(&self) {
        let look = tokio::time::sleep(self.settings.look);
        match self.resources.broker.era().filter(|_| self.mine.is_some()) {
            Some(era) => {
                tokio::select! {
                    () = era.passes(self.head) => tokio::time::sleep(REST).await,
                    () = look => {}
                }
            }
            None => look.await,
        }
    }

    async fn take(&mut self, standing: &Standing) -> Result<Outcome, HandlerError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Arc::new(ControllerConnection::open(&self.resources.target).await?),
        };
        let taken = if let Some(gap) = standing.gap() {
            self.bridge(&connection, standing, &gap).await?
        } else if standing.due && !(self.delivered && standing.is_behind()) {
            self.delivered = true;
            self.deliver(&connection, standing).await?
        } else {
            self.delivered = false;
            self.advance(&connection, standing).await?
        };
        self.connection = Some(connection);
        Ok(taken)
    }

    /// The changes after the position. They are read before the turn is taken: a hub that freezes over a
    /// large answer must not hold it.
    async fn advance(
        &self,
        connection: &Arc<ControllerConnection>,
        standing: &Standing,
    ) -> Result<Outcome, HandlerError> {
        let (most, kind) = (self.controller.at_a_time(), self.controller.kind());
        // Small enough to be held in memory and sent back in a moment, or the server would take this hub for
        // frozen.
        let bound = PageBound { events: most, ..PageBound::HUB };
        let (epoch, mut end) = (&standing.current, standing.position);
        let rows = match self.resources.feed.replay().page(&mut end, epoch, standing.head, bound, kind).await
        {
            Ok(rows) => rows,
            // Since the look.
            Err(SealError::Compacted { .. } | SealError::EpochChanged { .. }) => return Ok(Outcome::Lost),
            Err(error) => return Err(error.into()),
        };
        let (mut changes, mut before) = (Vec::with_capacity(rows.len()), standing.position);
        for row in &rows {
            let of = row.kind()?;
            let is_wanted = kind.is_none_or(|kind| of == kind);
            let change = is_wanted.then(|| row.attributed(epoch)).transpose()?;
            if let Some(change) = change {
                let begins_anew = || SchemaChange::parse(change.after.as_deref()).begins_anew();
                match change.change {
                    ChangeType::Schema if !begins_anew() => {}
                    ChangeType::Schema if kind.is_some() => {
                        // What comes before it comes first.
                        if before == standing.position {
                            let (after, resume) = (before.revision, change.revision);
                            let gap = Gap {
                                cause: GapCause::State,
                                after,
                                resume,
                                epoch: standing.current.clone(),
                            };
                            return self.bridge(connection, standing, &gap).await;
                        }
                        end = before;
                        break;
                    }
                    _ => changes.push(change),
                }
            }
            before = row.position()?;
        }
        let Some(turn) = self.begin(connection, standing).await? else { return Ok(Outcome::Lost) };
        let work = async {
            self.work(&turn).apply(changes, standing.letters).await?;
            turn.commit_at(end, &standing.current, &self.holder).await.map_err(HandlerError::from)
        };
        awake(connection, work).await?;
        let full = end.revision.get() - standing.position.revision.get() >= u64::from(most);
        Ok(if full || end.revision < standing.head { Outcome::More } else { Outcome::Done })
    }

    /// A dead letter that is due.
    async fn deliver(
        &self,
        connection: &Arc<ControllerConnection>,
        standing: &Standing,
    ) -> Result<Outcome, HandlerError> {
        let Some(letter) = self.resources.store.due_letter(self.controller.name()).await? else {
            return Ok(Outcome::Lost);
        };
        let Some(turn) = self.begin(connection, standing).await? else { return Ok(Outcome::Lost) };
        let work = async {
            if turn.hold(letter.id).await? {
                self.work(&turn).deliver(&letter).await?;
            }
            turn.commit(&self.holder).await.map_err(HandlerError::from)
        };
        awake(connection, work).await?;
        Ok(Outcome::More)
    }

    /// Goes on after a gap: with a listing of the whole table, or with what is retained.
    async fn bridge(
        &self,
        connection: &Arc<ControllerConnection>,
        standing: &Standing,
        gap: &Gap,
    ) -> Result<Outcome, HandlerError> {
        let Some(turn) = self.begin(connection, standing).await? else { return Ok(Outcome::Lost) };
        let work = async {
            tracing::warn!(
                controller = self.controller.name(),
                cause = ?gap.cause,
                after = %gap.after,
                resume = %gap.resume,
                "changes may be missing"
            );
            self.controller.on_gap(gap, &turn).await.map_err(of_the_world)?;
            let (position, epoch) = match self.controller.kind() {
                Some(kind) => self.list(&turn, kind, standing.letters).await?,
                None => (LogPosition::after(gap.resume), gap.epoch.clone()),
            };
            turn.commit_at(position, &epoch, &self.holder).await.map_err(HandlerError::from)
        };
        awake(connection, work).await?;
        Ok(Outcome::More)
    }

    /// All rows of a table, as it is at one revision.
    async fn list(
        &self,
        turn: &Turn<'_>,
        kind: &str,
        letters: bool,
    ) -> Result<(LogPosition, Epoch), HandlerError> {
        let table = self.resources.feed.snapshot(kind, LISTING_LIMIT).await?;
        loop {
            let rows: Vec<_> = table.fetch().await?.try_collect().await?;
            if rows.is_empty() {
                break;
            }
            let listed = |row: &SnapshotRow| {
                Ok::<_, HandlerError>(AttributedChange {
                    epoch: table.epoch.clone(),
                    revision: table.revision,
                    kind: kind.to_owned(),
                    resource_id: row.resource_id()?.into_owned(),
                    change: ChangeType::Snapshot,
                    after: row.json()?.map(str::to_owned),
                    before: None,
                    captured_at: None,
                    actor: None,
                    origin: None,
                    trace: None,
                })
            };
            let changes = rows.iter().map(listed).collect::<Result<Vec<_>, _>>()?;
            self.work(turn).apply(changes, letters).await?;
        }
        self.controller.on_listed(table.revision, turn).await.map_err(of_the_world)?;
        Ok((LogPosition::after(table.revision), table.epoch.clone()))
    }

    async fn begin<'c>(
        &self,
        connection: &'c ControllerConnection,
        standing: &Standing,
    ) -> Result<Option<Turn<'c>>, HandlerError> {
        Ok(connection.take_turn(self.controller.name(), standing.turn).await?)
    }

    fn work<'a>(&'a self, turn: &'a Turn<'a>) -> Work<'a> {
        Work {
            controller: &*self.controller,
            turn,
            settings: &self.settings,
            metrics: &self.resources.metrics,
        }
    }

    async fn tidy(&mut self) -> Result<(), HandlerError> {
        if self.tidied.is_none_or(|at| at.elapsed() >= self.settings.tidy) {
            self.controller.tidy(&self.resources.store).await?;
            self.tidied = Some(Instant::now());
        }
        Ok(())
    }

    /// The gauges, which are the same on every hub. Letters are counted now and then.
    async fn survey(&mut self, standing: &Standing) -> Result<(), HandlerError> {
        let name = self.controller.name();
        let metrics = self.resources.metrics.controller(name);
        let lag = standing.head.get().saturating_sub(standing.position.revision.get());
        metrics.stands(standing.position.revision.get(), lag);
        if !standing.letters {
            metrics.letters(0);
        } else if self.surveyed.is_none_or(|at| at.elapsed() >= SURVEY) {
            self.surveyed = Some(Instant::now());
            metrics.letters(self.resources.store.count_letters(name).await?);
        }
        Ok(())
    }
}

/// Neither a gap nor the end of a listing can be a dead letter.
fn of_the_world(failure: HandlerError) -> HandlerError {
    match failure {
        HandlerError::Change(why) | HandlerError::World(why) => HandlerError::World(why),
    }
}

/// Does something in a turn, and keeps the server informed that the hub is alive: from another task, so that
/// a handler may compute for a while.
async fn awake<T>(
    connection: &Arc<ControllerConnection>,
    work: impl Future<Output = Result<T, HandlerError>>,
) -> Result<T, HandlerError> {
    let connection = connection.clone();
    let mut awake = AbortOnDropHandle::new(tokio::spawn(async move { connection.stay_awake().await }));
    tokio::select! {
        biased;
        done = work => done,
        lost = &mut awake => Err(match lost {
            Ok(error) => error.into(),
            Err(error) => HandlerError::World(error.to_string()),
        }),
    }
}
