"""The run file's section `quality`: one scorer, or several with weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from engine.base.suggest import nearest
from engine.config.section import Section, known
from engine.config.sources import ImportedSource
from engine.scorers import scorer_kinds


class ScorerConfig(Section):
    """One scorer. Every other key is a setting of its kind, checked against that kind's `DEFAULTS`."""

    model_config = ConfigDict(extra="allow")

    scorer: str = "exact_answer"
    weight: float = Field(1.0, gt=0)
    """Its part in the quality, among several scorers."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kind = data.get("scorer", "exact_answer")
        if kind not in scorer_kinds.kinds():
            return data  # `_known_scorer` names the nearest one
        valid = [*cls.model_fields, *scorer_kinds.load(kind).DEFAULTS]
        for key in map(str, data):
            if key not in valid:
                guess = nearest(key, valid)
                hint = f"; did you mean `{guess}`?" if guess else ""
                raise ValueError(f"scorer `{kind}`: unknown key `{key}`{hint} Valid keys: {', '.join(valid)}")
        return data

    @field_validator("scorer")
    @classmethod
    def _known_scorer(cls, value: str) -> str:
        if value == "learnability":
            raise ValueError("learnability is the other half of the reward; quality needs a judge of answers")
        return known("scorer", value, tuple(scorer_kinds.kinds()))

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the scorer is made with."""
        return dict(self.model_extra or {})

    def placed(self, resolve: Callable[[str], str], imported: Sequence[ImportedSource]) -> Self:
        """The same with a reward model's folder resolved, or with the files that imported rewards are in."""
        update: dict[str, Any] = {}
        if self.scorer == "reward_model" and isinstance(model := self.settings.get("model"), str):
            update["model"] = resolve(model)
        if self.scorer == "imported":
            update["responses"] = [source.model_dump(mode="json") for source in imported]
        return self.model_copy(update=update)


class QualityConfig(ScorerConfig):
    """What says whether an answer is good: `scorer` with its settings, or `scorers`."""

    scorers: tuple[ScorerConfig, ...] = ()
    normalization: Literal["zscore", "minmax", "none"] = "zscore"
    """Puts several scorers on one scale before they are weighted, over all calibration answers: z-score (mean 0,
    standard deviation 1), min-max (0 to 1), or raw values. A single scorer's values stay as they are."""

    @model_validator(mode="after")
    def _one_way(self) -> QualityConfig:
        if self.scorers and ((self.scorer, self.weight) != ("exact_answer", 1.0) or self.settings):
            raise ValueError("give one scorer with `scorer`, or a list with `scorers`, not both")
        return self

    def placed(self, resolve: Callable[[str], str], imported: Sequence[ImportedSource]) -> Self:
        """The same with what each scorer reads resolved."""
        several = tuple(config.placed(resolve, imported) for config in self.scorers)
        return super().placed(resolve, imported).model_copy(update={"scorers": several})

    @property
    def named(self) -> Mapping[str, ScorerConfig]:
        """The scorers by name: the kind, numbered from the second of a kind on."""
        found: dict[str, ScorerConfig] = {}
        for config in self.scorers or (self,):
            count = sum(other.scorer == config.scorer for other in found.values())
            found[config.scorer if not count else f"{config.scorer} {count + 1}"] = config
        return found
