"""Directives that write reference tables from the code: settings, options, errors, events, and the public names.

A field, error or event without its sentence is a warning, and ``make docs`` makes warnings errors.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import error_advice
import event_data
import field_text
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

log = logging.getLogger(__name__)


class Generated(SphinxDirective):
    """A directive whose content is Markdown (or, for autodoc, reStructuredText) made from the code."""

    has_content = False
    required_arguments = 0
    optional_arguments = 1
    text: ClassVar[Callable[[str], Iterator[str]]]

    def run(self) -> list[nodes.Node]:
        argument = self.arguments[0] if self.arguments else ""
        return self.parse_text_to_nodes("\n".join(type(self).text(argument)), allow_section_headings=True)


def fields_table(path: str) -> Iterator[str]:
    """``orchestrator.settings:Settings`` -> for each field its name, what it takes, its default, and what it does."""
    module, _, name = path.partition(":")
    model = getattr(importlib.import_module(module), name)
    sentences = _attribute_docs(module)
    prefix = str(model.model_config.get("env_prefix", ""))
    for field_name, field in model.model_fields.items():
        text = sentences.get((name, field_name)) or log.warning("%s.%s has no docstring", path, field_name) or ""
        shown = prefix + field_name.upper() if prefix else (field.alias or field_name)
        facts = "; ".join([field_text.takes(field), field_text.default(field)])
        yield from (f"`{shown}`", f": *{facts}*", "", f"  {text.replace('``', '`')}", "")


def error_table(module_name: str) -> Iterator[str]:
    """A row for each error class of a module: code, number, class and whether it is retried, meaning, what to do."""
    module = importlib.import_module(module_name)
    yield "| code | meaning | what to do |"
    yield "|---|---|---|"
    for name, kind in vars(module).items():
        if not (inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == module_name):
            continue
        advice = error_advice.ADVICE.get(name) or log.warning("no advice for %s.%s", module_name, name) or ""
        facts = [str(kind.number)] if kind.number >= 0 else []
        facts += [f"`{name}`", *(["retried"] if kind.retryable else [])]
        meaning = (inspect.getdoc(kind) or "").split("\n")[0]
        yield _row([f"`{kind.code}`<br><small>{', '.join(facts)}</small>", meaning, advice])


def event_table(_: str) -> Iterator[str]:
    """A row for each kind of event and what its data holds."""
    kinds = importlib.import_module("orchestrator.events").KINDS
    yield "| kind | when | `data` |"
    yield "|---|---|---|"
    for kind in kinds:
        when, data = event_data.EVENTS.get(kind) or (log.warning("no text for event %s", kind) or ("", ""))
        yield _row([f"`{kind}`", when, data])


def metric_table(group: str) -> Iterator[str]:
    """``PROCESS`` or ``FLEET`` -> a row for each metric of ``workers.metrics``."""
    yield "| metric | labels | |"
    yield "|---|---|---|"
    for name, spec in getattr(importlib.import_module("workers.metrics"), group).items():
        labels = ", ".join(f"`{label}`" for label in spec.labels) or "-"
        yield _row([f"`{name}`<br><small>{spec.kind}</small>", labels, spec.help])


def public_names(group: str) -> Iterator[str]:
    """autodoc of the names in ``haulage.__all__``: ``clients``, ``values``, ``errors`` or ``functions``."""
    haulage = importlib.import_module("haulage")
    yield "```{eval-rst}"
    for name in sorted(haulage.__all__, key=lambda each: (not each.endswith("Client"), each)):
        thing = getattr(haulage, name)
        if _group(thing) == group:
            yield from _autodoc(name, thing, group)
    yield "```"


def _group(thing: Any) -> str:
    if not inspect.isclass(thing):
        return "functions" if callable(thing) else "other"
    if issubclass(thing, BaseException):
        return "errors"
    return "clients" if thing.__name__.endswith("Client") else "values"


def _autodoc(name: str, thing: Any, group: str) -> Iterator[str]:
    if group == "functions":
        yield from (f".. autofunction:: haulage.{name}", "")
        return
    yield f".. auto{'exception' if group == 'errors' else 'class'}:: haulage.{name}"
    if group == "clients":
        yield from ("   :members:", "   :inherited-members:", "   :special-members: __init__")
    elif group == "values" and not hasattr(thing, "model_fields"):  # fields of models have tables of their own
        yield from ("   :members:", "   :undoc-members:")
    yield ""


def _attribute_docs(module: str) -> dict[tuple[str, str], str]:
    """Docstrings below the fields of classes."""
    analyzer = ModuleAnalyzer.for_module(module)
    analyzer.analyze()
    return {where: " ".join(lines).strip() for where, lines in analyzer.attr_docs.items()}


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ").replace("``", "`") for cell in cells) + " |"


def examples_as_code(app: Sphinx, context: object, lines: list[str]) -> None:
    """sphinx-click shows the examples of a command as flowing text; they are code."""
    shown: list[str] = []
    for line in lines:
        if line.startswith("| "):
            shown += [] if shown and shown[-1].startswith("   ") else ["::", ""]
            line = f"   {line[2:]}"
        shown.append(line)
    lines[:] = shown


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    for name, function in {
        "fields-table": fields_table,
        "error-table": error_table,
        "event-table": event_table,
        "metric-table": metric_table,
        "public-names": public_names,
    }.items():
        app.add_directive(name, type(name, (Generated,), {"text": staticmethod(function)}))
    app.connect("sphinx-click-process-description", examples_as_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
