/*
 * The 'AI' column of the viewer's own study list: how each study stands, and its picture.
 *
 * The column itself is OHIF's (`workList.columns`, see app-config.js); each of its cells is this
 * element, which React makes and throws away as it pages and sorts. All that are on the page ask
 * the node together, and one stream keeps them true. Studies that the node does not know (the
 * research archive) stay empty. In the viewer, it holds the open case for its reader.
 */

import { h } from './elements.js';
import { t } from './text.js';

const HEARTBEAT_MS = 60_000;
const ASK_AFTER_MS = 30; // a page of rows appears within that
const MOST_AT_ONCE = 200;

const STYLE = `
  :host { display: block; position: relative; min-width: 0; outline: none; }
  span { display: inline-flex; align-items: center; gap: .4rem; white-space: nowrap; }
  i { width: .55rem; height: .55rem; border-radius: 50%; background: currentColor; flex: none; }
  .running, .ready { color: #7fb2e6; }
  .running i { background: none; border: 2px solid currentColor; box-sizing: border-box; }
  .corrected, .accepted { color: #7fbf8b; }
  .rejected, .failed { color: #e58f86; }
  .failed i { border-radius: 1px; transform: rotate(45deg); }
  .no_result { color: #87969a; }
  small { color: #87969a; }
  img { position: fixed; z-index: 50; width: 160px; height: 160px; object-fit: contain;
        background: #000; border: 1px solid #444; border-radius: 4px; pointer-events: none; }
`;

const shown = new Set(); // the elements that are on the page
const known = new Map(); // what the node said, by StudyInstanceUID
let asking = null;
let source = null;

class AiState extends HTMLElement {
  static observedAttributes = ['uid'];

  connectedCallback() {
    if (!this.shadowRoot) {
      this.attachShadow({ mode: 'open' });
      this.addEventListener('pointerenter', () => this.showPicture());
      this.addEventListener('pointerleave', () => this.hidePicture());
    }
    shown.add(this);
    this.draw();
    ask();
    listen();
  }

  disconnectedCallback() {
    this.hidePicture();
    shown.delete(this);
    setTimeout(hush, 1000); // the next page of the list is about to come
  }

  attributeChangedCallback() {
    if (this.shadowRoot) {
      this.draw();
      ask();
    }
  }

  get told() {
    return known.get(this.getAttribute('uid'));
  }

  draw() {
    const style = h('style', {}, STYLE);
    const told = this.told;
    if (!told) {
      this.shadowRoot.replaceChildren(style);
      return;
    }
    const word = h('span', { class: told.state }, h('i'), t(`worklist.${told.state}`));
    const holder = told.holder && h('small', {}, ` · ${t('worklist.held', { who: told.holder })}`);
    this.shadowRoot.replaceChildren(style, word, ...(holder ? [holder] : []));
  }

  showPicture() {
    const told = this.told;
    if (!told || this.picture) {
      return;
    }
    const place = this.getBoundingClientRect();
    const top = Math.min(place.bottom + 4, window.innerHeight - 170);
    const picture = h('img', {
      src: `/api/worklist/cases/${told.case}/preview?of=${told.state}`,
      alt: '',
      style: `left: ${Math.max(4, place.left)}px; top: ${top}px`,
      onerror: () => this.hidePicture(),
    });
    this.picture = picture;
    this.shadowRoot.append(picture);
  }

  hidePicture() {
    this.picture?.remove();
    this.picture = null;
  }
}

/** Ask once for all elements that nobody asked for yet. */
function ask() {
  asking ??= setTimeout(async () => {
    asking = null;
    const wanted = [...new Set([...shown].map(each => each.getAttribute('uid')))];
    const unknown = wanted.filter(uid => uid && !known.has(uid)).slice(0, MOST_AT_ONCE);
    if (unknown.length > 0) {
      await tell(unknown);
    }
  }, ASK_AFTER_MS);
}

async function tell(uids) {
  const answer = await reach('/api/worklist/studies', { StudyInstanceUIDs: uids });
  const told = answer?.ok ? await answer.json() : [];
  uids.forEach(uid => known.set(uid, null)); // asked, and nothing to say
  told.forEach(each => known.set(each.StudyInstanceUID, each));
  shown.forEach(each => each.draw());
}

async function reach(path, body) {
  try {
    return await fetch(path, {
      method: 'POST',
      credentials: 'same-origin',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
  } catch (error) {
    if (error instanceof TypeError) {
      return null; // the node is away: the column stays as it is
    }
    throw error;
  }
}

function listen() {
  if (source) {
    return;
  }
  source = new EventSource('/api/worklist/events');
  source.addEventListener('logout', () => source?.close());
  source.addEventListener('case', ({ data }) => {
    const { id, state, holder } = JSON.parse(data);
    for (const [uid, told] of known) {
      if (told?.case === id) {
        known.set(uid, { ...told, state, holder });
      }
    }
    shown.forEach(each => each.draw());
  });
}

function hush() {
  if (shown.size === 0) {
    source?.close();
    source = null;
    known.clear(); // what is read in the meantime is asked for again
  }
}

if (!customElements.get('radloop-ai-state')) {
  customElements.define('radloop-ai-state', AiState);
}

/** What a study's cell says, in lower case: what the column's filter looks at. */
window.radloop.aiWord = uid => {
  const told = known.get(uid);
  return told ? t(`worklist.${told.state}`).toLowerCase() : '';
};

let beating = null;

/** Hold the case of the open study, if this reader has claimed it. */
function beat() {
  const studyUid = new URLSearchParams(window.location.search).get('StudyInstanceUIDs');
  if (studyUid && !studyUid.includes(',')) {
    reach('/api/worklist/heartbeat', { StudyInstanceUID: studyUid });
  }
}

export default {
  id: '@radloop/extension-ai-column',

  onModeEnter() {
    beat();
    beating ??= setInterval(beat, HEARTBEAT_MS);
  },

  onModeExit() {
    clearInterval(beating);
    beating = null;
  },
};
