//! Alerts: the figures that they follow from, what is open, and how they are brought out.

use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Value};

use super::messages::{
    AlertChanges, Delivery, DeliveryOutcome, DeliveryState, LastRun, ListDeliveries, ReadVitals,
    RecordAlerts, RecordDelivery, RunStatus, StateResult,
};
use super::rows::{instant, maybe_instant, word};
use super::sql::{execute, execute_exactly, first, json_list, number, optional_text};
use super::sql::{rows, signed, small, text, unsigned};
use super::{Apply, Rules, halts, read, remote_files, turnaround};
use crate::domain::alert::{Alert, AlertEvent, AlertKind, Channel, Heartbeat, JobTimes, Vitals};
use crate::domain::ids::{BatchId, RunId, ScopeToken};
use crate::domain::time::Timestamp;

// ---- the figures ----

#[derive(FromQueryResult)]
struct LiveRow {
    count: i64,
    since: Option<String>,
}

/// Batches that the provider has or may have.
const LIVE: &str = "
    SELECT count(*) AS count, min(coalesce(submitted_at, created_at)) AS since FROM submissions
    WHERE state IN ('submitting','in doubt','submitted','ready')";

/// Whether a page or a batch waits for nothing but to be sent.
pub(super) const SENDABLE: &str = "
    SELECT EXISTS (SELECT 1 FROM pages INDEXED BY pages_runnable
                   WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NULL
                     AND scope = ?1 AND (not_before IS NULL OR not_before <= ?2))
        OR EXISTS (SELECT 1 FROM pages INDEXED BY pages_uploaded
                   WHERE stage = 'uploaded' AND batch_id IS NULL AND scope = ?1)
        OR EXISTS (SELECT 1 FROM submissions WHERE state = 'planned')";

#[derive(FromQueryResult)]
struct UncollectedRow {
    batch_id: String,
    ended: String,
}

pub(super) const UNCOLLECTED: &str = "
    SELECT batch_id, coalesce(ended_at, terminal_seen_at) AS ended FROM submissions
    WHERE state IN ('submitted','ready') AND raw_path IS NULL
      AND coalesce(ended_at, terminal_seen_at) IS NOT NULL
    ORDER BY 2";

/// The figures, for one scope or, without asking for work that could be sent, for all.
pub async fn vitals(
    conn: &impl ConnectionTrait,
    scope: Option<&ScopeToken>,
    window: u64,
    at: Timestamp,
) -> StateResult<Vitals> {
    let streak = halts::streak(conn).await?;
    let (results, accepted) = halts::last_answers(conn, window).await?;
    let live: Option<LiveRow> = first(conn, LIVE, []).await?;
    let live_since = live.as_ref().and_then(|row| row.since.as_deref());
    let runnable = match scope {
        Some(scope) => number(conn, SENDABLE, [text(scope), text(at)]).await? > 0,
        None => false,
    };
    let uncollected: Vec<UncollectedRow> = rows(conn, UNCOLLECTED, []).await?;
    let oldest = uncollected.first().map(|row| {
        let ended = instant("a batch that ended", &row.ended)?;
        StateResult::Ok((BatchId::from(row.batch_id.as_str()), ended))
    });
    let open_halts = halts::open_halts(conn).await?.into_iter();
    let jobs = turnaround::turnarounds(conn, at).await?.into_iter();
    Ok(Vitals {
        barren: unsigned(streak.barren),
        barren_peak: unsigned(streak.barren_peak),
        results,
        accepted,
        accepted_at: maybe_instant("the last accepted answer", streak.accepted_at.as_deref())?,
        live_since: maybe_instant("the oldest live batch", live_since)?,
        live: live.map_or(0, |row| unsigned(row.count)),
        runnable,
        uncollected: super::sql::as_u64(uncollected.len()),
        uncollected_oldest: oldest.transpose()?,
        remote_bytes: remote_files::held_bytes(conn, at).await?,
        halts: open_halts
            .map(|halt| (halt.reason, halt.message, halt.since))
            .collect(),
        unreachable: read::unreachable(conn).await?,
        jobs: jobs
            .map(|job| JobTimes {
                model: job.model,
                live_oldest: job.live_oldest,
                ended: super::sql::as_u64(job.ended),
                nine_tenths: job.nine_tenths,
            })
            .collect(),
        open: open_alerts(conn).await?,
        heartbeat: heartbeat(conn).await?,
    })
}

