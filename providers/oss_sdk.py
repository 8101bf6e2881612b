"""Alibaba's SDK for OSS, imported in silence: its docstrings hold escapes that Python warns about when it compiles."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oss2
    from oss2 import exceptions, models

__all__ = ["exceptions", "models", "oss2"]
