"""The search: greedy, one kind of choice after the other, each decided by a race on the target.

1. recipes, each without rewrites and with the most promising ones; float likewise
2. the other combinations of rewrites, for the best int8 and for float
3. each layer of the best int8 left float; those that make it faster, together
4. the best int8 refined: adaptive rounding and bias correction take longest by far and change no kernel, so all before
   is raced without them; if the refined one loses too much, the next best recipe is
5. session options and threads, for the faster of float and int8
6. the finalists once more, in a race that had no part in choosing them: its figures are those that are reported
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgecnn.bundle.tuning import Objective
from edgecnn.errors import ModelError, UsageError
from edgecnn.quantization.recipes import Recipe
from edgecnn.stats import Comparison
from edgecnn.targets.session_options import SESSION_OPTIONS
from edgecnn.tuning.candidate import STOCK, Candidate
from edgecnn.tuning.choice import Row, best, holds, mark_front
from edgecnn.tuning.maker import Refused
from edgecnn.tuning.refining import kernels, leave_float, plain_recipe, refine
from edgecnn.tuning.stages import FLOAT, INT8, OVER, TIMED, Stages, drop_of, standing_of

#: Sets of float layers that are tried together: the one that helps most, the two that do, and so on.
FLOAT_SETS = 4


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a tuning came to.

    Attributes:
        int8: the best int8 file, as it stands in the last race.
        met: whether that holds the drop budget.
        recommended: the row of the last race to ship: float or int8.
        speedup: the stock float model's cost divided by the recommended one's, in the last race.
        why: in a sentence.
        rows: every candidate of every stage, in order.
        notes: what could not be told apart, and what was taken.
    """

    int8: Row
    met: bool
    recommended: Row
    speedup: Comparison
    why: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(kw_only=True)