impl Apply for ReadVitals {
    type Reply = Vitals;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vitals> {
        let open = kept_open(tx).await?;
        let vitals = vitals(tx, Some(&self.scope), self.window, self.at).await?;
        // What is kept as open is judged, whatever else has already ended it.
        Ok(Vitals { open, ..vitals })
    }
}

#[derive(FromQueryResult)]
struct BeatRow {
    run_id: String,
    at: String,
    busy_since: Option<String>,
}

async fn heartbeat(conn: &impl ConnectionTrait) -> StateResult<Option<Heartbeat>> {
    let sql = "SELECT run_id, at, busy_since FROM heartbeats";
    let found: Option<BeatRow> = first(conn, sql, []).await?;
    let beat = found.map(|row| {
        Ok(Heartbeat {
            at: instant("the heartbeat", &row.at)?,
            busy_since: maybe_instant("the heartbeat", row.busy_since.as_deref())?,
            run: RunId::from(row.run_id),
        })
    });
    beat.transpose()
}

#[derive(FromQueryResult)]
struct RunRow {
    run_id: String,
    status: String,
    updated_at: String,
}

/// The run that was written to last.
pub async fn last_run(conn: &impl ConnectionTrait) -> StateResult<Option<LastRun>> {
    let sql = "SELECT run_id, status, updated_at FROM runs ORDER BY updated_at DESC LIMIT 1";
    let found: Option<RunRow> = first(conn, sql, []).await?;
    let run = found.map(|row| {
        let thing = format!("run '{}'", row.run_id);
        Ok(LastRun {
            status: word(&thing, &row.status, RunStatus::parse)?,
            updated_at: instant(&thing, &row.updated_at)?,
            run: RunId::from(row.run_id),
        })
    });
    run.transpose()
}

// ---- what is open ----

#[derive(FromQueryResult)]
struct AlertRow {
    alert_id: String,
    kind: String,
    subject: String,
    message: String,
    since: String,
    fired_at: String,
    last_seen: String,
    cleared_at: Option<String>,
    times: i64,
}

impl AlertRow {
    fn alert(self) -> StateResult<Alert> {
        let thing = format!("alert '{}'", self.alert_id);
        Ok(Alert {
            kind: word(&thing, &self.kind, AlertKind::parse)?,
            since: instant(&thing, &self.since)?,
            fired_at: instant(&thing, &self.fired_at)?,
            last_seen: instant(&thing, &self.last_seen)?,
            cleared_at: maybe_instant(&thing, self.cleared_at.as_deref())?,
            times: unsigned(self.times),
            id: self.alert_id,
            subject: self.subject,
            message: self.message,
        })
    }
}

fn alerts(found: Vec<AlertRow>) -> StateResult<Vec<Alert>> {
    found.into_iter().map(AlertRow::alert).collect()
}

pub(super) const OPEN: &str = "
    SELECT alert_id, kind, subject, message, since, fired_at, last_seen, cleared_at, times
    FROM alerts INDEXED BY alerts_open WHERE cleared_at IS NULL ORDER BY fired_at, alert_id";

async fn kept_open(conn: &impl ConnectionTrait) -> StateResult<Vec<Alert>> {
    alerts(rows(conn, OPEN, []).await?)
}

/// The open alerts, oldest first. A halt that an operator ended while no process was running is no
/// alert any more, although nobody has noted its end yet.
pub async fn open_alerts(conn: &impl ConnectionTrait) -> StateResult<Vec<Alert>> {
    let mut open = kept_open(conn).await?;
    let halts = halts::open_halts(conn).await?;
    open.retain(|alert| {
        alert.kind != AlertKind::Halted
            || halts
                .iter()
                .any(|halt| halt.reason.as_str() == alert.subject)
    });
    Ok(open)
}

const HISTORY: &str = "
    SELECT alert_id, kind, subject, message, since, fired_at, last_seen, cleared_at, times
    FROM alerts ORDER BY fired_at DESC, alert_id DESC LIMIT ?1";

/// The newest alerts, newest first, and how many there are in all.
pub async fn history(conn: &impl ConnectionTrait, limit: u64) -> StateResult<(Vec<Alert>, u64)> {
    let found = alerts(rows(conn, HISTORY, [signed(limit).into()]).await?)?;
    let total = number(conn, "SELECT count(*) FROM alerts", []).await?;
    Ok((found, total))
}

