"""What a stored reward was made with, from its dataset's manifest; rewards of two settings cannot be compared."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_RECORDED = "settings not recorded"


@dataclass(frozen=True, slots=True)
class RewardProvenance:
    """How scores became rewards; empty and None where that was not recorded."""

    alpha: float | None = None
    """Weight of learnability, 0 to 1."""
    normalization: str = ""
    unusable: str = ""
    """What an unusable response counts as, see `engine.methods.reward.label`."""
    teachers: tuple[str, ...] = ()
    """Rewards are normalized within the prompt over these; in alphabetical order."""
    student: str = ""
    """Whose learnability it is."""
    quality: str = ""
    """The scorers of quality, with their weights where there are several."""

    @property
    def words(self) -> str:
        """`α 0.4 zscore`."""
        if self.alpha is None:
            return NOT_RECORDED
        return f"α {self.alpha:g} {self.normalization}".rstrip()

    def includes(self, other: "RewardProvenance") -> bool:
        """Whether everything that is recorded here is the same there."""
        return all(
            own in (None, "", ()) or own == getattr(other, name)
            for name in self.__dataclass_fields__
            for own in (getattr(self, name),)
        )


def recorded(manifest: Mapping[str, Any]) -> RewardProvenance | None:
    """That of a dataset's rewards, as its manifest has it; None where no row of it has a reward.

    Args:
        manifest: of a dataset. Older ones say nothing of student, quality and how many rows have a reward.
    """
    if manifest.get("rewarded") == 0:
        return None
    reward = manifest.get("reward", {})
    alpha = reward.get("alpha")
    return RewardProvenance(
        alpha=None if alpha is None else float(alpha),
        normalization=str(reward.get("normalization", "")),
        unusable=str(reward.get("unusable", "")),
        teachers=tuple(sorted(map(str, manifest.get("teachers", ())))),
        student=str(manifest.get("student", "")),
        quality=str(manifest.get("quality", "")),
    )


def distinct(settings: Sequence[RewardProvenance]) -> list[str]:
    """Each setting in words: α and normalization, and where these do not tell all apart, what does, of each of them."""
    alike = [[other for other in settings if other.words == one.words] for one in settings]
    differing = {
        name
        for group in alike
        for name in ("student", "quality", "unusable", "teachers")
        if len({getattr(other, name) for other in group}) > 1
    }
    return [
        ", ".join([one.words, *_beyond(one, differing, group)])
        for one, group in zip(settings, alike, strict=True)
    ]


def _beyond(
    one: RewardProvenance, differing: Collection[str], alike: Sequence[RewardProvenance]
) -> list[str]:
    """What of a setting differs among those that have α and normalization in common with others."""
    parts = [
        f"{name} {getattr(one, name) or 'not recorded'}"
        for name in ("student", "quality", "unusable")
        if name in differing and one.words != NOT_RECORDED
    ]
    if "teachers" in differing and one.words != NOT_RECORDED:
        sizes = [len(other.teachers) for other in alike]
        who = ", ".join(one.teachers) or "not recorded"
        same_size = sizes.count(len(one.teachers)) > 1
        parts.append(f"teachers {who}" if same_size or not one.teachers else f"{len(one.teachers)} teachers")
    return parts
