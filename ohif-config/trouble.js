/*
 * What went wrong, told to the person who did it; all else goes on.
 */

import { Refused, Unreachable } from './node.js';
import { t } from './text.js';
import { say } from './viewer.js';

/** A handler that tells what its work could not do. */
export function attempt(work) {
  return async (...given) => {
    try {
      return await work(...given);
    } catch (error) {
      tell(error);
      return null;
    }
  };
}

/** Tell a person; what nobody foresaw goes to the console, too. */
export function tell(error) {
  if (!(error instanceof Refused || error instanceof Unreachable)) {
    console.error(error);
  }
  say(error.message || t('trouble.unknown'), 'error', { duration: 12000 });
}
