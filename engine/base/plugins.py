"""What can be added to the engine: teacher kinds, scorers, strategies, prompt sources and verifiers.

Each of them is a module that declares what it is and can do. Those of this package are the files of one folder; another
package adds its own by an entry point of the group, whose value is a module:

    [project.entry-points."persyn.scorers"]
    brevity = "my_package.brevity"

The name of the file, or of the entry point, is the word in the run file. Listing names imports none of the modules;
using one imports that one. This is the whole surface that another package can extend.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Final

from engine.base import suggest
from engine.base.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Group:
    """One thing that can be added."""

    entry_points: str
    """The group's name in a package's metadata."""
    package: str
    """The package of which each module is one that is shipped."""
    word: str
    """What one is called in messages: "backend", "scorer"."""

    def names(self) -> tuple[str, ...]:
        """The words that a run file may use: those of this package in alphabetical order, then the added ones.

        Raises:
            ConfigError: a package adds a name that there is already.
        """
        return (*_shipped(self.package), *sorted(_added(self)))

    def usable(self) -> tuple[str, ...]:
        """Those of the names whose module can be imported; of any other `load` says what is wrong with it."""
        return tuple(name for name in self.names() if name in _shipped(self.package) or self._imports(name))

    def _imports(self, name: str) -> bool:
        try:
            self.load(name)
        except ConfigError:
            return False
        return True

    def load(self, name: str) -> ModuleType:
        """The module that declares `name`.

        Raises:
            ConfigError: there is none, with the nearest name that there is; or another package's cannot be imported.
        """
        if name in _shipped(self.package):
            return import_module(f"{self.package}.{name}")
        if (point := _added(self).get(name)) is None:
            raise ConfigError(f"unknown {self.word} {name!r}", suggest.remedy(name, self.names()))
        try:
            return import_module(point.value)
        except Exception as error:
            raise ConfigError(
                f"{self.word} `{name}` of {_distribution(point)} cannot be imported: {type(error).__name__}: {error}",
                f"mend or uninstall {_distribution(point)}",
            ) from error


TEACHERS: Final = Group("persyn.teachers", "engine.teachers.kinds", "backend")
SCORERS: Final = Group("persyn.scorers", "engine.scorers.kinds", "scorer")
STRATEGIES: Final = Group("persyn.strategies", "engine.methods.strategies", "strategy")
SOURCES: Final = Group("persyn.sources", "engine.sources.kinds", "source")
VERIFIERS: Final = Group("persyn.verifiers", "engine.verifiers.kinds", "verifier")
GROUPS: Final = (TEACHERS, SCORERS, STRATEGIES, SOURCES, VERIFIERS)


@cache
def _shipped(package: str) -> tuple[str, ...]:
    folder = Path(__file__).parents[2].joinpath(*package.split("."))
    return tuple(sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")))


@cache
def _added(group: Group) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group.entry_points):
        other = found.setdefault(point.name, point)
        if other is not point or point.name in _shipped(group.package):
            owner = "this package" if other is point else _distribution(other)
            raise ConfigError(
                f"{_distribution(point)} adds the {group.word} `{point.name}`, which {owner} has already",
                f"uninstall {_distribution(point)}, or give its {group.word} another name",
            )
    return found


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "another package"
