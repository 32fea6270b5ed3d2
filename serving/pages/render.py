"""Pages as HTML text: numbers become words and figures here, templates only lay them out; everything is escaped."""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from serving.metrics import BOUNDS_MS, merge
from serving.pages.intervals import interval_figures, verdict

HERE = Path(__file__).parent
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FILES = ("style.css", "page.js", "mark.svg")
MARK = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">'
    '<g fill="none" stroke-width="2.6" stroke-linecap="round">'
    '<path d="M3 5c7 0 6 7 11 7" stroke="#0072B2"/>'
    '<path d="M3 12h11" stroke="#E69F00"/>'
    '<path d="M3 19c7 0 6-7 11-7" stroke="#009E73"/>'
    "</g>"
    '<circle cx="18" cy="12" r="3.4" fill="#0072B2"/></svg>'
)


@dataclass(frozen=True, slots=True)
class Static:
    """A file as it is sent."""

    content: bytes
    content_type: str
    headers: tuple[tuple[bytes, bytes], ...]


class Pages:
    """The site's templates, loaded once.

    >>> "Nothing has been ranked yet" in Pages().home({"versions": {}, "metrics": [], "time_ms": 0, "store": {}}, [])
    True
    """

    def __init__(self) -> None:
        self._templates = Environment(
            loader=PackageLoader("serving.pages", "templates"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(number=number, chance=chance, percent=percent, iso=iso, json=script_json, reading=verdict)

    def home(self, overview: Mapping[str, Any], readouts: Sequence[Mapping[str, Any]]) -> str:
        """The first page: what is served, is it healthy, which experiment needs attention."""
        shown = [_readout(r) for r in readouts]
        return self._render("home.html", overview=overview, health=health(overview), readouts=shown)

    def experiment(self, overview: Mapping[str, Any], readout: Mapping[str, Any]) -> str:
        """One experiment alone."""
        return self._render("experiment.html", overview=overview, readout=_readout(readout))

    def docs(self, document: Mapping[str, Any]) -> str:
        """The API to read."""
        return self._render("docs.html", document=document, schemas=document["components"]["schemas"])

    def static(self, file: str, gzipped: bool) -> Static | None:
        """A file of the site by its bare name; None when there is none."""
        if file not in (*_FILES, "plotly.min.js"):
            return None
        content = _content(file, gzipped)
        headers: tuple[tuple[bytes, bytes], ...] = ((b"cache-control", b"public, max-age=3600"), (b"vary", b"accept-encoding"))
        if gzipped:
            headers += ((b"content-encoding", b"gzip"),)
        return Static(content, _TYPES[Path(file).suffix], headers)

    def _render(self, template: str, **values: Any) -> str:
        return self._templates.get_template(template).render(**values)


def health(overview: Mapping[str, Any]) -> dict[str, Any]:
    """Traffic in numbers, from the metrics of all replicas."""
    counters, histograms = merge(overview.get("metrics", []))
    ranked = sum(v for (name, _), v in counters.items() if name == "ranked_total")
    degraded = {dict(labels)["reason"]: v for (name, labels), v in counters.items() if name == "degraded_total"}
    rank = [h for (name, _), h in histograms.items() if name == "rank_ms"]
    counts = [sum(column) for column in zip(*(h.counts for h in rank), strict=True)] if rank else []
    errors = sum(v for (name, labels), v in counters.items() if name == "requests_total" and dict(labels)["status"][0] == "5")
    buckets: dict[tuple[str, str], float] = {}
    for (name, labels), value in counters.items():
        if name == "ranked_total":
            at = dict(labels)
            key = (at["experiment"], at["bucket"])
            buckets[key] = buckets.get(key, 0) + value
    return {
        "ranked": ranked,
        "degraded": sum(degraded.values()),
        "degraded_reasons": sorted(degraded.items(), key=lambda kv: -kv[1]),
        "errors": errors,
        "feedback": sum(v for (name, _), v in counters.items() if name == "feedback_total"),
        "lost": sum(v for (name, _), v in counters.items() if name == "exposures_lost_total"),
        "p50_ms": _quantile(counts, 0.5),
        "p99_ms": _quantile(counts, 0.99),
        "replicas": len(overview.get("metrics", [])),
        "buckets": [{"experiment": e, "bucket": b, "n": n} for (e, b), n in sorted(buckets.items())],
    }


def number(value: Any, digits: int = 3) -> str:
    """A number for people: thousands apart, significant digits, a dash for what is not known.

    >>> number(1234567), number(0.012345), number(float("nan")), number(-2.5)
    ('1,234,567', '0.0123', '–', '−2.5')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 1000):
        return f"{int(value):,}".replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{min(places, 8)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def chance(value: Any) -> str:
    """A p-value: three figures, and never as small as zero.

    >>> chance(0.0217), chance(8.2e-14), chance(None)
    ('0.0217', '< .001', '–')
    """
    return "< .001" if value is not None and 0 <= value < 0.001 else number(value)


def percent(value: Any) -> str:
    """A share as percent with its sign.

    >>> percent(0.0312), percent(-0.2)
    ('+3.12 %', '−20 %')
    """
    if value is None or not math.isfinite(value):
        return "–"
    sign = "+" if value > 0 else ""
    return f"{sign}{number(100 * float(value))} %"


def iso(time_ms: int) -> str:
    """A time for the machine; the page shows it in the reader's zone."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


def script_json(value: Any) -> Markup:
    """JSON that may stand inside a script element: no text can close it."""
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    for bad, good in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        text = text.replace(bad, good)
    return Markup(text)  # every character that HTML could read is escaped above


def _readout(readout: Mapping[str, Any]) -> dict[str, Any]:
    if "error" in readout:
        return {**readout, "figures": None}
    return {**readout, "figures": interval_figures(readout)}


def _quantile(counts: Sequence[int], share: float) -> float | None:
    """An upper bound of a quantile from bucket counts: the bound of the bucket it falls in."""
    total = sum(counts)
    if not total:
        return None
    running = 0
    for bound, count in zip((*BOUNDS_MS, math.inf), counts, strict=True):
        running += count
        if running >= share * total:
            return bound
    return None


@cache
def _content(file: str, gzipped: bool) -> bytes:
    if file == "plotly.min.js":
        content = resources.files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    elif file == "mark.svg":
        content = MARK.encode()
    else:
        content = (HERE / file).read_bytes()
    return gzip.compress(content, 6, mtime=0) if gzipped else content