class Search:
    """A search under way.

    Attributes:
        stages: makes, races and logs.
        recipes: to try, the one to prefer first.
        layers: names the layers of a recipe's model that could stay float.
        objective: what the best is best in.
        max_threads: up to which threads are tried.
    """

    stages: Stages
    recipes: Sequence[Recipe]
    layers: Callable[[Recipe], Sequence[str]]
    objective: Objective
    max_threads: int
    notes: list[str] = field(default_factory=list, init=False)

    def run(self) -> Tuned:
        """Search, and return what was found.

        Raises:
            UsageError: no recipe fits this network and target; the reason of the first is told.
            EdgecnnError: see :func:`edgecnn.quantization.prepare.prepare`.
        """
        int8, float_ = self._try_recipes()
        int8, float_ = self._try_rewrites(int8, float_)
        int8 = refine(self.stages, self._try_float_layers(int8))
        opened = self._try_sessions(int8, float_)
        return self._finish(int8, float_, opened)

    def _try_recipes(self) -> tuple[Candidate, Candidate]:
        candidates = [STOCK, *self._with_plans(STOCK, slice(0, 1))]
        plain = [plain_recipe(self.stages, one) for one in self.recipes]
        for one in plain:
            candidates.append(Candidate(recipe=one))
            if not self.stages.budget.is_over("recipes"):
                candidates += self._with_plans(Candidate(recipe=one), slice(0, 1))
        rows = self.stages.race("recipes", candidates, needed=(STOCK, Candidate(recipe=plain[0])))
        return self._leaders(rows)

    def _try_rewrites(self, int8: Candidate, float_: Candidate) -> tuple[Candidate, Candidate]:
        more = self._with_plans(STOCK, slice(1, None)) + self._with_plans(Candidate(recipe=int8.recipe), slice(1, None))
        if not more:
            return int8, float_
        rows = self.stages.race("rewrites", [STOCK, float_, int8, *more], needed=(STOCK, float_, int8))
        return self._leaders(rows)

    def _with_plans(self, base: Candidate, which: slice) -> list[Candidate]:
        try:
            plans = self.stages.maker.plans(base.recipe)
        except (ModelError, UsageError):  # the recipe does not fit, which making its candidate will tell
            return []
        return [dataclasses.replace(base, rewrites=plan) for plan in plans[which]]

    def _try_float_layers(self, int8: Candidate) -> Candidate:
        """Time each layer left float; then make what helps, together."""
        assert int8.recipe is not None
        movable = [layer for layer in self.layers(int8.recipe) if layer not in int8.recipe.float_layers]
        if len(movable) < 2 or self.stages.budget.is_over("float layers"):
            return int8
        singles = {layer: leave_float(self.stages, int8, (layer,)) for layer in movable}
        # Each is held against int8 as it is, and not against the best of them: nobody is dropped.
        alone = [STOCK, int8, *singles.values()]
        rows = self.stages.race("float layers", alone, needed=(STOCK, int8), judged=False, drops=False)
        helpful = self._faster_than(int8, rows, singles)
        if not helpful:
            self.notes.append("no layer of int8 is faster in float")
            return int8
        sets = [leave_float(self.stages, int8, tuple(helpful[:n])) for n in range(1, min(len(helpful), FLOAT_SETS) + 1)]
        together = self.stages.race("float layers", [STOCK, int8, *sets], needed=(STOCK, int8))
        return self._leaders(together)[0]

    def _faster_than(self, base: Candidate, rows: Sequence[Row], singles: dict[str, Candidate]) -> list[str]:
        """Return the layers that surely make it faster, the one that does most first."""
        stood = {row.candidate: row.standing for row in rows if row.standing is not None}
        ratios = {layer: stood[one].over(stood[base]) for layer, one in singles.items() if {one, base} <= set(stood)}
        return sorted((layer for layer, ratio in ratios.items() if ratio.high < 1), key=lambda one: ratios[one].delta)

    def _try_sessions(self, int8: Candidate, float_: Candidate) -> Candidate:
        """Return the faster of float and int8, opened in the best way."""
        fastest = self._faster(int8, float_)
        threads = [2**power for power in range(self.max_threads.bit_length()) if 2**power < self.max_threads]
        ways = [
            dataclasses.replace(fastest, session=name, threads=n)
            for n in (*threads, self.max_threads)
            for name, row in SESSION_OPTIONS.items()
            if row.needs_threads <= n
        ]
        if self.stages.budget.is_over("session") or not [one for one in ways if one != fastest]:
            return fastest
        rows = self.stages.race("session", [STOCK, fastest, *ways], needed=(STOCK, fastest))
        group = [row for row in rows if row.standing is not None and row.candidate.file == fastest.file]
        return self._take(group)

    def _faster(self, int8: Candidate, float_: Candidate) -> Candidate:
        """Return int8 if it holds the budget and is better than float: smaller, or of faster kernels."""
        made = self.stages.maker.make(int8)
        if isinstance(made, Refused) or made.drop_pp is None or not holds(made.drop_pp, self.stages.max_drop_pp):
            return float_
        if self.objective == "size":
            return int8 if len(made.data) < len(self.stages.maker.model) else float_
        costs = {
            kernels(self.stages, row.candidate): row.standing for row in self.stages.rows if row.standing is not None
        }
        int8_ratio = costs[kernels(self.stages, int8)].against_reference.delta
        return int8 if int8_ratio < costs[kernels(self.stages, float_)].against_reference.delta else float_

    def _finish(self, int8: Candidate, float_: Candidate, opened: Candidate) -> Tuned:
        finalists = (STOCK, float_, int8, opened)
        rows = [row for row in self.stages.race("final", finalists, needed=finalists, drops=False) if row.standing]
        (int8_row,) = (row for row in rows if row.candidate == int8)
        met = holds(drop_of(int8_row), self.stages.max_drop_pp)
        able = [row for row in rows if met or row.candidate.form == "float"]
        chosen, note = best(able, self.objective)
        speedup = standing_of(rows[0]).over(standing_of(chosen))
        return Tuned(
            int8=int8_row,
            met=met,
            recommended=chosen,
            speedup=speedup,
            why=self._why(chosen, int8_row, note, met=met),
            rows=mark_front(self.stages.rows),
            notes=tuple(self.notes),
        )

    def _why(self, chosen: Row, int8: Row, note: str | None, *, met: bool) -> str:
        if chosen.candidate.form == "int8":
            return note or f"{self._best()} that lose at most {self.stages.max_drop_pp:g} points"
        if not met:
            return f"no int8 that was tried loses at most {self.stages.max_drop_pp:g} points"
        more = standing_of(int8).over(standing_of(chosen))
        if more.low <= 1 or self.objective == "size":
            return note or self._best()
        figures = f"({more.low:.2f} to {more.high:.2f})"
        if self.stages.meter.unit == "instructions":
            return f"float takes fewer instructions: the best int8 takes {more.delta:.2f} times as many {figures}"
        return f"float is faster here: the best int8 takes {more.delta:.2f} times as long {figures}"

    def _best(self) -> str:
        """Return in what the best is best; a count of instructions is not called time."""
        counted = self.stages.meter.unit == "instructions" and self.objective != "size"
        return "the fewest instructions of all" if counted else f"the best in {self.objective} of all"

    def _leaders(self, rows: Sequence[Row]) -> tuple[Candidate, Candidate]:
        """Return the best int8 and the best float of a race."""
        groups: dict[str, list[Row]] = {FLOAT: [], INT8: [], OVER: [], TIMED: []}
        for row in rows:
            if row.standing is not None and row.made is not None:
                groups[self.stages.group(row.made)].append(row)
        float_ = self._take(groups[FLOAT])
        if groups[INT8]:
            return self._take(groups[INT8]), float_
        if not groups[OVER]:
            reasons = [f"{row.candidate.name}: {row.dropped}" for row in rows if row.candidate.form == "int8"]
            raise UsageError(
                f"tune: no int8 model could be made and run ({reasons[0]}).",
                next_step="try one recipe with edgecnn quantize --recipe u8s8-perchannel-minmax-reduced",
            )
        return min(groups[OVER], key=lambda row: drop_of(row).delta).candidate, float_

    def _take(self, rows: Sequence[Row]) -> Candidate:
        chosen, note = best(rows, self.objective)
        if note and note not in self.notes:
            self.notes.append(note)
            self.stages.progress.say(note)
        return chosen.candidate
