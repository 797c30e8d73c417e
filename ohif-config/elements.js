/*
 * Elements in one expression: h('button', { class: 'plain', onclick: go }, 'Go').
 */

/** Make an element; `null` and `false` children are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) {
      continue;
    }
    if (name.startsWith('on')) {
      element.addEventListener(name.slice(2), value);
    } else {
      element.setAttribute(name, value === true ? '' : String(value));
    }
  }
  element.append(...children.flat().filter(child => child !== null && child !== false));
  return element;
}

/** A spot in a segment's colour, `[r, g, b]` or null. */
export function dot(colour) {
  const rgb = colour ? `rgb(${colour.join(' ')})` : 'transparent';
  return h('i', { class: 'dot', style: `background: ${rgb}` });
}

/** A line icon, 24 by 24, drawn with the colour of the text. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

const ICONS = {
  seen: 'M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z',
  hidden:
    'M3 3l18 18M10 5.3A9 9 0 0 1 12 5c6 0 10 7 10 7a17 17 0 0 1-3 3.6M6.5 6.9A16 16 0 0 0 2 12s4 7 10 7a9 9 0 0 0 4-1',
  edit: 'M4 20h4L19 9l-4-4L4 16v4zM13 7l4 4',
  erase: 'M7 20h13M4 15l9-10 7 7-7 8H8l-4-5zM9 9l7 7',
  threshold: 'M4 20V10M9 20V4M14 20v-8M19 20V7M3 14h18',
  scissors:
    'M6 9a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM6 21a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM20 4L8 16M14 14l6 6M8 8l4 4',
  move: 'M12 3v18M3 12h18M12 3l-3 3M12 3l3 3M12 21l-3-3M12 21l3-3M3 12l3-3M3 12l3 3M21 12l-3-3M21 12l-3 3',
  target: 'M12 2v5M12 17v5M2 12h5M17 12h5M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z',
  plus: 'M12 5v14M5 12h14',
  minus: 'M5 12h14',
  box: 'M4 4h16v16H4z',
  check: 'M4 13l5 5L20 6',
  cross: 'M5 5l14 14M19 5L5 19',
  help: 'M9 9a3 3 0 1 1 4 2.8c-.8.3-1 .9-1 2.2M12 18h.01M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z',
  save: 'M5 3h11l4 4v14H4V3h1zM8 3v6h7V3M8 21v-7h8v7',
  undo: 'M9 7L4 12l5 5M4 12h10a6 6 0 0 1 0 12',
};
