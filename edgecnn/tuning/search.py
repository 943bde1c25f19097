"""The search: greedy, one kind of choice after the other, each decided by a race on the target.

1. recipes, each without rewrites and with the most promising ones; float likewise
2. the other combinations of rewrites, for the best int8 and for float
3. each layer of the best int8 left float; those that make it faster, together
4. session options and threads, for the faster of float and int8
5. the finalists once more, in a race that had no part in choosing them: its figures are those that are reported
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from edgecnn.bundle.tuning import Objective
from edgecnn.errors import ModelError, UsageError
from edgecnn.measure.race import Standing
from edgecnn.progress import Progress
from edgecnn.quantization.recipes import Recipe
from edgecnn.stats import Comparison
from edgecnn.targets.session_options import SESSION_OPTIONS
from edgecnn.tuning.budget import Budget
from edgecnn.tuning.candidate import STOCK, Candidate
from edgecnn.tuning.choice import Row, best, holds, mark_front
from edgecnn.tuning.maker import Made, Maker, Refused
from edgecnn.tuning.meter import Meter, Trial

#: Sets of float layers that are tried together: the one that helps most, the two that do, and so on.
FLOAT_SETS = 4
_FLOAT, _WITHIN, _OVER, _TIMED = "float", "within the drop budget", "over the drop budget", "timed only"
_NO_TIME = "not tried: the time was over"


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
        maker: makes files.
        meter: measures them.
        recipes: to try, the one to prefer first.
        layers: names the layers of a recipe's model that could stay float.
        budget: of time.
        objective: what the best is best in.
        max_drop_pp: top-1 that int8 may lose on the images held apart, in percentage points.
        max_threads: up to which threads are tried.
        progress: told what happens.
    """

    maker: Maker
    meter: Meter
    recipes: Sequence[Recipe]
    layers: Callable[[Recipe], Sequence[str]]
    budget: Budget
    objective: Objective
    max_drop_pp: float
    max_threads: int
    progress: Progress
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def run(self) -> Tuned:
        """Search, and return what was found.

        Raises:
            UsageError: no recipe fits this network and target; the reason of the first is told.
            EdgecnnError: see :func:`edgecnn.quantization.prepare.prepare`.
        """
        int8, float_ = self._try_recipes()
        int8, float_ = self._try_rewrites(int8, float_)
        int8 = self._try_float_layers(int8)
        opened = self._try_sessions(int8, float_)
        return self._finish(int8, float_, opened)

    def _try_recipes(self) -> tuple[Candidate, Candidate]:
        candidates = [STOCK, *self._with_plans(STOCK, slice(0, 1))]
        for one in self.recipes:
            candidates.append(Candidate(recipe=one))
            if not self.budget.is_over():
                candidates += self._with_plans(Candidate(recipe=one), slice(0, 1))
        rows = self._stage("recipes", candidates, needed=(STOCK, Candidate(recipe=self.recipes[0])))
        return self._leaders(rows)

    def _try_rewrites(self, int8: Candidate, float_: Candidate) -> tuple[Candidate, Candidate]:
        more = self._with_plans(STOCK, slice(1, None)) + self._with_plans(Candidate(recipe=int8.recipe), slice(1, None))
        if not more:
            return int8, float_
        rows = self._stage("rewrites", [STOCK, float_, int8, *more], needed=(STOCK, float_, int8))
        return self._leaders(rows)

    def _with_plans(self, base: Candidate, which: slice) -> list[Candidate]:
        try:
            plans = self.maker.plans(base.recipe)
        except (ModelError, UsageError):  # the recipe does not fit, which making its candidate will tell
            return []
        return [dataclasses.replace(base, rewrites=plan) for plan in plans[which]]

    def _try_float_layers(self, int8: Candidate) -> Candidate:
        """Time each layer left float without rounding and correction, which change no kernel; then make what helps."""
        assert int8.recipe is not None
        plain = dataclasses.replace(int8.recipe, adaptive_rounding=False, correct_bias=False, summary="")
        base = dataclasses.replace(int8, recipe=plain)
        movable = [layer for layer in self.layers(plain) if layer not in plain.float_layers]
        if len(movable) < 2 or self.budget.is_over():
            return int8
        singles = {layer: _leave_float(base, (layer,)) for layer in movable}
        rows = self._stage("float layers", [STOCK, base, *singles.values()], needed=(STOCK, base), judged=False)
        helpful = self._faster_than(base, rows, singles)
        if not helpful:
            self.notes.append("no layer of int8 is faster in float")
            return int8
        sets = [_leave_float(int8, tuple(helpful[:n])) for n in range(1, min(len(helpful), FLOAT_SETS) + 1)]
        together = self._stage("float layers", [STOCK, int8, *sets], needed=(STOCK, int8))
        return self._leaders(together)[0]

    def _faster_than(self, base: Candidate, rows: Sequence[Row], singles: dict[str, Candidate]) -> list[str]:
        """Return the layers that surely make it faster, the one that does most first."""
        stood = {row.candidate: row.standing for row in rows if row.standing is not None}
        ratios = {layer: stood[one].over(stood[base]) for layer, one in singles.items() if {one, base} <= set(stood)}
        return sorted((layer for layer, ratio in ratios.items() if ratio.high < 1), key=lambda one: ratios[one].delta)

    def _try_sessions(self, int8: Candidate, float_: Candidate) -> Candidate:
        """Return the faster of float and int8, opened in the best way."""
        last = {row.candidate: row for row in self.rows if row.standing is not None}
        able = [last[one] for one in (float_, int8) if one is float_ or _group(last[one], self.max_drop_pp) == _WITHIN]
        fastest = min(able, key=lambda row: row.standing.against_reference.delta if row.standing else 1.0).candidate
        threads = [2**power for power in range(self.max_threads.bit_length()) if 2**power < self.max_threads]
        ways = [
            dataclasses.replace(fastest, session=name, threads=n)
            for n in (*threads, self.max_threads)
            for name, row in SESSION_OPTIONS.items()
            if row.needs_threads <= n
        ]
        if self.budget.is_over() or not [one for one in ways if one != fastest]:
            return fastest
        rows = self._stage("session", [STOCK, fastest, *ways], needed=(STOCK, fastest))
        group = [row for row in rows if row.standing is not None and row.candidate.file == fastest.file]
        return self._take(group)

    def _finish(self, int8: Candidate, float_: Candidate, opened: Candidate) -> Tuned:
        finalists = (STOCK, float_, int8, opened)
        rows = [row for row in self._stage("final", finalists, needed=finalists, drops=False) if row.standing]
        (int8_row,) = (row for row in rows if row.candidate == int8)
        met = _group(int8_row, self.max_drop_pp) == _WITHIN
        able = [row for row in rows if met or row.candidate.form == "float"]
        chosen, note = best(able, self.objective)
        speedup = _standing(rows[0]).over(_standing(chosen))
        return Tuned(
            int8=int8_row,
            met=met,
            recommended=chosen,
            speedup=speedup,
            why=self._why(chosen, int8_row, note, met=met),
            rows=mark_front(self.rows),
            notes=tuple(self.notes),
        )

    def _why(self, chosen: Row, int8: Row, note: str | None, *, met: bool) -> str:
        if chosen.candidate.form == "int8":
            return note or f"the best in {self.objective} that loses at most {self.max_drop_pp:g} points"
        if not met:
            return f"no int8 that was tried loses at most {self.max_drop_pp:g} points"
        slower = _standing(int8).over(_standing(chosen))
        if slower.low > 1:
            return (
                f"float is faster here: the best int8 takes {slower.delta:.2f} times as long "
                f"({slower.low:.2f} to {slower.high:.2f})"
            )
        return note or f"the best in {self.objective}"

    def _leaders(self, rows: Sequence[Row]) -> tuple[Candidate, Candidate]:
        """Return the best int8 and the best float of a race."""
        measured = [row for row in rows if row.standing is not None]
        groups = {
            name: [row for row in measured if _group(row, self.max_drop_pp) == name] for name in (_FLOAT, _WITHIN)
        }
        float_ = self._take(groups[_FLOAT])
        if groups[_WITHIN]:
            return self._take(groups[_WITHIN]), float_
        over = [row for row in measured if _group(row, self.max_drop_pp) == _OVER]
        if not over:
            reasons = [f"{row.candidate.name}: {row.dropped}" for row in rows if row.candidate.form == "int8"]
            raise UsageError(
                f"tune: no int8 model could be made and run ({reasons[0]}).",
                next_step="try one recipe with edgecnn quantize --recipe u8s8-perchannel-minmax-reduced",
            )
        return min(
            over, key=lambda row: row.made.drop_pp.delta if row.made and row.made.drop_pp else 0
        ).candidate, float_

    def _take(self, rows: Sequence[Row]) -> Candidate:
        chosen, note = best(rows, self.objective)
        if note and note not in self.notes:
            self.notes.append(note)
            self.progress.say(note)
        return chosen.candidate

    def _stage(
        self,
        stage: str,
        candidates: Iterable[Candidate],
        *,
        needed: Sequence[Candidate],
        judged: bool = True,
        drops: bool = True,
    ) -> list[Row]:
        """Make candidates, race those that could be made, and log all of them; ``needed`` are made at any time."""
        files: dict[object, Candidate] = {}
        made: list[Made] = []
        rows: list[Row] = []
        for candidate in dict.fromkeys(candidates):
            if candidate not in needed and self.budget.is_over():
                rows.append(Row(stage=stage, candidate=candidate, dropped=_NO_TIME))
                continue
            one = self._made(candidate, files, judged=judged)
            if isinstance(one, Made):
                made.append(one)
            else:
                rows.append(Row(stage=stage, candidate=candidate, dropped=one.reason))
        self.progress.say(f"{stage}: {len(made)} candidates measured, {len(rows)} not")
        trials = [Trial(made=one, group=_group_of(one, self.max_drop_pp)) for one in made]
        standings = self.meter.measure(trials, self.budget.race_s(stage), drops=drops)
        measured = [_row(stage, one, standing) for one, standing in zip(made, standings, strict=True)]
        self.rows += [*measured, *rows]
        return [*measured, *rows]

    def _made(self, candidate: Candidate, files: dict[object, Candidate], *, judged: bool) -> Made | Refused:
        """Make a candidate; refuse a file that is raced already, and one that the target does not run."""
        one = self.maker.make(candidate, judged=judged)
        if isinstance(one, Refused):
            self.progress.say(f"{candidate.name}: refused: {one.reason}")
            return Refused(candidate=candidate, reason=f"refused: {one.reason}")
        same = files.setdefault((one.data, candidate.session, candidate.threads), candidate)
        if same != candidate:
            return Refused(candidate=candidate, reason=f"the same file as {same.name}")
        reason = self.meter.why_not(one)
        return one if reason is None else Refused(candidate=candidate, reason=f"refused: {reason}")


def _leave_float(candidate: Candidate, layers: tuple[str, ...]) -> Candidate:
    recipe = candidate.recipe
    assert recipe is not None
    left = dataclasses.replace(recipe, float_layers=(*recipe.float_layers, *layers), summary="")
    return dataclasses.replace(candidate, recipe=left)


def _group_of(made: Made, max_drop_pp: float) -> str:
    if made.candidate.form == "float":
        return _FLOAT
    if made.drop_pp is None:
        return _TIMED
    return _WITHIN if holds(made.drop_pp, max_drop_pp) else _OVER


def _group(row: Row, max_drop_pp: float) -> str:
    assert row.made is not None
    return _group_of(row.made, max_drop_pp)


def _standing(row: Row) -> Standing:
    assert row.standing is not None
    return row.standing


def _row(stage: str, made: Made, standing: Standing) -> Row:
    dropped = None
    if standing.dropped_after is not None:
        dropped = f"after {standing.dropped_after} heats: slower than {standing.dropped_for}"
    return Row(stage=stage, candidate=made.candidate, made=made, standing=standing, dropped=dropped)