// ---- what changes ----

impl Apply for RecordAlerts {
    type Reply = AlertChanges;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<AlertChanges> {
        let open = kept_open(tx).await?;
        let mut changes = AlertChanges::default();
        for (id, incident) in &self.incidents {
            let is_it =
                |alert: &&Alert| alert.kind == incident.kind && alert.subject == incident.subject;
            if let Some(known) = open.iter().find(is_it) {
                self.see_again(tx, known, &incident.message).await?;
                continue;
            }
            let alert = Alert {
                id: id.clone(),
                kind: incident.kind,
                subject: incident.subject.clone(),
                message: incident.message.clone(),
                since: incident.since,
                fired_at: self.at,
                last_seen: self.at,
                cleared_at: incident.over.then_some(self.at),
                times: 1,
            };
            self.fire(tx, &alert).await?;
            if incident.over {
                self.tell_end(tx, &alert).await?;
                changes.cleared.push(alert.clone());
            }
            changes.fired.push(alert);
        }
        for alert in open {
            let holds = |(_id, incident): &(String, crate::domain::alert::Incident)| {
                alert.kind == incident.kind && alert.subject == incident.subject
            };
            if !self.incidents.iter().any(holds) {
                changes.cleared.push(self.clear(tx, alert).await?);
            }
        }
        self.keep_signs(tx).await?;
        Ok(changes)
    }
}

impl RecordAlerts {
    async fn fire(&self, tx: &DatabaseTransaction, alert: &Alert) -> StateResult<()> {
        let values = [
            text(&alert.id),
            text(alert.kind),
            text(&alert.subject),
            text(&alert.message),
            text(alert.since),
            text(self.at),
            optional_text(alert.cleared_at),
        ];
        execute_exactly(
            tx,
            "INSERT INTO alerts (alert_id, kind, subject, message, since, fired_at, last_seen,
                                 cleared_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7)",
            values,
            1,
        )
        .await?;
        let channels = json_list(self.channels.iter().map(|channel| channel.as_str()));
        execute(
            tx,
            "INSERT INTO alert_deliveries
                 (alert_id, channel, event, next_at, created_at, updated_at)
             SELECT ?1, value, 'fired', ?3, ?3, ?3 FROM json_each(?2)",
            [text(&alert.id), channels, text(self.at)],
        )
        .await?;
        Ok(())
    }

    async fn see_again(
        &self,
        tx: &DatabaseTransaction,
        alert: &Alert,
        message: &str,
    ) -> StateResult<()> {
        execute_exactly(
            tx,
            "UPDATE alerts SET message = ?2, last_seen = ?3, times = times + 1
             WHERE alert_id = ?1",
            [text(&alert.id), text(message), text(self.at)],
            1,
        )
        .await
    }

    async fn clear(&self, tx: &DatabaseTransaction, alert: Alert) -> StateResult<Alert> {
        execute_exactly(
            tx,
            "UPDATE alerts SET cleared_at = ?2 WHERE alert_id = ?1 AND cleared_at IS NULL",
            [text(&alert.id), text(self.at)],
            1,
        )
        .await?;
        self.tell_end(tx, &alert).await?;
        Ok(Alert {
            cleared_at: Some(self.at),
            ..alert
        })
    }

    /// Whoever was told of the beginning is told of the end.
    async fn tell_end(&self, tx: &DatabaseTransaction, alert: &Alert) -> StateResult<()> {
        execute(
            tx,
            "INSERT INTO alert_deliveries
                 (alert_id, channel, event, next_at, created_at, updated_at)
             SELECT alert_id, channel, 'cleared', ?2, ?2, ?2 FROM alert_deliveries
             WHERE alert_id = ?1 AND event = 'fired'",
            [text(&alert.id), text(self.at)],
        )
        .await?;
        Ok(())
    }

    async fn keep_signs(&self, tx: &DatabaseTransaction) -> StateResult<()> {
        execute(
            tx,
            "INSERT INTO heartbeats (id, run_id, at, busy_since) VALUES (1, ?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET run_id = ?1, at = ?2, busy_since = ?3",
            [
                text(&self.run),
                text(self.at),
                optional_text(self.busy_since),
            ],
        )
        .await?;
        // More failures may have come since the figures were read: those are judged next time.
        execute(
            tx,
            "UPDATE streaks SET barren_peak = barren WHERE barren_peak = ?1 AND barren < ?1",
            [signed(self.barren_peak).into()],
        )
        .await?;
        Ok(())
    }
}

