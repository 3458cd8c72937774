"""featx serve."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.arguments import pipeline_of, section_options
from featx.cli.bundles import (
    COVERAGE_OPTION,
    IMPORT_OPTION,
    MODEL_TOO,
    PER_CLASS_OPTION,
    choose,
    describe_choice,
    require_coverage,
)
from featx.cli.complete import complete_model
from featx.cli.help import SectionedCommand
from featx.cli.render import say
from featx.cli.streams import is_verbose, start_logging
from featx.cli.values import number
from featx.config import ByteSize
from featx.config.bounds import Confidence, Count, Distance, Positive
from featx.errors import UsageError
from featx.serve.limits import Limits

if TYPE_CHECKING:
    from socket import socket

    from featx.runs.choosing import ChosenBundle
    from featx.serve.workers import Offer


@click.command(cls=SectionedCommand)
@click.argument("bundle", required=False, shell_complete=complete_model)
@MODEL_TOO
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 lets other machines in."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port to listen on; 0: a free one."
)
@click.option(
    "--api-key",
    envvar="FEATX_API_KEY",
    show_envvar=True,
    help="Answer only requests that carry this key. The environment variable keeps it out of the process list.",
)
@click.option("--top", type=number(Count), default=5, show_default=True, help="Number of top classes to show.")
@click.option(
    "--min-confidence", type=number(Confidence), default=0.0, help="Answer 'unsure' where the confidence is lower."
)
@click.option(
    "--max-distance",
    type=number(Distance),
    help="Answer 'unknown' for images farther than this from all training images; 99 % of images of known "
    "classes are within 1.",
)
@click.option("--maps/--no-maps", default=True, help="Show where the model looked; the first time may load TensorFlow.")
@click.option("--access-log", is_flag=True, help="Print a line for every request: when, from where, what, its status.")
@click.option("--report/--no-report", default=True, help="Show the bundle's report, where it has one.")
@click.option(
    "--max-upload", type=ByteSize, default="32MB", show_default=True, metavar="SIZE", help="Largest size of a request."
)
@click.option(
    "--max-images", type=number(Count), default=Limits.images, show_default=True, help="Most images in a request."
)
@click.option(
    "--max-megapixels",
    type=number(Positive),
    default=Limits.megapixels,
    show_default=True,
    help="Largest size of an image, in megapixels.",
)
@click.option(
    "--timeout",
    type=number(Positive),
    default=Limits.seconds,
    show_default=True,
    help="Seconds in which a request must arrive, and again in which it is answered.",
)
@click.option(
    "--max-requests",
    type=number(Count),
    default=Limits.requests,
    show_default=True,
    help="Requests handled at once; others are asked to retry.",
)
@click.option(
    "--max-connections",
    type=number(Count),
    default=Limits.connections,
    show_default=True,
    help="Connections open at once; idle ones make way for new ones.",
)
@click.option(
    "--max-per-address",
    type=number(Count),
    default=Limits.connections_of_one,
    show_default=True,
    help="Connections from one address other than this machine's; raise it behind another server.",
)
@click.option(
    "--workers",
    type=number(Count),
    default=1,
    show_default=True,
    help="Processes that serve, each with the whole model and these limits to itself.",
)
@COVERAGE_OPTION
@PER_CLASS_OPTION
@IMPORT_OPTION
@section_options("report", without=["report.html", "report.keep_paths", "report.plots"])
def serve(
    bundle: str | None,
    host: str,
    port: int,
    api_key: str | None,
    top: int,
    min_confidence: float,
    max_distance: float | None,
    maps: bool,
    report: bool,
    access_log: bool,
    max_upload: ByteSize,
    max_images: int,
    max_megapixels: float,
    timeout: float,
    max_requests: int,
    max_connections: int,
    max_per_address: int,
    workers: int,
    coverage: float | None,
    per_class: bool,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    **values: object,
) -> None:
    """Serve a bundle (default: the best one) as a web page and over HTTP, until Ctrl-C.

    Only this machine can reach it unless --host opens it to others.
    """
    from featx.serve.installed import require_installed

    require_installed()
    if api_key is not None and not api_key.strip():
        raise UsageError("--api-key is empty, so anyone could guess it. Give a key, or leave the option out.")
    require_coverage(coverage, per_class)
    limits = Limits(
        max_upload.bytes, max_images, max_megapixels, timeout, max_requests, max_connections, max_per_address
    )
    from featx.io.modules import named_modules
    from featx.serve.server import listen
    from featx.serve.service import Terms
    from featx.serve.workers import Offer, Workers, serve_alone

    chosen = choose(bundle, pipeline_of(None, pipeline_file, settings, values))
    terms = Terms(top, min_confidence, max_distance, maps, report, coverage, per_class)
    offer = Offer(chosen.path, _called(chosen.path), terms, limits, api_key, host, access_log)
    with listen(host, port) as listener:
        ready = partial(_announce, chosen, offer, listener)
        if workers == 1:
            serve_alone(offer, listener, ready)
        else:
            modules, prepare = tuple(named_modules().names), partial(start_logging, is_verbose())
            Workers(replace(offer, modules=modules, prepare=prepare), listener, workers).serve(ready)
    say("Ended.")


def _announce(chosen: ChosenBundle, offer: Offer, listener: socket) -> None:
    """Print where the server is, and who can reach it."""
    from featx.serve.server import is_local, reachable_url, url

    path, host = chosen.path, offer.host
    if offer.key is None and not is_local(listener):
        seen = "use this model and see its report" if offer.terms.report else "use this model"
        say(f"Warning: anyone who can reach {host} can {seen}. Protect it with --api-key KEY.")
    if chosen.why:
        say(f"Taking {path}{describe_choice(chosen)}")
    say(f"Serving {path} at {url(host, listener)} (Ctrl-C ends it)")
    if not is_local(listener):
        asked = "; it asks for a name and a password: any name, and the key" if offer.key is not None else ""
        say(f"A phone in the same network opens {reachable_url(host, listener)}{asked}.")


def _called(path: Path) -> str:
    """What people call a bundle: its run and number, or the name of its file; not where it lies."""
    whole = path.resolve()
    return whole.stem if path.is_file() else "/".join(filter(None, [whole.parent.name, whole.name]))
