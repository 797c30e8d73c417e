/*
 * The node's API, as the panel asks it. Original UIDs go in bodies only: addresses are logged.
 *
 * When the session has ended, a login is asked for in place, and the request is sent again: nothing
 * that is on the screen is lost.
 */

import { MEDIA_TYPE, unpack } from './labels.js';
import { logIn } from './login.js';
import { t, translated } from './text.js';

/** What the node answered instead of doing it: `code`, `message` and `advice` in plain words. */
export class Refused extends Error {
  constructor(status, { code = 'unknown', message = '', advice = '' } = {}) {
    super(inWords({ code, message, advice }) || t('node.status', { status }));
    this.status = status;
    this.code = code;
  }
}

/**
 * What went wrong, for a person: in their language where it has words for the code, else as the node
 * says it. The node's own words know more of the case, such as which modality a model is for.
 */
export function inWords({ code, message = '', advice = '' }, language) {
  return translated(`fault.${code}`, language) ?? inSentences(message, advice);
}

/** What happened and what to do, as the node's pages write it: sentences. */
export function inSentences(...parts) {
  return parts
    .filter(Boolean)
    .map(part => part[0].toUpperCase() + part.slice(1) + (/[.!?]$/.test(part) ? '' : '.'))
    .join(' ');
}

/** The node cannot be reached; what was asked can be asked again. */
export class Unreachable extends Error {
  constructor() {
    super(t('node.unreachable'));
  }
}

/** GET, as JSON. */
export async function get(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  return (await send('GET', query ? `${path}?${query}` : path)).json();
}

/** POST an object, or a labels document (a Blob); the answer as JSON, a labels document, or null. */
export async function post(path, body) {
  return answerOf(await send('POST', path, body));
}

export async function put(path, body) {
  return answerOf(await send('PUT', path, body));
}

export async function remove(path) {
  return answerOf(await send('DELETE', path));
}

async function send(method, path, body) {
  const isDocument = body instanceof Blob;
  const request = {
    method,
    credentials: 'same-origin',
    headers: body ? { 'Content-Type': isDocument ? MEDIA_TYPE : 'application/json' } : {},
    body: isDocument || !body ? body : JSON.stringify(body),
  };
  let answer = await reach(path, request);
  while (answer.status === 401) {
    await logIn();
    answer = await reach(path, request);
  }
  if (!answer.ok) {
    throw new Refused(answer.status, await faultOf(answer));
  }
  return answer;
}

async function reach(path, request) {
  try {
    return await fetch(path, request);
  } catch (error) {
    if (error instanceof TypeError) {
      throw new Unreachable(); // fetch's way to say that no answer came
    }
    throw error;
  }
}

async function answerOf(answer) {
  if (answer.status === 204) {
    return null;
  }
  const type = answer.headers.get('Content-Type') ?? '';
  return type.startsWith(MEDIA_TYPE) ? unpack(await answer.arrayBuffer()) : answer.json();
}

async function faultOf(answer) {
  try {
    return await answer.json();
  } catch (error) {
    if (error instanceof SyntaxError) {
      return {}; // a proxy in between answered with a page
    }
    throw error;
  }
}
