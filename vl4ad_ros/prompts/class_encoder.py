"""A text encoder for a vision-only network, whose "text space" has one axis per class that it was trained with.

The logits of a learned linear classifier are the visual embedding, class k is the unit vector e_k, and the "cosine"
v . e_k is the logit of class k. So the one graph contract, class merging and every score hold for such a network too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.prompts.encoders import CLASSES_PREFIX

SEPARATOR = "|"


def class_encoder_id(names: Iterable[str]) -> str:
    """Return the encoder's id for a classifier over these classes, in this order."""
    return CLASSES_PREFIX + SEPARATOR.join(names)


class ClassEncoder:
    """A text encoder that knows the names of the trained classes and nothing else.

    Attributes:
        id: `classes:NAME|NAME|...`.
        dim: K, the number of classes.
    """

    def __init__(self, encoder_id: str) -> None:
        """Read the names from the id.

        Raises:
            Vl4adError: If a name is empty or stands twice.
        """
        self.id = encoder_id
        self._names = encoder_id.removeprefix(CLASSES_PREFIX).split(SEPARATOR)
        self.dim = len(self._names)
        if not all(self._names) or len(set(self._names)) != self.dim:
            raise Vl4adError(f"'{encoder_id}': expected different class names between '{SEPARATOR}'.")

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return float32 [len(texts), K], a 1 at the class of that name.

        Raises:
            Vl4adError: If a text is not the bare name of a class: this network knows no other words.
        """
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            if text not in self._names:
                near = difflib.get_close_matches(text, self._names, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"it knows {self._names}"
                raise Vl4adError(
                    f"A vision-only network has no concept '{text}' ({hint}); its prompt sets take "
                    "'templates: plain', class names as concepts, and no OOD concepts."
                )
            row[self._names.index(text)] = 1
        return rows
