/*
 * Words for people. Each language is a file of its own beside this one, with the same keys.
 */

import english from './texts-en.js';
import german from './texts-de.js';

const LANGUAGES = { en: english, de: german };
const language = chosen(navigator.languages ?? []);
const words = LANGUAGES[language];
const CATEGORIES = ['zero', 'one', 'two', 'few', 'many', 'other'];
let grammar = null; // read from the browser's tables when the first number is told

/** The first language of the browser that there is a file for. */
export function chosen(wanted) {
  const found = wanted
    .map(language => language.slice(0, 2))
    .find(language => language in LANGUAGES);
  return found ?? 'en';
}

/**
 * The text of a key, what is in braces replaced; a key that is missing shows as itself.
 *
 * `{name}` is a value. `{name: one voxel | # voxels}` is a number with the word that belongs to it:
 * one form for each of the language's plural categories (CLDR), the last one for all others, `#` the
 * number.
 */
export function t(key, values = {}) {
  const text = words[key] ?? english[key] ?? key;
  return text.replace(/\{(\w+)(?:: ([^}]*))?\}/g, (whole, name, forms) => {
    const value = values[name] ?? whole;
    return forms === undefined ? value : plural(value, forms.split(' | '));
  });
}

/** The text of a key in a language, the chosen one where none is given; null where it has none. */
export function translated(key, inLanguage = words) {
  return inLanguage[key] ?? null;
}

/** All words of a language. */
export function wordsOf(name) {
  return LANGUAGES[name];
}

function plural(value, forms) {
  const { plurals, categories, numbers } = (grammar ??= readGrammar());
  const at = categories.indexOf(plurals.select(value));
  return (forms[at] ?? forms.at(-1)).replace('#', numbers.format(value));
}

function readGrammar() {
  const plurals = new Intl.PluralRules(language);
  const known = plurals.resolvedOptions().pluralCategories;
  const categories = CATEGORIES.filter(category => known.includes(category));
  return { plurals, categories, numbers: new Intl.NumberFormat(language) };
}
