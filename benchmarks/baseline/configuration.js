// Reads what the harness wrote (cohorts, combos, copy) and compiles it once, so that a request only looks things up.
import { readFileSync } from 'node:fs';

const PLACEHOLDER = /\{(\w+)\}/;

/** What stands in for a missing value; null if nothing does. */
export function defaultOf(placeholder, language) {
  return placeholder?.defaults[language] ?? placeholder?.default ?? null;
}

/** "Watch {show_name} now" -> its literal pieces and, between them, the names that fill them. */
function compileTemplate(text, language, placeholders) {
  const pieces = text.split(PLACEHOLDER);
  const names = pieces.filter((_, index) => index % 2 === 1);
  const required = names.filter((name) => defaultOf(placeholders.get(name), language) == null);
  return { pieces, required };
}

function compileCopy(copy, placeholders) {
  const byLanguage = new Map();
  for (const [language, { title, body }] of Object.entries(copy)) {
    const compiled = {
      title: compileTemplate(title, language, placeholders),
      body: compileTemplate(body, language, placeholders),
    };
    compiled.required = [...new Set([...compiled.title.required, ...compiled.body.required])];
    byLanguage.set(language, compiled);
  }
  return byLanguage;
}

function compileCohort(cohort, placeholders) {
  const combos = cohort.combos.map((combo, index) => ({
    ...combo,
    index,
    copy: compileCopy(combo.copy, placeholders),
  }));
  return { ...cohort, combos, shortestDelayMs: Math.min(...combos.map((combo) => combo.delay_ms)) };
}

/** The configuration of one run: cohorts by their trigger's event, placeholders, languages, holdout. */
export function loadConfiguration(path) {
  const raw = JSON.parse(readFileSync(path, 'utf8'));
  const placeholders = new Map(
    Object.entries(raw.placeholders).map(([name, { from, default: fallback, defaults }]) => [
      name,
      { path: from.split('.'), default: fallback, defaults },
    ]),
  );
  const cohorts = raw.cohorts.map((cohort) => compileCohort(cohort, placeholders));
  return {
    placeholders,
    cohorts,
    cohortByEvent: new Map(cohorts.map((cohort) => [cohort.event, cohort])),
    languageByName: new Map(Object.entries(raw.language_names)),
    defaultLanguage: raw.default_language,
    holdout: raw.holdout,
    expiresAfterMs: raw.expires_after_ms,
  };
}
