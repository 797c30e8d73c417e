/*
 * What can be done by a key. OHIF binds them, shows them in its preferences, and lets people change
 * them there; none of these is taken by the stock build.
 */

import { t } from './text.js';

export const KEYS = [
  { command: 'radloopRun', key: 'm', text: 'keys.run' },
  { command: 'radloopNext', key: 'j', text: 'keys.next' },
  { command: 'radloopToggle', key: 'o', text: 'keys.toggle' },
  { command: 'radloopSave', key: 's', text: 'keys.save' },
  { command: 'radloopAccept', key: 'y', text: 'keys.accept' },
  { command: 'radloopReject', key: 'x', text: 'keys.reject' },
  { command: 'radloopGrow', key: 'g', text: 'keys.grow' },
  { command: 'radloopHelp', key: '?', text: 'keys.help' },
];

/** The stock build's own keys that a person who corrects needs. */
export const STOCK_KEYS = [
  ['b', 'keys.brush'],
  ['e', 'keys.eraser'],
  ['[ ]', 'keys.size'],
  ['Ctrl+Z', 'keys.undo'],
  ['Ctrl+Y', 'keys.redo'],
  ['Esc', 'keys.stop'],
];

/** As OHIF's `ohif.hotkeyBindings` wants them. */
export function bindings() {
  return KEYS.map(({ command, key, text }) => ({
    commandName: command,
    label: `radloop: ${t(text)}`,
    keys: [key],
    isEditable: true,
  }));
}
