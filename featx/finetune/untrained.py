"""A network as it stands before a fine-tune: what training changes in it besides its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.training.checkpoints import seed_generators

if TYPE_CHECKING:
    import keras


class Untrained:
    """Which layers of a network train, and where its random numbers begin.

    With these set back, a network whose layers were trained as part of another is what loading it again and giving it
    the trained weights would make of it, which takes seconds where it is large.

    model : before any of its layers was told not to train
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._trains = [(layer, layer.trainable) for layer in model._flatten_layers()]
        self._seeds = [(one.state, one.state.numpy()) for one in seed_generators(model)]

    def set_back(self) -> keras.Model:
        """Return the network with the weights it has now, all else as it was."""
        for layer, trains in self._trains:  # those inside of others come after them
            layer.trainable = trains
        for state, seed in self._seeds:
            state.assign(seed)
        return self._model
