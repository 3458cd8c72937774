"""Which layers train in each epoch of a fine-tune, and how fast.

The head always trains, and the backbone from the layer upwards that `unfreeze` names; gradual unfreezing (Howard and
Ruder 2018) gets there block by block from the top. The head has the full learning rate; with a layer decay every block
has the rate of the one above it times the decay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featx.backbones import Block, block_index, find_blocks, has_kernel, import_keras
from featx.errors import UsageError
from featx.io.suggest import did_you_mean
from featx.training.groups import ParameterGroup

if TYPE_CHECKING:
    import keras


def first_trained(names: Sequence[str], blocks: Sequence[Block], what: str) -> int:
    """Return the position of the lowest layer of the backbone that trains; the number of layers for none.

    Parameters
    ----------
    names : the layers from the bottom up
    what : "all", "none", a block's name (from its first layer on), a layer's name (from this layer on), or a number of
        layers from the top, of which -1 is all; a name of both is the block's

    Raises
    ------
    UsageError
        An unknown name.
    """
    if what == "all":
        return 0
    if what == "none":
        return len(names)
    if what.lstrip("-").isdecimal():
        count = int(what)
        return 0 if count < 0 else max(0, len(names) - count)
    starts = {name: position for position, name in enumerate(names)} | {block.name: block.start for block in blocks}
    if what in starts:
        return starts[what]
    raise UsageError(
        f"No layer or block {what!r} in this backbone to unfreeze from.{did_you_mean(what, starts, most=3)} "
        "Give all, none, a number of layers, a name that featx layers lists, or a block: "
        f"{', '.join(block.name for block in blocks)}."
    )


def first_in_epoch(layers: int, blocks: Sequence[Block], first: int, gradual: int, epoch: int) -> int:
    """Return the position of the lowest layer that trains in an epoch, the first of which is 0.

    Parameters
    ----------
    layers : how many the backbone has
    first : the lowest layer that trains in the end
    gradual : after this many epochs one more block from the top joins in, beginning with none; 0: all train at once
    """
    if not gradual:
        return first
    joined = min(epoch // gradual, len(blocks))
    return max(first, blocks[-joined].start if joined else layers)


def epochs_until_all(layers: int, blocks: Sequence[Block], first: int, gradual: int) -> int:
    """Return how many epochs go by before everything trains that will."""
    joining = 0 if first == layers else len(blocks) - block_index(blocks, first)
    return gradual * joining


def rate_share(blocks: Sequence[Block], position: int, decay: float) -> float:
    """Return the learning rate of a layer of the backbone as a share of the head's."""
    return float(decay ** (len(blocks) - block_index(blocks, position)))


class Unfreezing:
    """Which layers of a grafted model train in which epoch.

    Layers of the backbone are those whose name does not begin with `featx_`; of the others only the head trains.

    model : backbone and head
    always : names of the layers that train from the first epoch on, at the full rate; the head's is one of them
    what, gradual : as in `first_trained` and `first_in_epoch`
    batch_norm : "frozen" keeps batch normalisation in inference mode wherever it is, "train" trains it where its
        block trains
    layer_decay : the rate of each block as a share of the one above it
    """

    def __init__(
        self,
        model: keras.Model,
        always: Sequence[str],
        what: str,
        batch_norm: str = "frozen",
        gradual: int = 0,
        layer_decay: float = 1.0,
    ) -> None:
        self._model, self._batch_norm, self._gradual, self._decay = model, batch_norm, gradual, layer_decay
        self._always = [layer for layer in model.layers if layer.name in always]
        self._backbone = [
            layer for layer in model.layers if not layer.name.startswith("featx_") and layer not in self._always
        ]
        names = [layer.name for layer in self._backbone]
        self.blocks = find_blocks(names, [has_kernel(layer) for layer in self._backbone])
        self._first = first_trained(names, self.blocks, what)

    @property
    def epochs_until_all(self) -> int:
        """How many epochs go by before everything trains that will."""
        return epochs_until_all(len(self._backbone), self.blocks, self._first, self._gradual)

    def set(self, epoch: int) -> list[keras.Variable]:
        """Make trainable what trains in this epoch, and nothing else; return its variables."""
        first = first_in_epoch(len(self._backbone), self.blocks, self._first, self._gradual, epoch)
        self._train_from(first)
        return list(self._model.trainable_variables)

    def set_all(self) -> list[ParameterGroup]:
        """Make trainable all that trains in the end; return its variables in the groups they join in, the head first.

        Every block is a group where blocks differ in their rate or in when they begin.
        """
        self._train_from(self._first)
        groups: dict[int, ParameterGroup] = {}
        for layer in self._model.layers:
            depth, share = self._depth_and_share(layer)
            if layer.trainable_variables:
                groups.setdefault(depth, ParameterGroup(share, [])).variables.extend(layer.trainable_variables)
        return [groups[depth] for depth in sorted(groups)]

    def _depth_and_share(self, layer: keras.Layer) -> tuple[int, float]:
        """How many blocks below the head a layer is, 0 where blocks do not differ, and its share of the rate."""
        if layer not in self._backbone or (self._decay == 1 and not self._gradual):
            return 0, 1.0
        position = self._backbone.index(layer)
        return len(self.blocks) - block_index(self.blocks, position), rate_share(self.blocks, position, self._decay)

    def _train_from(self, first: int) -> None:
        for layer in self._model.layers:
            layer.trainable = layer in self._always  # the matrices of grid pooling are no weights
        for layer in self._backbone[first:]:
            layer.trainable = True
        if self._batch_norm == "frozen":
            for layer in _batch_normalisations(self._model):
                layer.trainable = False


def _batch_normalisations(model: keras.Model) -> list[keras.Layer]:
    """Those of a model, also of models inside it."""
    kind = import_keras().layers.BatchNormalization
    return [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, kind)]
