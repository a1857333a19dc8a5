// One webhook request: every event of it deduplicated, decided and stored, in one transaction.
import { hash, randomInt } from 'node:crypto';
import { v7 as uuid7 } from 'uuid';
import { decide, decideStubbed, isHeldOut, placeholderValues } from './decision.js';

const WAITING = new Set(['scheduled', 'claimed']);
const NO_ZONE = /^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?$/;

/** Epoch milliseconds of "2022-02-28 20:07:01.795" (no zone means UTC), an ISO time or a number; NaN otherwise. */
function parseTime(value) {
  if (typeof value === 'number') return value;
  if (typeof value !== 'string') return Number.NaN;
  return Date.parse(NO_ZONE.test(value) ? `${value.replace(' ', 'T')}Z` : value);
}

function parseEvent(event, receivedAt) {
  if (event === null || typeof event !== 'object' || typeof event.event_type !== 'string') return null;
  const time = parseTime(event.event_time);
  if (Number.isNaN(time)) return null;
  const insertId = event.$insert_id ?? event.insert_id ?? event.uuid;
  if (insertId == null) return null;
  return {
    userId: event.user_id == null ? '' : String(event.user_id),
    dedupKey: `${event.device_id ?? ''}|${insertId}`,
    type: event.event_type,
    occurredAt: Math.min(time, receivedAt),
    payload: event,
  };
}

function contextOf({ event_properties: properties, region, platform }) {
  return JSON.stringify({ region: properties?.region ?? region, plan: properties?.plan_viewed, platform });
}

/** The use case: `(events, rawBytesOf) -> results`, one result per event. */
export function createTakeIn(configuration, store, { stubbed }) {
  const { placeholders, languageByName, defaultLanguage, holdout, expiresAfterMs } = configuration;

  function choose(cohort, rates, seed, event, now) {
    const named = String(event.payload.event_properties?.language ?? event.payload.language ?? '');
    const language = languageByName.get(named.toLowerCase()) ?? defaultLanguage;
    if (stubbed) return { language, ...decideStubbed(cohort) };
    const values = placeholderValues(event.payload, language, placeholders);
    const age = now - event.occurredAt;
    const decision = decide(cohort, rates, seed, { age, language, defaultLanguage, values });
    return decision && { language, ...decision };
  }

  function refusal(cohort, event, now) {
    if (now - event.occurredAt > cohort.max_age_ms) return { reason: 'too_old' };
    const latest = store.latestExperiment.get(event.userId, cohort.name);
    if (latest === undefined) return null;
    if (WAITING.has(latest.state)) return { reason: 'already_active', experiment_id: latest.id };
    return now - latest.decided_at < cohort.again_after_ms ? { reason: 'cooldown' } : null;
  }

  /** Stores the event; its row id, or null if it has been here before. */
  function keep(event, raw, now, status, reason = null) {
    const { changes, lastInsertRowid } = store.insertEvent.run(
      event.userId, event.dedupKey, event.type, event.occurredAt, now, status, reason, raw,
    );
    return changes === 0 ? null : lastInsertRowid;
  }

  function ignore(event, raw, now, why) {
    const kept = keep(event, raw, now, 'ignored', why.reason);
    return kept === null ? { status: 'duplicate' } : { status: 'ignored', ...why };
  }

  function quarantine(raw, now) {
    const event = { userId: '', dedupKey: hash('sha256', raw), type: null, occurredAt: null };
    keep(event, raw, now, 'quarantined');
    return { status: 'quarantined' };
  }

  function start(cohort, event, raw, now) {
    const seed = randomInt(0x100000000);
    const { rates, snapshotId, distributionId } = store.counters.of(cohort);
    const chosen = choose(cohort, rates, seed, event, now);
    if (chosen === null) return ignore(event, raw, now, { reason: 'no_eligible_combo' });
    const heldOut = isHeldOut(event.userId, holdout);
    const status = heldOut ? 'holdout' : 'scheduled';
    const eventId = keep(event, raw, now, status);
    if (eventId === null) return { status: 'duplicate' };
    const id = uuid7();
    const { combo } = chosen;
    const dueAt = Math.max(event.occurredAt + combo.delay_ms, now);
    store.insertExperiment.run(
      id, event.userId, eventId, cohort.name, combo.key, combo.channel, chosen.propensity, seed, chosen.language,
      chosen.title, chosen.body, contextOf(event.payload), event.occurredAt, now, dueAt, dueAt + expiresAfterMs,
      event.occurredAt + cohort.window_ms, 'scheduled', heldOut ? 1 : 0, 'dry_run', distributionId, snapshotId,
    );
    store.countOne.run(cohort.name, status);
    return { status, experiment_id: id, scheduled_for: new Date(dueAt).toISOString() };
  }

  function takeInOne(payload, raw, now) {
    const event = parseEvent(payload, now);
    if (event === null) return quarantine(raw, now);
    if (event.userId === '') return ignore(event, raw, now, { reason: 'no_user' });
    const cohort = configuration.cohortByEvent.get(event.type);
    if (cohort === undefined) return ignore(event, raw, now, { reason: 'no_cohort' });
    const refused = refusal(cohort, event, now);
    return refused === null ? start(cohort, event, raw, now) : ignore(event, raw, now, refused);
  }

  return {
    /** All events of one request. */
    events: store.inTransaction((payloads, rawOf) => {
      const now = Date.now();
      return payloads.map((payload) => takeInOne(payload, rawOf(payload), now));
    }),
    /** A body that is not JSON: kept, byte for byte. */
    unreadable: store.inTransaction((raw) => quarantine(raw, Date.now())),
  };
}
