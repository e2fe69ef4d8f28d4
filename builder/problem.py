"""The two ways in which input can be wrong."""

from __future__ import annotations


class RecipeError(Exception):
    """A recipe, or the folder it points to, cannot be used at all.

    Args:
        problems: One sentence each: where, what is wrong, what is allowed.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CaseError(Exception):
    """A case cannot be built; it goes to quarantine and the build goes on.

    Args:
        stage: ``match``, ``read``, ``grid``, ``labels`` or ``convert``.
        file: File at fault, relative to the source's root.
        reason: What was expected, what came, what to do; without the file's name.
    """

    def __init__(self, stage: str, file: str, reason: str) -> None:
        super().__init__(f"{file}: {stage}: {reason}")
        self.stage, self.file, self.reason = stage, file, reason
