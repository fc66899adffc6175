"""How a field of the schema says what it is: its kind, its key in TOML and a line for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias, TypeVar

from excise_agent.config.kinds import Kind

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value."""

    kind: Kind[Any]
    why: str
    default: Any
    restart: bool  # a running agent takes it only when it starts


@dataclass(frozen=True, slots=True)
class Section:
    """A table."""

    type: type


@dataclass(frozen=True, slots=True)
class Tables:
    """An array of tables; those of more than one file add up. `example` is what the default file shows."""

    type: type
    example: Any


Member: TypeAlias = Setting | Section | Tables


def setting(default: T, kind: Kind[T], why: str, *, key: str = "", restart: bool = False) -> T:
    """A field that is one value. `key`: when TOML calls it otherwise than we do (units are in the value there)."""
    return field(default=default, metadata={"member": Setting(kind, why, default, restart), "key": key})


def section(of: type[T]) -> T:
    return field(default_factory=of, metadata={"member": Section(of), "key": ""})


def tables(of: type[T], example: T | None = None, *, key: str = "") -> tuple[T, ...]:
    shown = example if example is not None else of()
    return field(default=(), metadata={"member": Tables(of, shown), "key": key})


def members(of: type) -> Mapping[str, tuple[str, Member]]:
    """By key: the attribute's name, and what it is; in the order of the schema."""
    return {f.metadata["key"] or f.name: (f.name, f.metadata["member"]) for f in fields(of)}


def summary_of(of: type) -> str:
    """What the docstring says behind its heading: "[agent]: how it watches." -> "how it watches"."""
    return " ".join((of.__doc__ or "").split()).partition(": ")[2].removesuffix(".")
