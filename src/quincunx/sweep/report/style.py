"""What a sweep's page adds to the style sheet of reports: a ramp from worse to better, wide pictures, small intervals.

One hue that grows stronger on a light page and brighter on a dark one can be read without telling colours apart; the
best configuration alone has another hue.
"""

from __future__ import annotations

from quincunx.report.style import STYLE

STEPS = 7
"""Colours of the ramp, from the worst (0) on."""

CROWDED = 120
"""Lines beyond which a picture draws them thinner."""

_LIGHT = ("#d3dae3", "#b7cbe2", "#94b8dd", "#6a9fd3", "#427fc0", "#245fa1", "#10407a")
_DARK = ("#3b4550", "#3d5675", "#446d99", "#5489bf", "#73a7de", "#9dc6f1", "#d3e8ff")


def _ramp(colours: tuple[str, ...]) -> str:
    return " ".join(f"--v{step}: {colour};" for step, colour in enumerate(colours))


_RAMP = "\n".join(
    f"svg path.v{step}, svg polyline.v{step} {{ stroke: var(--v{step}); }} "
    f".legend i.v{step} {{ background: var(--v{step}); }}"
    for step in range(STEPS)
)

SWEEP_STYLE = f"""{STYLE}
:root {{ {_ramp(_LIGHT)} --top: #c8511c; }}
@media (prefers-color-scheme: dark) {{ :root {{ {_ramp(_DARK)} --top: #ff9d5c; }} }}
{_RAMP}
main {{ max-width: 1240px; }}
.tiles {{ grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }}
header > p {{ margin: 12px 0 0; }}
.scroll {{ overflow-x: auto; }}
.scroll svg {{ min-width: 720px; }}
svg path {{ fill: none; stroke-linejoin: round; stroke-linecap: round; }}
svg .way {{ stroke-width: 1.5; opacity: 0.85; }} svg.many .way {{ stroke-width: 1; opacity: 0.6; }}
svg .way.pruned, svg .way.failed {{ stroke: var(--soft); stroke-width: 1; opacity: 0.3; }}
svg .way.pruned {{ stroke-dasharray: 5 4; }} svg .way.failed {{ stroke-dasharray: 1.5 4; opacity: 0.6; }}
svg .faint {{ stroke: var(--soft); stroke-width: 1; opacity: 0.2; }} svg.many .faint {{ opacity: 0.09; }}
svg .curve {{ stroke-width: 1.6; }}
svg .way.top, svg .curve.top {{ stroke: var(--top); stroke-width: 3; opacity: 1; stroke-dasharray: none; }}
svg .way:hover, svg .curve:hover, svg .faint:hover {{ stroke: var(--top); stroke-width: 3; opacity: 1; }}
svg .spread {{ fill: var(--top); stroke: none; opacity: 0.15; }}
svg .upright {{ stroke: var(--soft); stroke-width: 1; }} svg line.off {{ stroke-dasharray: 2 4; opacity: 0.7; }}
svg text.name {{ font-size: 13px; font-weight: 600; fill: var(--ink); }}
svg text.halo {{ paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round;
  fill: var(--ink); }}
svg text.middle {{ text-anchor: middle; }} svg text.left {{ text-anchor: end; }}
svg text.off {{ fill: var(--soft); font-style: italic; }}
svg text.top {{ fill: var(--top); font-weight: 600; }}
svg .leader {{ stroke: var(--soft); stroke-width: 1; opacity: 0.5; stroke-dasharray: 1.5 3; }}
svg .one {{ fill: var(--soft); opacity: 0.35; }} svg .one.front {{ fill: var(--c0); opacity: 1; }}
svg .one.top {{ fill: var(--top); opacity: 1; }}
svg .stairs {{ stroke: var(--c0); stroke-width: 1.5; opacity: 0.6; }}
svg .bar {{ fill: var(--c0); }} svg .bar.chance {{ fill: var(--soft); opacity: 0.45; }}
svg .level {{ stroke: var(--ink); stroke-width: 2; }}
svg.mini {{ width: 132px; height: 18px; min-width: 0; }}
svg.mini .whisker {{ stroke: var(--c0); stroke-width: 2; }} svg.mini .middle {{ fill: var(--c0); }}
svg.mini .worse {{ opacity: 0.45; }} svg.mini .first {{ stroke: var(--top); fill: var(--top); }}
svg.mini .upright {{ stroke-dasharray: 2 3; }}
.legend i.top {{ background: var(--top); height: 4px; }}
.legend .ramp i {{ margin: 0; width: 14px; height: 8px; border-radius: 0; }} .legend .ramp {{ margin-right: 6px; }}
.legend i.pruned {{ background: repeating-linear-gradient(90deg, var(--soft) 0 4px, transparent 4px 7px); }}
.legend i.failed {{ background: repeating-linear-gradient(90deg, var(--soft) 0 2px, transparent 2px 5px); }}
.legend i.faint {{ opacity: 0.35; }} .legend i.dot {{ width: 9px; height: 9px; border-radius: 50%; }}
.legend i.dot.soft {{ background: var(--soft); opacity: 0.4; }}
.legend i.mark {{ width: 2px; height: 12px; background: var(--ink); }}
.ranking {{ font-size: 14px; }}
.ranking td, .ranking th {{ white-space: nowrap; padding-right: 14px; vertical-align: middle; }}
.ranking td.set {{ max-width: 260px; overflow: hidden; text-overflow: ellipsis; }}
.ranking tr.first td {{ font-weight: 600; }} .ranking td.off {{ color: var(--soft); font-style: italic; }}
.ranking .pill {{ padding: 1px 9px; font-size: 13px; font-weight: 450; }}
.even {{ color: var(--good); background: var(--good-back); }}
.pruned {{ color: var(--warn); background: var(--warn-back); }}
.open {{ color: var(--busy); background: var(--busy-back); }}
.ended td:nth-child(-n+4) {{ white-space: nowrap; }} .ended td:nth-child(5) {{ min-width: 240px; }}
details > .wide {{ margin-top: 12px; }} .card > details {{ margin-top: 12px; }}
.reading p {{ max-width: 82ch; }}
"""
