"""How the page looks: light and dark by the reader's choice, one column that fits a phone, plain on paper."""

STYLE = """
:root{color-scheme:light dark;--back:#f6f6f3;--card:#fff;--ink:#1d1f21;--soft:#5c6166;--line:#d9dad6;--code:#f0f0ec;
--bad:#c4161c;--bad2:#e8743b;--bad3:#efb13c;--good:#1b7f4b;--warn:#8a5a00;--shade:#c4161c;
--n0:#8fa3b5;--n1:#b4c1cc;--n2:#a3b5a6;--n3:#c9c3b1;--n4:#bdb2c6;--rest:#d6d8da}
@media (prefers-color-scheme:dark){:root{--back:#15171a;--card:#1e2125;--ink:#e8e8e4;--soft:#a2a8ae;--line:#363b41;
--code:#15171a;--bad:#ff5a5f;--bad2:#ff9a5c;--bad3:#f7cf6b;--good:#4fc98a;--warn:#e3b04b;--shade:#ff5a5f;
--n0:#5f7488;--n1:#465563;--n2:#4f6353;--n3:#67624f;--n4:#5e5468;--rest:#3c4147}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1020px;margin:0 auto;padding:1rem}
h1{font-size:1rem;font-weight:600;color:var(--soft);margin:.2rem 0 1rem}
h2{font-size:1.7rem;line-height:1.2;margin:.1rem 0 .6rem;color:var(--bad)}
h2.unproven{color:var(--warn)}h2.well{color:var(--good)}
h3{font-size:1.1rem;margin:1.8rem 0 .5rem}.part>h3:first-child{margin-top:.3rem}
article,.part{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1.1rem 1.3rem;
margin:0 0 1.2rem}
p{margin:.4rem 0}.soft{color:var(--soft);font-size:.92rem}.lead{font-size:1.15rem}
meter{width:7rem;height:.9rem;vertical-align:middle;margin-right:.4rem}
.now{border-left:5px solid var(--good);background:var(--code);padding:.6rem 1rem;margin:1rem 0;
border-radius:0 8px 8px 0}
.now b{color:var(--good)}
pre,code{font:13px/1.45 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}
pre{background:var(--code);border:1px solid var(--line);border-radius:6px;padding:.5rem .7rem;margin:.4rem 0;
overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
pre.apply,pre.all{user-select:all;-webkit-user-select:all}
pre.all{max-height:22rem;overflow-y:auto}
code{overflow-wrap:anywhere}td code{white-space:nowrap}
.at{color:var(--soft)}
ol.chain{list-style:none;margin:0;padding:0 0 0 .4rem;border-left:3px solid var(--line)}
ol.chain>li{position:relative;padding:.1rem 0 .7rem 1rem}
ol.chain>li::before{content:"";position:absolute;left:-.95rem;top:.55rem;width:.7rem;height:.7rem;border-radius:50%;
background:var(--bad);border:2px solid var(--card)}
ol.chain>li.inferred::before{background:var(--card);border-color:var(--soft)}
ol.chain time{font-weight:600;margin-right:.5rem;font-variant-numeric:tabular-nums}
.inferred .how{color:var(--soft);font-style:italic}
.suspect{border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem;margin:.6rem 0}
.suspect.first{border-color:var(--bad);border-width:2px}
.suspect h4{margin:0 0 .3rem;font-size:1rem;overflow-wrap:anywhere}
.figures{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;color:var(--soft);font-size:.92rem}
.figures b{color:var(--ink);font-size:1.1rem}
.against{color:var(--warn)}
dl.facts{margin:.4rem 0 0;display:grid;grid-template-columns:max-content 1fr;gap:.15rem .7rem}
dl.facts dt{color:var(--soft)}dl.facts dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;width:100%}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
summary{cursor:pointer;padding:.2rem 0}
figure{margin:1.2rem 0 0}
svg{display:block;width:100%;height:auto}
svg text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--soft)}
svg.key{display:inline-block;width:12px;height:12px;vertical-align:-1px;margin-right:.35rem}
.narrow{display:none}
.outage{fill:var(--shade);opacity:.1}
.grid{stroke:var(--line);stroke-width:1}
.capacity{stroke:var(--ink);stroke-width:2;stroke-dasharray:7 5}
svg .captext{fill:var(--ink);font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:4px}
.onset{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:2 3}
svg .onsettext{fill:var(--bad);font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:4px}
svg .culprit{fill:var(--bad);font-size:14px;font-weight:700;paint-order:stroke;stroke:var(--card);stroke-width:5px}
.unit{font-size:.85rem;font-weight:600;margin:0 0 .1rem}
.markline{stroke:var(--ink);stroke-width:1;opacity:.35}
.dot{fill:var(--ink)}svg .dottext{fill:var(--card);font-weight:700;font-size:11px}
.n0{fill:var(--n0)}.n1{fill:var(--n1)}.n2{fill:var(--n2)}.n3{fill:var(--n3)}.n4{fill:var(--n4)}.rest{fill:var(--rest)}
.sus0{fill:var(--bad)}.sus1{fill:var(--bad2)}.sus2{fill:var(--bad3)}
ul.legend,ol.marks{list-style:none;margin:.5rem 0 0;padding:0;font-size:.9rem}
ul.legend{display:flex;flex-wrap:wrap;gap:.15rem 1.1rem;overflow-wrap:anywhere}
ul.legend .key-suspect{font-weight:600}
ol.marks li{padding:.1rem 0}
.no{display:inline-block;min-width:1.35rem;height:1.35rem;line-height:1.35rem;border-radius:50%;background:var(--ink);
color:var(--card);text-align:center;font-size:.75rem;font-weight:700;margin-right:.4rem}
footer{color:var(--soft);font-size:.85rem;padding:.2rem 0 2rem}
a{color:inherit}
@media (max-width:640px){main{padding:.5rem}article,.part{padding:.8rem .85rem}h2{font-size:1.35rem}
.lead{font-size:1.05rem}
.wide{display:none}.narrow{display:block}dl.facts{grid-template-columns:1fr}dl.facts dd{margin-bottom:.3rem}}
@media print{body{background:none}article,.part{border:none;padding:0}pre.all{max-height:none}}
"""
