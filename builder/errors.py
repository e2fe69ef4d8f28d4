"""The errors of the builder: the ways in which input can be wrong."""

from __future__ import annotations

from sa_med2d_20m import SAMed2DError
from shards.stage import Stage


class RecipeError(SAMed2DError):
    """A recipe, or the folder it points to, cannot be used at all.

    Args:
        problems: One sentence each: where, what is wrong, what is allowed.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class UnreadableError(SAMed2DError):
    """A file cannot be read; the message says what was expected and what came.

    Args:
        message: The message.
        withheld: The message without texts of the file, for sources whose names are not shown; None where it quotes
            none.
    """

    def __init__(self, message: str, *, withheld: str | None = None) -> None:
        super().__init__(message)
        self.withheld = withheld


class TransientError(UnreadableError):
    """A file could not be read this time, through no fault of its own that is known."""


class CaseError(SAMed2DError):
    """A case cannot be built; it goes to quarantine and the build goes on.

    Args:
        stage: Where it stopped.
        file: File at fault, relative to the source's root.
        reason: What was expected, what came, what to do; without the file's name.
        transient: Whether another try may be luckier: input and output, a process or the time failed, not the file.
        withheld: The reason without texts of the file or of its name, for sources whose names are not shown; None where
            it quotes none.
    """

    def __init__(
        self, stage: Stage, file: str, reason: str, *, transient: bool = False, withheld: str | None = None
    ) -> None:
        super().__init__(stage, file, reason)  # all three, so that it can come out of a worker process
        self.stage, self.file, self.reason, self.transient, self.withheld = stage, file, reason, transient, withheld

    def __str__(self) -> str:
        return f"{self.file}: {self.stage}: {self.reason}"
