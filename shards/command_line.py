"""The commands on built shards: to check, export, publish, withdraw, count and show them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sa_med2d_20m import MODALITIES, TIERS
from shards.arguments import add_json, output_folder, repository_name
from shards.cache.command import add_cache
from shards.console import complain, console, plural, print_json, print_table, results, working
from shards.duplicates.commands import add_commands as add_duplicate_commands
from shards.export import command as export
from shards.report.commands import add_commands as add_report_commands
from shards.report.findings.commands import add_commands as add_findings_commands
from shards.show.commands import add_commands as add_show_command

if TYPE_CHECKING:
    from rich.console import Console

    from shards.description import SourceDescription
    from shards.hub.gate import Verdict
    from shards.hub.publish import Offer
    from shards.hub.status import SourceStatus
    from shards.paths import ShardId
    from shards.receipt import Receipt

DONE, FAILED = range(2)
"""Exit codes: done; failed, refused, held back, or something found wrong."""

EXTRA: Final = "publish"
"""The extra of ``pyproject.toml`` that these commands need."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a parser; each sets ``run``, a function of the options, and ``extra``, see `EXTRA`."""
    _add_index(commands)
    _add_verify(commands)
    _add_remove(commands)
    export.add(commands)
    add_cache(commands)
    _add_publish(commands)
    _add_withdraw(commands)
    _add_status(commands)
    add_report_commands(commands, _known)
    add_show_command(commands)
    add_duplicate_commands(commands)
    add_findings_commands(commands, _known)


def _known(out: Path) -> tuple[tuple[Receipt, ...], Mapping[str, SourceDescription]]:
    from shards.hub.published import known_of  # noqa: PLC0415 - imported when it is called

    return known_of(out)


