/*
 * How our parts look: the viewer's own dark colours, none of them bright. Made for a dark room: text
 * is grey, not white; colour is for what needs a decision.
 */

const CSS = `
:host {
  --ground: #05070f;
  --raised: #0c1326;
  --line: #1b2a4a;
  --text: #b7c3d6;
  --quiet: #7f8ea8;
  --strong: #dde5f0;
  --blue: #4b9be8;
  --blue-ground: #123156;
  --green: #57b38a;
  --amber: #d3a145;
  --red: #d9736b;
  color: var(--text);
  color-scheme: dark;
  font: 13px/1.35 Inter, system-ui, sans-serif;
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
h2, h3, p, dl, dd, ol { margin: 0; }
h2 { color: var(--strong); font-size: 14px; font-weight: 600; }
h3 { color: var(--quiet); font-size: 11px; font-weight: 600; letter-spacing: 0.06em; margin-bottom: 6px; text-transform: uppercase; }
small { color: var(--quiet); font-size: 11px; }
svg { fill: none; height: 16px; stroke: currentColor; stroke-linecap: round; stroke-linejoin: round; stroke-width: 1.8; width: 16px; }
.panel { background: var(--ground); display: flex; flex: 1; flex-direction: column; min-height: 0; min-width: 0; }
.scroll { flex: 1; min-height: 0; overflow-x: hidden; overflow-y: auto; scrollbar-color: var(--line) transparent; scrollbar-width: thin; }
radloop-head, radloop-foot, radloop-results, radloop-run, radloop-edit, radloop-prompts, radloop-drafts { display: block; padding: 9px 10px; }
radloop-results, radloop-run, radloop-edit, radloop-prompts { border-top: 1px solid var(--line); }
radloop-head { padding-bottom: 6px; }
radloop-head .line { justify-content: space-between; }
radloop-foot { background: var(--raised); border-top: 1px solid var(--line); }
.line { align-items: center; display: flex; gap: 6px; min-width: 0; }
.line + .line { margin-top: 6px; }
.line.end { justify-content: flex-end; margin-top: 10px; }
.wrap { display: flex; flex-wrap: wrap; gap: 5px; margin-top: 7px; }
.pad { padding: 14px; }
.quiet { color: var(--quiet); font-size: 12px; }
.figure { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
.fault { color: var(--red); font-size: 12px; }

button { background: none; border: 1px solid transparent; border-radius: 4px; color: inherit; cursor: pointer; font: inherit; }
button:disabled { cursor: default; opacity: 0.4; }
button:focus-visible, input:focus-visible, select:focus-visible, textarea:focus-visible { outline: 2px solid var(--blue); outline-offset: 1px; }
.toggle, .tool { align-items: center; display: inline-flex; flex: none; height: 28px; justify-content: center; width: 28px; }
.toggle { color: var(--quiet); }
.toggle.on { color: var(--blue); }
.toggle:hover:enabled, .tool:hover:enabled { background: var(--blue-ground); color: var(--strong); }
.tool { background: var(--raised); border-color: var(--line); }
.tool.on { background: var(--blue-ground); border-color: var(--blue); color: var(--strong); }
.plain { border-color: var(--line); font-size: 12px; padding: 3px 8px; white-space: nowrap; }
.plain:hover:enabled { background: var(--blue-ground); color: var(--strong); }
.plain.warn { border-color: var(--amber); color: var(--amber); }
.main { background: var(--blue-ground); border-color: var(--blue); color: var(--strong); padding: 4px 10px; white-space: nowrap; }
.main:hover:enabled { background: #1a4577; }
.main.danger { background: #4a1f22; border-color: var(--red); }

input, select, textarea { background: var(--raised); border: 1px solid var(--line); border-radius: 4px; color: var(--strong); font: inherit; min-width: 0; padding: 4px 6px; }
select { flex: 1; }
input[type=range] { accent-color: var(--blue); flex: 1; padding: 0; }
input[type=range]:disabled { opacity: 0.3; }
input[type=number] { width: 52px; }
input[type=search], textarea { width: 100%; }
progress { accent-color: var(--blue); flex: 1; height: 6px; min-width: 40px; }

.result { border: 1px solid transparent; border-radius: 5px; margin: 0 -5px; padding: 2px 4px; }
.result.selected { background: var(--raised); border-color: var(--line); }
.name { align-items: flex-start; display: flex; flex: 1; flex-direction: column; min-width: 0; overflow: hidden; padding: 2px 0; text-align: left; text-overflow: ellipsis; }
.name span { max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; color: var(--strong); }
.result .name span { overflow-wrap: anywhere; white-space: normal; }
.state { border: 1px solid currentColor; border-radius: 9px; font-size: 11px; padding: 0 7px; white-space: nowrap; }
.state.ready { color: var(--blue); }
.state.accepted, .state.saved { color: var(--green); }
.state.modified, .state.editing { color: var(--amber); }
.state.rejected { color: var(--red); }
.detail { padding: 4px 4px 6px 34px; }
.detail dl { display: grid; font-size: 12px; gap: 1px 8px; grid-template-columns: auto 1fr; margin-bottom: 5px; }
.detail dt { color: var(--quiet); }
.detail dd { overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: 12px; width: 100%; }
td { padding: 1px 0 1px 6px; }
td:first-child { padding-left: 0; }
.dot { border-radius: 50%; display: inline-block; height: 9px; margin-right: 7px; vertical-align: baseline; width: 9px; }
.compare { align-items: center; display: flex; flex-wrap: wrap; font-size: 12px; gap: 5px; margin-top: 7px; }
.compared { font-size: 12px; font-variant-numeric: tabular-nums; margin-top: 7px; }
.compared .plain { margin-top: 5px; }
.compare span { flex-basis: 100%; color: var(--quiet); }
.compare select { flex: 1 1 100%; font-size: 12px; }

.hint { margin-top: 5px; }
.plain.on { background: var(--blue-ground); border-color: var(--blue); color: var(--strong); }
.run { align-items: center; display: flex; gap: 8px; margin-top: 7px; }
.run .name { flex: 0 1 auto; }
.run .fault { flex: 1; }
.others { font-size: 12px; margin-top: 7px; }
.others summary { color: var(--quiet); cursor: pointer; }
.others p { margin-top: 4px; }
.others b { color: var(--strong); font-weight: 500; }

.segments { margin: 7px -4px; max-height: 168px; overflow-y: auto; scrollbar-width: thin; }
.segment { border-radius: 4px; padding: 0 6px; }
.segment.on { background: var(--blue-ground); color: var(--strong); }
.segment .name { display: block; padding: 4px 0; white-space: nowrap; }
.segments .quiet { padding: 0 4px; }
.suggestions > .quiet { margin-top: 5px; }
.suggestions { max-height: 190px; overflow-y: auto; scrollbar-width: thin; }
.suggestions .line { border-radius: 4px; margin: 0; padding: 1px 4px; }
.suggestions .line:hover { background: var(--raised); }

.offer { background: #2b220d; border: 1px solid var(--amber); border-radius: 5px; padding: 8px 10px; }
.offer + .offer { margin-top: 6px; }
.message { border-left: 3px solid var(--blue); color: var(--strong); font-size: 12px; margin-bottom: 7px; overflow-wrap: anywhere; padding: 1px 0 1px 8px; }
.message.success { border-color: var(--green); }
.message.warning { border-color: var(--amber); }
.message.error { border-color: var(--red); }
.acts { display: grid; gap: 5px; grid-template-columns: repeat(3, minmax(0, 1fr)); margin-top: 7px; }
.act { align-items: center; border-color: var(--line); display: flex; font-size: 12px; gap: 4px; justify-content: center; padding: 6px 2px; white-space: nowrap; }
.act svg { flex: none; height: 14px; width: 14px; }
.act.save:enabled { border-color: var(--amber); color: var(--amber); }
.act.accept:enabled { border-color: var(--green); color: var(--green); }
.act.reject:enabled { border-color: var(--red); color: var(--red); }
.act:hover:enabled { background: var(--blue-ground); }

.veil { align-items: center; background: rgb(2 4 10 / 70%); display: flex; inset: 0; justify-content: center; position: fixed; z-index: 2000; }
.dialog { background: var(--raised); border: 1px solid var(--line); border-radius: 8px; display: flex; flex-direction: column; gap: 9px; max-height: 92vh; max-width: 92vw; overflow-y: auto; padding: 18px 20px; width: 360px; }
.dialog.wide { width: 640px; }
.dialog label { display: flex; flex-direction: column; gap: 3px; }
.dialog .choice { align-items: center; flex-direction: row; gap: 8px; }
.dialog .choice input { flex: none; }
.dialog ol { line-height: 1.5; padding-left: 20px; }
.columns { display: grid; gap: 24px; grid-template-columns: 1fr 1fr; }
.keys { align-content: start; display: grid; gap: 4px 12px; grid-template-columns: auto 1fr; }
kbd { background: var(--ground); border: 1px solid var(--line); border-radius: 4px; color: var(--strong); font: 12px ui-monospace, monospace; padding: 1px 6px; }
`;

export const STYLE = new CSSStyleSheet();
STYLE.replaceSync(CSS);
