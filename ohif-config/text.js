/*
 * Words for people. Each language is a file of its own beside this one, with the same keys.
 */

import english from './texts-en.js';
import german from './texts-de.js';

const LANGUAGES = { en: english, de: german };
const words = LANGUAGES[chosen(navigator.languages ?? [])];

/** The first language of the browser that there is a file for. */
export function chosen(wanted) {
  const found = wanted
    .map(language => language.slice(0, 2))
    .find(language => language in LANGUAGES);
  return found ?? 'en';
}

/** The text of a key, `{name}` in it replaced; a key that is missing shows as itself. */
export function t(key, values = {}) {
  const text = words[key] ?? english[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
