"""The style of report.html: light, dark where the system is, and light on paper."""

PALETTE = """
:root {
  --page: #ffffff; --panel: #f6f6f4; --ink: #1c1c1a; --quiet: #5c5c58; --rule: #deded9; --link: #2f5d9b;
  --c0: #2f5d9b; --c1: #b8580f; --c2: #2f7554; --c3: #7a5195;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #161615; --panel: #20201e; --ink: #ececE8; --quiet: #a9a9a3; --rule: #3a3a37; --link: #8fb4ea;
    --c0: #8fb4ea; --c1: #f0a262; --c2: #7cc7a2; --c3: #c9a3e6;
  }
}
"""

STYLE = PALETTE + """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 76rem; background: var(--page);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
h1, h2 { line-height: 1.2; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: clamp(1.5rem, 5vw, 2.1rem); font-weight: 650; }
h2 { margin: 3rem 0 1rem; padding-top: 0.75rem; border-top: 1px solid var(--rule); font-size: 1.2rem;
  font-weight: 600; }
header > p { margin: 0.35rem 0 0; color: var(--quiet); overflow-wrap: anywhere; }
header a { margin-left: 1rem; color: var(--link); white-space: nowrap; }
header > .notice { color: var(--c1); }
code { font: 0.875em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 0.75rem;
  margin: 1.75rem 0 0; }
.card { padding: 0.9rem 1.1rem 1rem; border-radius: 0.5rem; background: var(--panel); }
.card dt { color: var(--quiet); font-size: 0.875rem; }
.card dd { margin: 0; font-size: 2.25rem; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card dd small { color: var(--quiet); font-size: 0.5em; font-weight: 400; }
.card p { margin: 0.15rem 0 0; color: var(--quiet); font-size: 0.875rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: 0 0 1.5rem; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { padding: 0 0 0.5rem; color: var(--quiet); font-size: 0.875rem; text-align: left; }
th, td { padding: 0.35rem 1.5rem 0.35rem 0; border-bottom: 1px solid var(--rule); text-align: left;
  vertical-align: top; unicode-bidi: isolate; }
thead th { color: var(--quiet); font-weight: 500; vertical-align: bottom; max-width: 14rem; }
tbody th { font-weight: 500; }
.number { text-align: right; padding: 0.35rem 0 0.35rem 1.5rem; }
td.number { white-space: nowrap; }
tbody th, td:not(.number) { overflow-wrap: anywhere; min-width: 9rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); gap: 1.75rem 2rem; }
figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; border-radius: 0.25rem; background: #fff; }
figcaption { margin-top: 0.6rem; color: var(--quiet); font-size: 0.875rem; }
.chart figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; margin: 0 0 0.25rem; }
.chart strong { color: var(--ink); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 0 0.9rem; }
.legend b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.key { display: inline-block; width: 0.9rem; margin-right: 0.35rem; border-top: 3px solid var(--c);
  vertical-align: middle; }
.key.line-1, .key.line-3 { border-top-style: dashed; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--quiet); font-size: 10.5px; font-family: inherit; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .axis { stroke: var(--quiet); stroke-width: 1; }
.line-0 { --c: var(--c0); } .line-1 { --c: var(--c1); } .line-2 { --c: var(--c2); } .line-3 { --c: var(--c3); }
svg .line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; }
svg .line.line-1, svg .line.line-3 { stroke-dasharray: 5 3; }
svg .band { fill: var(--c); opacity: 0.16; }
svg .dot { fill: var(--c); }
details { margin: 1rem 0; }
summary { width: fit-content; color: var(--link); cursor: pointer; margin-bottom: 0.75rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  figure, tr, .card { break-inside: avoid; }
  figure img { max-height: 21cm; width: auto; }
  .scroll { overflow: visible; }
  .charts { grid-template-columns: repeat(3, 1fr); }
  details::details-content { content-visibility: visible; display: block; height: auto; }
}
"""
