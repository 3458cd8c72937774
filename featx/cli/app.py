"""The command line: parse, call, render. The commands are in the modules of this package, by topic.

A command's module is imported when the command is used, so that `featx --help` loads click and nothing heavy.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from contextlib import suppress

import click

from featx.cli.failures import Failure, print_failure
from featx.cli.interruption import Terminated, interruptible
from featx.cli.lazy import LazyGroup
from featx.cli.streams import in_place_of, prepare_streams, say, start_logging
from featx.io.lazy import keep_imports
from featx.io.shown import as_line

# command -> (module, one line for `featx --help`); in the order in which data flows
_COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Write a commented pipeline file for a data set, to start from."),
    "run": ("stages", "Bring every stage of a pipeline up to date."),
    "check": ("data", "Find bad images, duplicates and conflicting labels."),
    "relabel": ("relabel", "Correct labels permanently, or confirm that they are right."),
    "split": ("data", "Write the split into train, val and test as a CSV."),
    "look": (
        "look",
        "Get a first look at a data set: contact sheet, what the network sees, ImageNet's answers, advice.",
    ),
    "augment": ("augment", "Draw what augmentation does to an image."),
    "backbones": ("networks", "List the backbones."),
    "layers": ("networks", "List the layers of a backbone."),
    "extract": ("stages", "Compute features once and cache them."),
    "fit-head": ("stages", "Fit a head on cached features and save a bundle."),
    "finetune": ("stages", "Graft the best head onto its backbone and train both end to end."),
    "baseline": ("baseline", "Train a small network from scratch, to see how much the backbone helps."),
    "compare": ("compare", "Compare data sets, backbones, layers, heads and fine-tuning in one table."),
    "models": ("models", "List models: data, head, layer, scores, date, size."),
    "evaluate": ("evaluate", "Measure a bundle on a part of the data."),
    "predict": ("predict", "Predict the class of images."),
    "explain": ("explain", "Show which image regions support a class."),
    "serve": ("serve", "Serve a bundle as a web page and over HTTP."),
    "similar": ("quality", "Show the images of a set that look most like given ones."),
    "enough": ("active", "Show what more images would bring: accuracy against their number, and a forecast."),
    "next": ("active", "Choose which images of a pool to label next."),
    "label": ("label", "Label images in the browser, with the keyboard."),
    "drift": ("drift", "Compare new images with those that a model was made with."),
    "map": ("map", "Show the features of a data set in two dimensions, as one page."),
    "export": ("export", "Write a bundle for other runtimes: ONNX, OpenVINO, LiteRT, SavedModel, Keras."),
    "bundle": ("bundle", "Pack, unpack and verify bundles, and write their model cards."),
    "cache": ("cache", "List, verify, export and prune cached features."),
    "completion": ("completion", "Print or install the completion of commands and values for bash, zsh or fish."),
    "data": ("data", "Write embedded data sets as image folders."),
}

_TRAIN = (
    "featx fit-head DATA fits a head on cached features, featx finetune trains the network too; featx run does both."
)
_LIST = "featx models lists what was made, featx cache ls what is cached, featx backbones the networks."
_MEANT = {
    **dict.fromkeys(("train", "fit"), _TRAIN),
    **dict.fromkeys(("ls", "list", "show"), _LIST),
    "help": "featx --help lists the commands, featx COMMAND --help shows one.",
    **dict.fromkeys(("test", "eval", "score"), "featx evaluate measures a model, featx predict classifies images."),
    **dict.fromkeys(("web", "app", "ui"), "featx serve shows a model as a web page."),
}


@click.group(
    cls=LazyGroup,
    homes=_COMMANDS,
    meant=_MEANT,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="featx")
@click.option("-v", "--verbose", is_flag=True, help="Show stage logs, and tracebacks of errors.")
def cli(verbose: bool) -> None:
    """Extract features with a frozen backbone once, then fit classical heads on the cache.

    Commands without DATA and without -p work on pipelines/default.yaml.
    """
    start_logging(verbose)


def main(arguments: list[str] | None = None) -> None:
    """The entry point `featx`. Every error becomes one sentence on stderr, with --json an object too, and a status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verbose, as_json = "-v" in arguments[:1] or "--verbose" in arguments[:1], "--json" in arguments
    prepare_streams()
    keep_imports()
    try:
        with interruptible():
            status = cli.main(arguments, prog_name="featx", standalone_mode=False)
            sys.stdout.flush()
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue().removesuffix("\n"))
        status = _end(Failure.of(error), as_json)
    except (click.Abort, KeyboardInterrupt) as error:
        ended = Failure.interrupted(isinstance(error, Terminated) or isinstance(error.__cause__, Terminated))
        say(f"featx: {ended.text}" if ended.kind == "memory" else f"\n{ended.text}")
        status = _end(ended, as_json)
    except BrokenPipeError:  # the reader of our output has gone (`featx layers X | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:  # the last resort: whatever it is, the user gets a sentence and not a traceback
        failure = Failure.of(in_place_of(error))
        if verbose:
            with suppress(OSError):
                traceback.print_exc()
        say(f"featx: {as_line(failure.text)}")
        status = _end(failure, as_json)
    sys.exit(status if isinstance(status, int) else 0)


def _end(failure: Failure, as_json: bool) -> int:
    """Print a failure for scripts where they are the readers; its exit status."""
    print_failure(failure, as_json)
    return failure.status


def command_line() -> str:
    """What was typed, for the record of a bundle: without the passwords and signatures of URLs."""
    import shlex

    from featx.io.urls import plain

    return "featx " + shlex.join(map(plain, sys.argv[1:]))
