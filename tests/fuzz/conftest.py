"""The stores of the contract tests, for fuzzers as well."""

from __future__ import annotations

from tests.contract.conftest import bare_rig

__all__ = ["bare_rig"]