// ---- how they are brought out ----

#[derive(FromQueryResult)]
struct DueRow {
    alert_id: String,
    channel: String,
    event: String,
    attempts: i64,
}

pub(super) const DUE: &str = "
    SELECT d.alert_id, d.channel, d.event, d.attempts
    FROM alert_deliveries AS d INDEXED BY alert_deliveries_due
    WHERE d.next_at IS NOT NULL AND d.next_at <= ?2
      AND d.channel IN (SELECT value FROM json_each(?1))
      AND NOT (d.event = 'cleared' AND EXISTS (
          SELECT 1 FROM alert_deliveries AS f
          WHERE f.alert_id = d.alert_id AND f.channel = d.channel AND f.event = 'fired'
            AND f.next_at IS NOT NULL))
    ORDER BY d.next_at LIMIT ?3";

const ONE: &str = "
    SELECT alert_id, kind, subject, message, since, fired_at, last_seen, cleared_at, times
    FROM alerts WHERE alert_id = ?1";

impl Apply for ListDeliveries {
    type Reply = Vec<Delivery>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<Delivery>> {
        let channels = json_list(self.channels.iter().map(|channel| channel.as_str()));
        let values = [channels, text(self.at), signed(self.limit).into()];
        let found: Vec<DueRow> = rows(tx, DUE, values).await?;
        let mut due = Vec::with_capacity(found.len());
        for row in found {
            let thing = format!("delivery of alert '{}'", row.alert_id);
            let Some(alert) = first::<AlertRow, 1>(tx, ONE, [text(&row.alert_id)]).await? else {
                continue;
            };
            due.push(Delivery {
                alert: alert.alert()?,
                channel: word(&thing, &row.channel, Channel::parse)?,
                event: word(&thing, &row.event, AlertEvent::parse)?,
                attempts: small(row.attempts),
            });
        }
        Ok(due)
    }
}

impl Apply for RecordDelivery {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        let (delivered_at, error, next_at): (Option<Timestamp>, Value, Value) = match &self.outcome
        {
            DeliveryOutcome::Delivered => (Some(self.at), Value::String(None), Value::String(None)),
            DeliveryOutcome::Failed { error, next_at } => {
                (None, text(error), optional_text(*next_at))
            }
        };
        let values = [
            text(&self.alert),
            text(self.channel),
            text(self.event),
            next_at,
            optional_text(delivered_at),
            error,
            text(self.at),
        ];
        execute_exactly(
            tx,
            "UPDATE alert_deliveries SET attempts = attempts + 1, next_at = ?4, delivered_at = ?5,
                    last_error = ?6, updated_at = ?7
             WHERE alert_id = ?1 AND channel = ?2 AND event = ?3",
            values,
            1,
        )
        .await
    }
}

#[derive(FromQueryResult)]
struct DeliveryRow {
    channel: String,
    event: String,
    attempts: i64,
    next_at: Option<String>,
    delivered_at: Option<String>,
    last_error: Option<String>,
}

/// How an alert was brought out, its beginning first.
pub async fn deliveries(
    conn: &impl ConnectionTrait,
    alert: &str,
) -> StateResult<Vec<DeliveryState>> {
    let found: Vec<DeliveryRow> = rows(
        conn,
        "SELECT channel, event, attempts, next_at, delivered_at, last_error FROM alert_deliveries
         WHERE alert_id = ?1 ORDER BY channel DESC, event DESC",
        [text(alert)],
    )
    .await?;
    let states = found.into_iter().map(|row| {
        let thing = format!("delivery of alert '{alert}'");
        Ok(DeliveryState {
            channel: word(&thing, &row.channel, Channel::parse)?,
            event: word(&thing, &row.event, AlertEvent::parse)?,
            attempts: small(row.attempts),
            next_at: maybe_instant(&thing, row.next_at.as_deref())?,
            delivered_at: maybe_instant(&thing, row.delivered_at.as_deref())?,
            last_error: row.last_error,
        })
    });
    states.collect()
}