def _add_index(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("index", help="write index, receipts, card and tables anew from the shards alone")
    command.add_argument("out", type=partial(output_folder, write=True), metavar="OUT")
    command.set_defaults(run=_index, extra=EXTRA)


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("verify", help="check shards against receipts and index; exit code 1 on any finding")
    command.add_argument("out", type=output_folder, metavar="OUT")
    command.add_argument("--deep", action="store_true", help="also decode every picture and check each mask")
    add_json(command)
    command.set_defaults(run=_verify, extra=EXTRA)


def _add_remove(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "remove",
        help="take a source out of an output folder",
        description="Delete everything that an output folder holds of a source: shards, index, receipts and what else "
        "a build wrote of it, and its part of the card. Run the same command again after any interruption. Raw data "
        "stay, and so does what is published (sa-med2d withdraw).",
    )
    command.add_argument("source", metavar="SOURCE")
    command.add_argument("out", type=partial(output_folder, write=True), metavar="OUT")
    command.add_argument("--dry-run", action="store_true", help="say what would be deleted, no more")
    command.set_defaults(run=_remove, extra=EXTRA)


def _add_publish(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "publish",
        help="put shards, index, tables and card on the Hugging Face Hub",
        description="Bring a dataset repository to hold what is built and may be published. Every shard is verified "
        "and its licence read from its own samples; if anything that is asked for must be held back, nothing is "
        "uploaded and the exit code is 1. Run the same command again after any interruption: nothing is uploaded "
        "twice. Log in with 'hf auth login' or set HF_TOKEN.",
    )
    command.add_argument("out", type=output_folder, metavar="OUT")
    command.add_argument(
        "repository", type=repository_name, metavar="REPO_ID", help="owner/name; made if it is not there"
    )
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument(
        "--tier",
        choices=TIERS,
        default=TIERS[0],
        help="only licences of this tier, in a repository that holds no others (default: all)",
    )
    command.add_argument(
        "--modality", action="append", default=[], choices=MODALITIES, help="only this; may be repeated"
    )
    command.add_argument("--source", action="append", default=[], metavar="S", help="only this; repeatable")
    command.add_argument("--revision", default="main", metavar="BRANCH", help="branch (default: main)")
    command.add_argument("--tag", metavar="TAG", help="name of the release, given when all is verified: v1.0.0")
    command.add_argument(
        "--allowed-only", action="store_true", help="upload what may be published and list what is held back"
    )
    command.add_argument(
        "--again",
        action="append",
        default=[],
        metavar="S",
        help="also this source, although it was withdrawn from there; repeatable",
    )
    command.add_argument("--dry-run", action="store_true", help="say what would go up and what is held back, no more")
    command.add_argument(
        "--no-figures", action="store_true", help="no figures in the card, which take some seconds to draw"
    )
    command.set_defaults(run=_publish, extra=EXTRA)


def _add_withdraw(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "withdraw",
        help="take a source down from the Hub",
        description="Remove a source's shards, index and part of the card, and list the tags and branches that still "
        "hold it. The repository remembers it, and the next publish leaves it out (--again).",
    )
    command.add_argument("source", metavar="SOURCE")
    command.add_argument("repository", type=repository_name, metavar="REPO_ID", help="owner/name")
    command.add_argument("--revision", default="main", metavar="BRANCH", help="branch (default: main)")
    command.add_argument(
        "--purge",
        action="store_true",
        help="also delete those tags and make the branch's history one commit; asks first",
    )
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(run=_withdraw, extra=EXTRA)


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("status", help="what is published, beside what is built")
    command.add_argument("repository", type=repository_name, metavar="REPO_ID", help="owner/name")
    command.add_argument("out", type=output_folder, nargs="?", metavar="OUT")
    command.add_argument("--revision", default="main", metavar="BRANCH", help="branch (default: main)")
    add_json(command)
    command.set_defaults(run=_status, extra=EXTRA)


def _index(options: argparse.Namespace) -> int:
    from shards.index import rebuild  # noqa: PLC0415 - imported when it is called, here and below

    _require_folder(options.out)
    speaker = console()
    with _shards_seen(speaker, "indexing") as seen:
        count, findings = rebuild(options.out, seen.append)
    report(findings or ([] if count else [f"{options.out}: holds no shard"]), speaker)
    speaker.print(f"{plural(count, 'shard')} indexed, {len(findings)} could not be read")
    return FAILED if findings or not count else DONE


def _verify(options: argparse.Namespace) -> int:
    from shards.verify import verify  # noqa: PLC0415

    _require_folder(options.out)
    speaker = console()
    findings: list[str] = []
    with _shards_seen(speaker, "verifying") as seen:
        for finding in verify(options.out, deep=options.deep, on_shard=seen.append):
            findings.append(finding)
            complain(speaker, finding)
    samples = _samples(options.out, seen)
    if options.json:
        counts = {"shards": len(seen), "samples": samples, "deep": options.deep}
        print_json({"folder": str(options.out), **counts, "findings": findings})
    else:
        results().print(_verdict(len(seen), samples, len(findings), deep=options.deep), soft_wrap=True, highlight=False)
    return FAILED if findings else DONE


def _verdict(shards: int, samples: int, findings: int, *, deep: bool) -> str:
    pictures = "every picture and mask decoded" if deep else "no picture decoded (--deep does that)"
    checked = (
        f"{plural(shards, 'shard')} with {plural(samples, 'sample')} checked against receipts and index, {pictures}"
    )
    return f"{checked}: {plural(findings, 'finding') if findings else 'no findings'}"


def _samples(out: Path, shards: Iterable[ShardId]) -> int:
    """How many samples shards hold by their receipts; those that cannot be read are findings already."""
    from shards.receipt import read_receipts  # noqa: PLC0415

    receipts = read_receipts(out)
    return sum(receipts[shard.stem].samples for shard in shards if shard.stem in receipts)


@contextmanager
def _shards_seen(speaker: Console, doing: str) -> Iterator[list[ShardId]]:
    """Say which shard a command is at while the block runs; the list takes the shards in."""
    seen: list[ShardId] = []
    with working(speaker, lambda: f"{doing} shard {len(seen):,}, {seen[-1].tar}" if seen else doing):
        yield seen


def report(findings: Iterable[str], speaker: Console) -> int:
    """Print findings as they come, and count them."""
    count = 0
    for finding in findings:
        complain(speaker, finding)
        count += 1
    return count


def _require_folder(out: Path) -> None:
    from sa_med2d_20m import DatasetError  # noqa: PLC0415

    if not out.is_dir():
        raise DatasetError(f"{out} is no folder; expected one that 'sa-med2d build' wrote")


def _remove(options: argparse.Namespace) -> int:
    from shards.removal import holding, remove  # noqa: PLC0415

    _require_folder(options.out)
    printer = results()
    held = (holding if options.dry_run else remove)(options.out, options.source)
    for folder, (count, size) in sorted(held.folders.items()):
        printer.print(f"{folder}: {plural(count, 'file')}, {size / 1e6:.1f} MB", markup=False, highlight=False)
    state = "would be deleted" if options.dry_run else "deleted, and the card is written without it"
    text = f"{plural(len(held.files), 'file')} of {options.source} {state}"
    printer.print(text, markup=False, highlight=False, soft_wrap=True)
    return DONE


def _publish(options: argparse.Namespace) -> int:
    from shards.hub.gate import Choice  # noqa: PLC0415
    from shards.hub.publish import offer, publish  # noqa: PLC0415
    from shards.hub.repository import Repository  # noqa: PLC0415
    from shards.hub.withdrawals import words_of  # noqa: PLC0415
    from shards.report.card_figures import can_draw  # noqa: PLC0415

    speaker = console()
    choice = Choice(options.tier, tuple(options.modality), tuple(options.source))
    with _shards_seen(speaker, "verifying") as seen:
        offered = offer(options.out, choice, seen.append)
    _show_offer(offered, speaker)
    if offered.held_back and not options.allowed_only:
        speaker.print("nothing was uploaded: --allowed-only uploads the rest")
        return FAILED
    if options.dry_run:
        speaker.print(f"a dry run asks nobody: what was withdrawn from {options.repository} before is listed too")
        return DONE
    repository = Repository(options.repository, options.revision)
    figures = not options.no_figures and can_draw()
    if not options.no_figures and not figures:
        speaker.print("the card has no figures: they need the extra 'report' (pip install 'sa-med2d-20m[report]')")
    done = publish(
        options.out,
        offered,
        repository,
        private=options.private,
        tag=options.tag,
        tier=options.tier,
        again=options.again,
        asked=() if options.allowed_only else options.source,
        figures=figures,
    )
    if done.left_out:
        speaker.print(words_of(done.left_out, options.repository), markup=False, highlight=False)
    speaker.print(
        f"{options.repository} is at {done.commit}: {done.changed} files changed, {done.deleted} deleted", markup=False
    )
    speaker.print(f"all files verified, the first samples of {', '.join(done.configs)} streamed")
    if done.tag is not None:
        said = f"the tag {done.tag} was there already, for the same" if done.was_tagged else f"tagged {done.tag}"
        speaker.print(said, markup=False)
    return DONE


def _show_offer(offered: Offer, speaker: Console) -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table("source", "licence", "tiers", "shards", "images", "MB")
    for verdict in offered.allowed:
        table.add_row(*_row(verdict))
    if offered.allowed:
        print_table(results(), table)
    for verdict in offered.held_back:
        speaker.print(f"held back: {verdict.name}", markup=False, highlight=False)
        for reason in verdict.reasons:
            speaker.print(f"  {reason}", markup=False, highlight=False)


def _row(verdict: Verdict) -> tuple[str, ...]:
    from shards.license import tiers  # noqa: PLC0415

    license_id = verdict.receipts[0].license
    samples, size = sum(one.samples for one in verdict.receipts), sum(one.bytes for one in verdict.receipts)
    shards = str(len(verdict.receipts))
    return verdict.name, license_id, ", ".join(tiers(license_id)), shards, f"{samples:,}", f"{size / 1e6:.1f}"


def _withdraw(options: argparse.Namespace) -> int:
    from shards.hub.repository import Repository  # noqa: PLC0415
    from shards.hub.withdraw import withdraw  # noqa: PLC0415

    speaker = console()
    if options.purge and not options.yes and not _agreed(options, speaker):
        return FAILED
    repository = Repository(options.repository, options.revision)
    done = withdraw(options.source, repository, purge=options.purge)
    speaker.print(
        f"{options.repository} is at {done.commit}: {done.deleted} files of {options.source} deleted", markup=False
    )
    if done.tags:
        state = "tags deleted" if done.purged else "tags that still hold it (--purge deletes them)"
        speaker.print(f"{state}: {', '.join(done.tags)}", markup=False)
    if done.branches:
        said = f"branches that still hold it (--revision BRANCH withdraws from one): {', '.join(done.branches)}"
        speaker.print(said, markup=False)
    for name, reason in done.unlisted.items():
        text = f"{reason}: the card leaves {name} out until it is published again"
        speaker.print(text, markup=False, highlight=False)
    if done.forgotten is not None:
        text = f"{done.forgotten}; it was written anew, without what else was withdrawn before"
        speaker.print(text, markup=False, highlight=False)
    if done.no_tables is not None:
        text = f"{done.no_tables}: the tables are deleted until the next publish writes them again"
        speaker.print(text, markup=False, highlight=False)
    if done.purged:
        speaker.print(f"the history of {options.revision} is one commit")
    else:
        speaker.print("earlier commits still hold it (--purge makes the history one commit)")
    return DONE


def _agreed(options: argparse.Namespace, speaker: Console) -> bool:
    """Ask whether what cannot be undone is meant; where nobody can answer it is not."""
    what = (
        f"--purge deletes the tags of {options.repository} that hold {options.source}, and makes the history of "
        f"{options.revision} one commit, which nobody can undo"
    )
    if not sys.stdin.isatty():
        complain(speaker, f"{what}; where no terminal can be asked, say --yes. Nothing was changed")
        return False
    speaker.print(f"{what}. Go on? (y/N) ", end="", markup=False, highlight=False)
    agreed = sys.stdin.readline().strip().lower() in ("y", "yes")
    if not agreed:
        speaker.print("nothing was changed")
    return agreed


def _status(options: argparse.Namespace) -> int:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from shards.hub.repository import Repository  # noqa: PLC0415
    from shards.hub.status import status  # noqa: PLC0415

    found = status(Repository(options.repository, options.revision), options.out)
    if options.json:
        print_json({"repository": options.repository, "sources": [_status_record(one) for one in found]})
        return DONE
    table = Table("source", "licence", "published shards", "images", "MB", "state")
    for one in found:
        record = _status_record(one)
        sizes = (str(record["shards"]), f"{record['samples']:,}", f"{record['bytes'] / 1e6:.1f}")
        # somebody else may have written these names
        table.add_row(*map(escape, (one.name, one.license, *sizes, one.state)))
    if found:
        print_table(results(), table)
    else:
        results().print(f"{options.repository} holds no source", markup=False, highlight=False)
    return DONE


def _status_record(one: SourceStatus) -> dict[str, Any]:
    receipts = one.published.values()
    return {
        "name": one.name,
        "license": one.license,
        "shards": len(receipts),
        "samples": sum(receipt.samples for receipt in receipts),
        "bytes": sum(receipt.bytes for receipt in receipts),
        "built_shards": None if one.built is None else len(one.built),
        "state": one.state,
    }
