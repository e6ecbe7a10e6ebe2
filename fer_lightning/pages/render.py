"""Fill in a template of ``pages/templates``."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["render"]


def _number(value: float | None, form: str = ",") -> str:
    return "n/a" if value is None else format(value, form)


_ENVIRONMENT = Environment(
    loader=PackageLoader("fer_lightning.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    extensions=["jinja2.ext.do"],
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters["number"] = _number


def render(template: str, **values: object) -> str:
    """Return a page as HTML: one file in light and dark, without scripts, that needs no network.

    Every value is escaped, so that a file called ``<script>`` is shown by that name. In templates, ``value |
    number(".1%")`` formats a number; ``None``, which stands for what is not known, becomes ``n/a``.

    Args:
        template: file in ``pages/templates``, such as ``inspect.html``.
        values: what the template needs by name; the comment at its head lists it.

    Raises:
        jinja2.TemplateNotFound: if there is no such template.
        jinja2.UndefinedError: if a value that the template needs is missing.
    """
    return _ENVIRONMENT.get_template(template).render(**values)
