"""How a repository and the paper of the original release are cited; CITATION.cff says the same of the paper."""

from __future__ import annotations

import textwrap
from typing import Final

TITLE: Final = "SA-Med2D-20M Dataset: Segment Anything in 2D Medical Imaging with 20 Million masks"
AUTHORS: Final = (
    ("Ye", "Jin"),
    ("Cheng", "Junlong"),
    ("Chen", "Jianpin"),
    ("Deng", "Zhongying"),
    ("Li", "Tianbin"),
    ("Wang", "Haoyu"),
    ("Su", "Yanzhou"),
    ("Huang", "Ziyan"),
    ("Chen", "Jilong"),
    ("Jiang", "Lei"),
    ("Sun", "Hui"),
    ("Zhu", "Min"),
    ("Zhang", "Shaoting"),
    ("He", "Junjun"),
    ("Qiao", "Yu"),
)
"""Family and given names."""
ARXIV: Final = "2311.11969"
YEAR: Final = 2023


def bibtex() -> str:
    """The entry for BibTeX, in lines of at most 120 characters."""
    authors = " and ".join(", ".join(name) for name in AUTHORS)
    listed = textwrap.fill(f"  author = {{{authors}}},", 120, subsequent_indent="    ")
    journal = f"  journal = {{arXiv preprint arXiv:{ARXIV}}},\n  year = {{{YEAR}}}"
    return f"@article{{ye2023samed2d20m,\n  title = {{{TITLE}}},\n{listed}\n{journal}\n}}"


def line() -> str:
    """A line of a list of references."""
    first = ", ".join(f"{family} {given[0]}" for family, given in AUTHORS[:3])
    return f"{first}, et al. {TITLE}. arXiv:{ARXIV} ({YEAR}). https://doi.org/10.48550/arXiv.{ARXIV}"


def own_bibtex(repository: str) -> str:
    """The entry for BibTeX of a repository of the Hub."""
    return (
        "@misc{samed2d_rebuilt,\n"
        "  title = {SA-Med2D-20M, rebuilt in the open},\n"
        "  author = {{The contributors of SA-Med2D-20M, rebuilt in the open}},\n"
        f"  howpublished = {{https://huggingface.co/datasets/{repository}}},\n"
        "  note = {with the tag or commit that was used}\n"
        "}"
    )
