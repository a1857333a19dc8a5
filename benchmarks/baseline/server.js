// The baseline of the ingest benchmark: Express in front of better-sqlite3, one durable transaction a request.
import { timingSafeEqual } from 'node:crypto';
import express from 'express';
import { loadConfiguration } from './configuration.js';
import { openStore } from './store.js';
import { createTakeIn } from './take_in.js';

const { PORT = '3002', DB, CONFIG_JSON, SECRET, STUB } = process.env;

function requireBearer(secret) {
  const expected = Buffer.from(`Bearer ${secret}`);
  return (request, response, next) => {
    const given = Buffer.from(request.headers.authorization ?? '');
    if (given.length === expected.length && timingSafeEqual(given, expected)) return next();
    return response.status(401).json({ error: { code: 'unauthorized', message: 'Send the webhook secret.' } });
  };
}

/** An event, an array of them or {"events": [...]}, each with its own raw bytes; one event keeps the body's. */
function split(parsed, body) {
  const payloads = Array.isArray(parsed) ? parsed : (parsed?.events ?? [parsed]);
  return payloads === parsed || payloads === parsed?.events
    ? { payloads, rawOf: (payload) => Buffer.from(JSON.stringify(payload)) }
    : { payloads, rawOf: () => body };
}

function webhook(takeIn) {
  return (request, response) => {
    const body = request.body;
    let parsed;
    try {
      parsed = JSON.parse(body.toString('utf8'));
    } catch {
      takeIn.unreadable(body ?? Buffer.alloc(0));
      return response.status(400).json({ error: { code: 'not_json', message: 'The body is not JSON.' } });
    }
    const { payloads, rawOf } = split(parsed, body);
    return response.json({ results: takeIn.events(payloads, rawOf) });
  };
}

const configuration = loadConfiguration(CONFIG_JSON);
const store = openStore(DB, configuration.cohorts);
const takeIn = createTakeIn(configuration, store, { stubbed: STUB === '1' });

const app = express();
app.disable('x-powered-by');
app.disable('etag');
app.set('query parser', false);
app.get('/health', (_request, response) => response.json({ status: 'ok' }));
app.post(
  '/webhook/amplitude',
  requireBearer(SECRET),
  express.raw({ type: () => true, limit: '1mb' }),
  webhook(takeIn),
);

const server = app.listen(Number(PORT), '127.0.0.1');
process.on('SIGTERM', () => {
  server.close(() => store.close());
  server.closeAllConnections();
});
