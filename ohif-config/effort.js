/*
 * How much work a correction was: seconds of active editing, idle time taken out, and strokes.
 *
 * Time counts while signs of a hand (pointer, wheel, key) come; a pause that is longer than
 * IDLE_AFTER_S counts as idle from its beginning, for nobody thinks with the image for a minute
 * without moving the mouse, and if so, it is not editing.
 */

export const IDLE_AFTER_S = 10;

export class Effort {
  /** `now`: seconds; `clock`: what a date is made from, milliseconds since 1970. */
  constructor({ now = () => performance.now() / 1000, clock = () => Date.now() } = {}) {
    this.now = now;
    this.clock = clock;
    this.restart();
  }

  /** Begin again: a correction was saved, the next one is counted by itself. */
  restart() {
    this.active = 0;
    this.idle = 0;
    this.strokes = 0;
    this.openedAt = new Date(this.clock());
    this.last = this.now();
  }

  /** A sign of the hand. */
  touch() {
    const now = this.now();
    const gap = now - this.last;
    this.last = now;
    if (gap > IDLE_AFTER_S) {
      this.idle += gap;
    } else {
      this.active += gap;
    }
  }

  /** A change that was drawn or computed. */
  stroke() {
    this.touch();
    this.strokes += 1;
  }

  /** Take up what an earlier page had counted before it was closed. */
  resume({ active_s = 0, idle_s = 0, strokes = 0, opened_at = null } = {}) {
    this.active += active_s;
    this.idle += idle_s;
    this.strokes += strokes;
    if (opened_at) {
      this.openedAt = new Date(opened_at);
    }
  }

  /** What is sent with a correction. */
  report() {
    const pause = this.now() - this.last;
    const isIdle = pause > IDLE_AFTER_S;
    return {
      active_s: round(this.active + (isIdle ? 0 : pause)),
      idle_s: round(this.idle + (isIdle ? pause : 0)),
      strokes: this.strokes,
      opened_at: this.openedAt.toISOString(),
      saved_at: new Date(this.clock()).toISOString(),
    };
  }
}

function round(seconds) {
  return Math.round(seconds * 10) / 10;
}
