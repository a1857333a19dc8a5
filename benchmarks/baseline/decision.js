// Which combo, with what probability, in which words: the plain 80/20 rule and placeholder substitution.
import { hash } from 'node:crypto';
import { defaultOf } from './configuration.js';

const OVERDUE_MS = 60_000;
const STUBBED_TEXT = { title: 'Come back', body: 'Your show is waiting for you.' };

/** A small seeded generator (mulberry32), so that a stored seed draws the same combo again. */
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** The stable split: the same user is held out, or not, for ever. */
export function isHeldOut(userId, { salt, share }) {
  const digest = hash('sha256', salt + userId, 'hex');
  return Number.parseInt(digest.slice(0, 12), 16) / 0x1000000000000 < share;
}

/** What fills the placeholders for this event: its value, else the default. */
export function placeholderValues(event, language, placeholders) {
  const values = {};
  for (const [name, placeholder] of placeholders) {
    let value = event;
    for (const key of placeholder.path) value = value?.[key];
    values[name] = value == null || value === '' ? defaultOf(placeholder, language) : String(value);
  }
  return values;
}

function copyFor(combo, language, defaultLanguage) {
  return combo.copy.get(language) ?? combo.copy.get(defaultLanguage);
}

function eligibleCombos(cohort, { age, language, defaultLanguage, values }) {
  return cohort.combos.filter((combo) => {
    if (combo.delay_ms + OVERDUE_MS < age) return false;
    return copyFor(combo, language, defaultLanguage).required.every((name) => values[name] != null);
  });
}

/** Epsilon-greedy: the best rate with probability 1 - epsilon, any eligible combo with epsilon; ties are shared. */
function draw(eligible, rates, epsilon, seed) {
  let top = -1;
  let best = [];
  for (const combo of eligible) {
    const rate = rates[combo.index];
    if (rate > top) {
      top = rate;
      best = [combo];
    } else if (rate === top) {
      best.push(combo);
    }
  }
  const random = randomFrom(seed);
  const pool = random() < epsilon ? eligible : best;
  const combo = pool[Math.floor(random() * pool.length)];
  const exploit = rates[combo.index] === top ? (1 - epsilon) / best.length : 0;
  return { combo, propensity: epsilon / eligible.length + exploit };
}

function fill({ pieces }, values) {
  let text = pieces[0];
  for (let index = 1; index < pieces.length; index += 2) text += values[pieces[index]] + pieces[index + 1];
  return text;
}

/** One decision: the combo, its propensity and the rendered message; null when no combo is eligible. */
export function decide(cohort, rates, seed, situation) {
  const eligible = eligibleCombos(cohort, situation);
  if (eligible.length === 0) return null;
  const { combo, propensity } = draw(eligible, rates, cohort.epsilon, seed);
  const copy = copyFor(combo, situation.language, situation.defaultLanguage);
  return {
    combo,
    propensity,
    title: fill(copy.title, situation.values),
    body: fill(copy.body, situation.values),
  };
}

/** The decision left out: always the first combo and the same words. */
export function decideStubbed(cohort) {
  return { combo: cohort.combos[0], propensity: 1, ...STUBBED_TEXT };
}
