// The database: schema, prepared statements, and the per-combo counters kept in memory.
import Database from 'better-sqlite3';

const COUNTERS_REFRESH_MS = 1_000;

const SCHEMA = `
CREATE TABLE IF NOT EXISTS event (
  id INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL,
  dedup_key TEXT NOT NULL,
  event_type TEXT,
  occurred_at INTEGER,
  received_at INTEGER NOT NULL,
  status TEXT NOT NULL,
  reason TEXT,
  raw BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS event_once ON event (user_id, dedup_key);

CREATE TABLE IF NOT EXISTS distribution (
  id INTEGER PRIMARY KEY,
  snapshot_id INTEGER NOT NULL,
  cohort TEXT NOT NULL,
  rates TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS experiment (
  id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  event_id INTEGER NOT NULL REFERENCES event (id),
  cohort TEXT NOT NULL,
  combo_key TEXT NOT NULL,
  channel TEXT NOT NULL,
  propensity REAL NOT NULL,
  seed INTEGER NOT NULL,
  language TEXT NOT NULL,
  title TEXT NOT NULL,
  body TEXT NOT NULL,
  context TEXT NOT NULL,
  triggered_at INTEGER NOT NULL,
  decided_at INTEGER NOT NULL,
  due_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  window_ends_at INTEGER NOT NULL,
  state TEXT NOT NULL,
  held_out INTEGER NOT NULL,
  mode TEXT NOT NULL,
  distribution_id INTEGER NOT NULL REFERENCES distribution (id),
  snapshot_id INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS experiment_id ON experiment (id, user_id);
CREATE INDEX IF NOT EXISTS experiment_user ON experiment (user_id, decided_at);
CREATE UNIQUE INDEX IF NOT EXISTS experiment_waiting ON experiment (user_id, cohort)
  WHERE state IN ('scheduled', 'claimed');
CREATE INDEX IF NOT EXISTS experiment_due ON experiment (held_out, channel, due_at) WHERE state = 'scheduled';

CREATE TABLE IF NOT EXISTS combo_count (
  cohort TEXT NOT NULL,
  combo_key TEXT NOT NULL,
  sent INTEGER NOT NULL DEFAULT 0,
  converted INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (cohort, combo_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS cohort_count (
  cohort TEXT NOT NULL,
  name TEXT NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (cohort, name)
) STRICT, WITHOUT ROWID;
`;

const INSERT_EVENT = `
INSERT INTO event (user_id, dedup_key, event_type, occurred_at, received_at, status, reason, raw)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (user_id, dedup_key) DO NOTHING`;

const INSERT_EXPERIMENT = `
INSERT INTO experiment (id, user_id, event_id, cohort, combo_key, channel, propensity, seed, language, title, body,
  context, triggered_at, decided_at, due_at, expires_at, window_ends_at, state, held_out, mode, distribution_id,
  snapshot_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

// Nothing of a cohort starts while one waits, so the newest experiment answers both "waiting?" and "cooling down?".
const LATEST_EXPERIMENT = `
SELECT id, state, decided_at FROM experiment
WHERE user_id = ? AND cohort = ? ORDER BY decided_at DESC LIMIT 1`;

const COUNT_ONE = `
INSERT INTO cohort_count (cohort, name, count) VALUES (?, ?, 1)
ON CONFLICT (cohort, name) DO UPDATE SET count = count + 1`;

function openDatabase(path) {
  const database = new Database(path);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.pragma('foreign_keys = ON');
  database.pragma('busy_timeout = 5000');
  database.exec(SCHEMA);
  return database;
}

/** The per-combo rates in memory; read again every second, because the sender and the feedback change them. */
class Counters {
  #byCohort = new Map();
  #snapshotId;
  #read;
  #insertDistribution;

  constructor(database, cohorts) {
    this.#snapshotId = database.prepare('SELECT coalesce(max(snapshot_id), 0) FROM distribution').pluck().get();
    this.#read = database.prepare('SELECT combo_key, sent, converted FROM combo_count WHERE cohort = ?');
    this.#insertDistribution = database.prepare(
      'INSERT INTO distribution (snapshot_id, cohort, rates) VALUES (?, ?, ?)',
    );
    const insert = database.prepare('INSERT OR IGNORE INTO combo_count (cohort, combo_key) VALUES (?, ?)');
    for (const cohort of cohorts) for (const combo of cohort.combos) insert.run(cohort.name, combo.key);
    const refresh = database.transaction(() => cohorts.forEach((cohort) => this.#refresh(cohort)));
    refresh.immediate();
    setInterval(() => refresh.immediate(), COUNTERS_REFRESH_MS).unref();
  }

  of(cohort) {
    return this.#byCohort.get(cohort.name);
  }

  #refresh(cohort) {
    const byKey = new Map(
      this.#read.all(cohort.name).map((row) => [row.combo_key, row.sent ? row.converted / row.sent : 0]),
    );
    const rates = cohort.combos.map((combo) => byKey.get(combo.key));
    const known = this.#byCohort.get(cohort.name)?.rates;
    if (known && rates.every((rate, index) => rate === known[index])) return;
    this.#snapshotId += 1;
    const { lastInsertRowid } = this.#insertDistribution.run(this.#snapshotId, cohort.name, JSON.stringify(rates));
    this.#byCohort.set(cohort.name, { rates, snapshotId: this.#snapshotId, distributionId: lastInsertRowid });
  }
}

/** Everything the handler asks of the database. */
export function openStore(path, cohorts) {
  const database = openDatabase(path);
  return {
    insertEvent: database.prepare(INSERT_EVENT),
    insertExperiment: database.prepare(INSERT_EXPERIMENT),
    latestExperiment: database.prepare(LATEST_EXPERIMENT),
    countOne: database.prepare(COUNT_ONE),
    counters: new Counters(database, cohorts),
    inTransaction: (work) => database.transaction(work).immediate,
    close: () => database.close(),
  };
}
