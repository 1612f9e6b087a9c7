"""The style sheet of the report: one column on a phone, two columns of curves on a desktop, light and dark."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2027; --soft: #5c6673; --line: #dfe3e8; --code: #f0f2f5;
  --c0: #2f6fbf; --c1: #c8611c; --c2: #2a8a6a; --c3: #8a5bb5;
  --good: #1c7a4d; --good-back: #e2f4ea; --warn: #8a5a00; --warn-back: #fdf1d8;
  --bad: #a8281f; --bad-back: #fbe6e4; --busy: #1f5fa8; --busy-back: #e3eefb; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14171b; --card: #1c2025; --ink: #e7eaee; --soft: #9aa4b1; --line: #31373f; --code: #252a31;
  --c0: #6fa8ee; --c1: #f0a063; --c2: #5fc9a2; --c3: #c39ae8;
  --good: #7fd6a8; --good-back: #173526; --warn: #efc774; --warn-back: #392d14;
  --bad: #f2968e; --bad-back: #3c1d1b; --busy: #8fbdf3; --busy-back: #182c43; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%; }
main { max-width: 1120px; margin: 0 auto; padding: 36px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 2px 0 10px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 44px 0 14px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 0 0 8px; overflow-wrap: anywhere; }
h3 .soft { font-weight: 400; }
p { margin: 0 0 10px; }
a { color: var(--c0); }
.eyebrow, .soft, caption, figcaption { color: var(--soft); font-size: 14px; }
.pills { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
.pill { padding: 2px 11px; border-radius: 99px; font-size: 14px; background: var(--code); color: var(--soft); }
.finished { color: var(--good); background: var(--good-back); }
.interrupted { color: var(--warn); background: var(--warn-back); }
.failed { color: var(--bad); background: var(--bad-back); }
.running { color: var(--busy); background: var(--busy-back); }
.note { white-space: pre-wrap; overflow-wrap: anywhere; margin-top: 14px; max-width: 75ch; }
.notice { border-radius: 10px; padding: 12px 16px; margin-top: 16px; overflow-wrap: anywhere; }
.notice p:last-child, .card p:last-child { margin: 0; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 18px; font-size: 15px; }
nav a { text-decoration: none; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px; }
.result { margin-top: 22px; display: grid; gap: 8px 36px; grid-template-columns: auto 1fr; align-items: center; }
.result .number { font-size: 46px; line-height: 1.1; font-weight: 650; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.result .number small { font-size: 20px; font-weight: 450; color: var(--soft); letter-spacing: 0; }
.tiles { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 12px; margin-top: 12px; }
.tile { padding: 12px 16px; }
.tile b { display: block; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.grid { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 22px 44px; }
.stack > * + * { margin-top: 16px; }
figure { margin: 0; min-width: 0; }
figcaption { margin-top: 4px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg text.up, svg text.reference, svg text.last { text-anchor: end; }
svg text.along { text-anchor: middle; } svg text.along.last { text-anchor: end; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg polyline { fill: none; stroke-linejoin: round; stroke-linecap: round; }
svg .line { stroke-width: 2; } svg .raw { stroke-width: 1; opacity: 0.32; }
svg .band { stroke: none; opacity: 0.16; } svg line.reference { stroke: var(--soft); stroke-dasharray: 5 4; }
svg line.best { stroke: var(--soft); stroke-dasharray: 2 3; } svg circle.best { fill: none; stroke-width: 2; }
svg .c0 { stroke: var(--c0); } svg .c1 { stroke: var(--c1); }
svg .c2 { stroke: var(--c2); } svg .c3 { stroke: var(--c3); }
svg .band.c0, svg .dot.c0 { fill: var(--c0); } svg .band.c1, svg .dot.c1 { fill: var(--c1); }
svg .band.c2, svg .dot.c2 { fill: var(--c2); } svg .band.c3, svg .dot.c3 { fill: var(--c3); }
svg .band, svg .dot { stroke: none; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 0 0 6px; padding: 0; list-style: none;
  font-size: 13.5px; color: var(--soft); }
.legend i { display: inline-block; width: 16px; height: 3px; border-radius: 2px; margin-right: 6px;
  vertical-align: middle; background: var(--soft); }
.legend i.ring { width: 10px; height: 10px; border-radius: 50%; background: none; border: 2px solid var(--soft); }
.legend i.raw { opacity: 0.4; }
.legend i.c0 { background: var(--c0); } .legend i.c1 { background: var(--c1); }
.legend i.c2 { background: var(--c2); } .legend i.c3 { background: var(--c3); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 15px; font-variant-numeric: tabular-nums; width: 100%; }
caption { text-align: left; padding-bottom: 6px; }
th, td { text-align: left; vertical-align: top; padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line); }
tr > :last-child { padding-right: 0; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 500; font-size: 14px; }
th.n, td.n { text-align: right; white-space: nowrap; }
tbody th { font-weight: 450; color: var(--soft); width: 1%; white-space: nowrap; }
td { overflow-wrap: break-word; }
td pre { white-space: pre-wrap; overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, monospace; font-size: 13.5px; }
pre { margin: 0; padding: 12px 14px; background: var(--code); border-radius: 8px; overflow-x: auto; line-height: 1.5; }
pre.wrapped { white-space: pre-wrap; overflow-wrap: anywhere; }
details > summary { cursor: pointer; }
details > pre { margin-top: 10px; }
footer { margin-top: 44px; color: var(--soft); font-size: 14px; }
@media (max-width: 760px) {
  main { padding: 22px 14px 48px; }
  .grid, .result { grid-template-columns: minmax(0, 1fr); }
  .card { padding: 14px; }
  .result .number { font-size: 38px; white-space: normal; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .pairs tbody th { white-space: normal; width: 40%; overflow-wrap: anywhere; }
  svg text { font-size: 15px; }
  th, td { padding-right: 12px; }
  th.n { white-space: normal; }
}
@media print { body { background: none; } .card { break-inside: avoid; } nav { display: none; } }
"""
