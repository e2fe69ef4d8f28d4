"""The commands ``publish``, ``withdraw`` and ``status``.

What they need of the Hub and of Arrow is imported when one of them runs: to print a help takes nothing of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sa_med2d_20m import MODALITIES, TIERS, DatasetError
from shards.license import tiers
from shards.store import folder

if TYPE_CHECKING:
    from rich.console import Console

    from shards.hub.gate import Verdict
    from shards.hub.publish import Offer

DONE, FAILED = range(2)
"""Exit codes: done; failed, refused or held back."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a parser; each sets ``run``, a function of the options and a console."""
    _add_publish(commands)
    _add_withdraw(commands)
    _add_status(commands)


def output_folder(text: str, place: Callable[[str], Path] = folder) -> Path:
    """The type of an argument that names an output folder, or its URL in an object store.

    Args:
        text: The argument.
        place: `shards.store.folder`, or `shards.store.writable` where shards or their index are written.
    """
    try:
        return place(text)
    except DatasetError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_publish(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "publish",
        help="put shards, index and card on the Hugging Face Hub",
        description="Bring a dataset repository to hold what is built and may be published. Every shard is verified "
        "and its licence read from its own samples; if anything that is asked for must be held back, nothing is "
        "uploaded and the exit code is 1. Run the same command again after any interruption: nothing is uploaded "
        "twice. Log in with 'hf auth login' or set HF_TOKEN.",
    )
    command.add_argument("out", type=output_folder, metavar="OUT")
    command.add_argument("repository", metavar="REPO_ID", help="owner/name; made if it is not there")
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--tier", choices=TIERS, default=TIERS[0], help="only licences of this tier (default: all)")
    command.add_argument(
        "--modality", action="append", default=[], choices=MODALITIES, help="only this; may be repeated"
    )
    command.add_argument("--source", action="append", default=[], metavar="S", help="only this; repeatable")
    command.add_argument("--revision", default="main", metavar="BRANCH", help="branch (default: main)")
    command.add_argument("--tag", metavar="TAG", help="name of the release, given when all is verified: v1.0.0")
    command.add_argument(
        "--allowed-only", action="store_true", help="upload what may be published and list what is held back"
    )
    command.add_argument("--dry-run", action="store_true", help="say what would go up and what is held back, no more")
    command.set_defaults(run=_publish)


def _add_withdraw(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "withdraw",
        help="take a source down from the Hub",
        description="Remove a source's shards, index and part of the card, and list the tags and branches that still "
        "hold it.",
    )
    command.add_argument("source", metavar="SOURCE")
    command.add_argument("repository", metavar="REPO_ID")
    command.add_argument("--revision", default="main", metavar="BRANCH", help="branch (default: main)")
    command.add_argument(
        "--purge", action="store_true", help="also delete those tags and make the branch's history one commit"
    )
    command.set_defaults(run=_withdraw)


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("status", help="what is published, beside what is built")
    command.add_argument("repository", metavar="REPO_ID")
    command.add_argument("out", type=output_folder, nargs="?", metavar="OUT")
    command.add_argument("--revision", default="main", metavar="BRANCH", help="branch (default: main)")
    command.set_defaults(run=_status)


def _publish(options: argparse.Namespace, console: Console) -> int:
    from shards.hub.gate import Choice  # noqa: PLC0415 - see above
    from shards.hub.publish import offer, publish  # noqa: PLC0415
    from shards.hub.repository import Repository  # noqa: PLC0415

    choice = Choice(options.tier, tuple(options.modality), tuple(options.source))
    with console.status("verifying") as shown:
        offered = offer(options.out, choice, lambda shard: shown.update(f"verifying {shard.tar}"))
    _show_offer(offered, console)
    if offered.held_back and not options.allowed_only:
        console.print("nothing was uploaded: --allowed-only uploads the rest")
        return FAILED
    if options.dry_run:
        return DONE
    repository = Repository(options.repository, options.revision)
    done = publish(options.out, offered, repository, private=options.private, tag=options.tag)
    console.print(f"{options.repository} is at {done.commit}: {done.changed} files changed, {done.deleted} deleted")
    console.print(f"all files verified, the first samples of {', '.join(done.configs)} streamed")
    if done.tag is not None:
        console.print(f"tagged {done.tag}")
    return DONE


def _show_offer(offered: Offer, console: Console) -> None:
    from rich.table import Table  # noqa: PLC0415 - see above

    table = Table("source", "licence", "tiers", "shards", "images", "MB")
    for verdict in offered.allowed:
        table.add_row(*_row(verdict))
    if offered.allowed:
        console.print(table)
    for verdict in offered.held_back:
        console.print(f"held back: {verdict.name}", markup=False, highlight=False)
        for reason in verdict.reasons:
            console.print(f"  {reason}", markup=False, highlight=False)


def _row(verdict: Verdict) -> tuple[str, ...]:
    license_id = verdict.receipts[0].license
    samples, size = sum(one.samples for one in verdict.receipts), sum(one.bytes for one in verdict.receipts)
    shards = str(len(verdict.receipts))
    return verdict.name, license_id, ", ".join(tiers(license_id)), shards, f"{samples:,}", f"{size / 1e6:.1f}"


def _withdraw(options: argparse.Namespace, console: Console) -> int:
    from shards.hub.repository import Repository  # noqa: PLC0415 - see above
    from shards.hub.withdraw import withdraw  # noqa: PLC0415

    repository = Repository(options.repository, options.revision)
    done = withdraw(options.source, repository, purge=options.purge)
    console.print(f"{options.repository} is at {done.commit}: {done.deleted} files of {options.source} deleted")
    if done.tags:
        kept = "tags deleted" if done.purged else "tags that still hold it (--purge deletes them)"
        console.print(f"{kept}: {', '.join(done.tags)}")
    if done.branches:
        console.print(f"branches that still hold it (--revision BRANCH withdraws from one): {', '.join(done.branches)}")
    if done.purged:
        console.print(f"the history of {options.revision} is one commit")
    else:
        console.print("earlier commits still hold it (--purge makes the history one commit)")
    return DONE


def _status(options: argparse.Namespace, console: Console) -> int:
    from rich.table import Table  # noqa: PLC0415 - see above

    from shards.hub.repository import Repository  # noqa: PLC0415
    from shards.hub.status import status  # noqa: PLC0415

    found = status(Repository(options.repository, options.revision), options.out)
    table = Table("source", "licence", "published shards", "images", "MB", "state")
    for one in found:
        receipts = one.published.values()
        samples, size = sum(receipt.samples for receipt in receipts), sum(receipt.bytes for receipt in receipts)
        table.add_row(one.name, one.license, str(len(receipts)), f"{samples:,}", f"{size / 1e6:.1f}", one.state)
    console.print(table if found else f"{options.repository} holds no source")
    return DONE
