"""A dictionary whose copy costs nothing: a fork's names are its parent's, until one of the two learns another."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Layers(Generic[K, V]):
    """Frozen layers that copies share, oldest first, below one of its own. Nothing can be taken out but all of it.

    A layer is merged into the one below when that is not twice as large: there are log2(entries) layers at most, and
    each entry is moved so often at most, however many copies are made.
    """

    __slots__ = ("_frozen", "_own")

    def __init__(self) -> None:
        self._frozen: tuple[dict[K, V], ...] = ()
        self._own: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """None: not there, for values must not be None."""
        found = self._own.get(key)
        if found is None:
            for layer in self._frozen:
                found = layer.get(key)
                if found is not None:
                    break
        return found

    def __setitem__(self, key: K, value: V) -> None:
        self._own[key] = value

    def __len__(self) -> int:
        """Entries that are held, those shared with copies included."""
        return len(self._own) + sum(len(layer) for layer in self._frozen)

    def parts(self) -> tuple[dict[K, V], ...]:
        """The dictionaries that it is made of. Those shared with copies are the same objects there."""
        return (*self._frozen, self._own)

    def copy(self) -> Layers[K, V]:
        """Has what this one has now; what either learns later the other does not know."""
        if self._own:
            layers = [*self._frozen, self._own]
            while len(layers) > 1 and len(layers[-2]) <= 2 * len(layers[-1]):
                newer = layers.pop()
                layers[-1] = layers[-1] | newer
            self._frozen, self._own = tuple(layers), {}
        other: Layers[K, V] = Layers()
        other._frozen = self._frozen
        return other

    def clear(self) -> None:
        """Forgets its own and lets go of the shared."""
        self._frozen, self._own = (), {}
