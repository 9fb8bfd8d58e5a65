"""The run file's section `quality`: one scorer, or several with weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from engine.base.plugins import SCORERS
from engine.config.kinds import scorer_kind
from engine.config.paths import RunFolder
from engine.config.section import Section, known, refuse_unknown

DEFAULT: Final = "exact_answer"


class ScorerConfig(Section):
    """One scorer. Every other key is a setting of its kind, checked against that kind's `settings`."""

    model_config = ConfigDict(extra="allow")

    scorer: str = DEFAULT
    """What gives each response its quality."""
    weight: float = Field(1.0, gt=0)
    """Its part in the quality, among several scorers."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.keys() <= cls.model_fields.keys():
            return data
        name = data.get("scorer", cls.model_fields["scorer"].default)
        if name in SCORERS.names():  # else `_known_scorer` names the nearest one
            valid = (*cls.model_fields, *scorer_kind(name).settings.model_fields)
            refuse_unknown(data, valid, f"scorer `{name}`: ")
        return data

    @field_validator("scorer")
    @classmethod
    def _known_scorer(cls, value: str) -> str:
        if scorer_kind(known("scorer", value, SCORERS.names())).of_student:
            raise ValueError(f"{value} is the other half of the reward; quality needs a judge of answers")
        return value

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the scorer is made with."""
        return dict(self.model_extra or {})

    def located(self, folder: RunFolder) -> Self:
        """The same with every local path absolute, and with what its kind takes from the rest of the run file."""
        return self.model_copy(update=dict(scorer_kind(self.scorer).located(self.settings, folder)))


class QualityConfig(ScorerConfig):
    """What says whether a response is good: `scorer` with its settings, or `scorers`."""

    scorers: tuple[ScorerConfig, ...] = ()
    normalization: Literal["zscore", "minmax", "none"] = "zscore"
    """Puts several scorers on one scale before they are weighted, over all calibration responses: z-score (mean 0,
    standard deviation 1), min-max (0 to 1), or raw values. A single scorer's values stay as they are."""

    @model_validator(mode="after")
    def _one_way(self) -> QualityConfig:
        if self.scorers and ((self.scorer, self.weight) != (DEFAULT, 1.0) or self.settings):
            raise ValueError("give one scorer with `scorer`, or a list with `scorers`, not both")
        return self

    def located(self, folder: RunFolder) -> Self:
        """The same with what each scorer reads located."""
        several = tuple(config.located(folder) for config in self.scorers)
        return super().located(folder).model_copy(update={"scorers": several})

    @property
    def verifying(self) -> str | None:
        """The name of the first scorer that says right or wrong; None when none does."""
        kinds = {name: scorer_kind(config.scorer) for name, config in self.named.items()}
        return next((name for name, kind in kinds.items() if kind.verifies), None)

    @property
    def named(self) -> Mapping[str, ScorerConfig]:
        """The scorers by name: the kind, numbered from the second of a kind on."""
        found: dict[str, ScorerConfig] = {}
        for config in self.scorers or (self,):
            count = sum(other.scorer == config.scorer for other in found.values())
            found[config.scorer if not count else f"{config.scorer} {count + 1}"] = config
        return found
