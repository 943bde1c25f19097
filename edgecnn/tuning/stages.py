"""One stage of a tuning: candidates made, raced, and written into the log, whatever came of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edgecnn.measure.race import Standing
from edgecnn.progress import Progress
from edgecnn.quantization.recipes import Recipe
from edgecnn.stats import Comparison
from edgecnn.tuning.budget import Budget
from edgecnn.tuning.candidate import Candidate
from edgecnn.tuning.choice import Row, holds
from edgecnn.tuning.maker import Made, Maker, Refused
from edgecnn.tuning.meter import Meter, Trial

#: Whom a candidate competes with.
FLOAT, INT8, OVER, TIMED = "float", "int8", "over the drop budget", "timed only"
_NO_TIME = "not tried: the time was over"


@dataclass(kw_only=True)
class Stages:
    """The stages of a tuning so far.

    Attributes:
        maker: makes files.
        meter: measures them.
        budget: of time.
        max_drop_pp: top-1 that int8 may lose on the images held apart, in percentage points.
        progress: told what happens.
        rows: every candidate of every stage, in order.
        refined: recipes that are raced without what refines them, and what each is refined to.
    """

    maker: Maker
    meter: Meter
    budget: Budget
    max_drop_pp: float
    progress: Progress
    rows: list[Row] = field(default_factory=list, init=False)
    refined: dict[Recipe, Recipe] = field(default_factory=dict, init=False)

    def race(
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
            if candidate not in needed and self.budget.is_over(stage):
                rows.append(Row(stage=stage, candidate=candidate, dropped=_NO_TIME))
                continue
            one = self._made(candidate, files, judged=judged)
            if isinstance(one, Made):
                made.append(one)
            else:
                rows.append(Row(stage=stage, candidate=candidate, dropped=one.reason))
        self.progress.say(f"{stage}: {len(made)} candidates measured, {len(rows)} not")
        trials = [Trial(made=one, group=self.group(one)) for one in made]
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

    def group(self, made: Made) -> str:
        """Return whom a file competes with; what can still be refined is not judged by what it loses before."""
        if made.candidate.form == "float":
            return FLOAT
        if made.drop_pp is None:
            return TIMED
        able = made.candidate.recipe in self.refined or holds(made.drop_pp, self.max_drop_pp)
        return INT8 if able else OVER


def drop_of(row: Row) -> Comparison:
    """Return what a judged row loses."""
    assert row.made is not None
    assert row.made.drop_pp is not None
    return row.made.drop_pp


def standing_of(row: Row) -> Standing:
    """Return how a measured row did."""
    assert row.standing is not None
    return row.standing


def _row(stage: str, made: Made, standing: Standing) -> Row:
    dropped = None
    if standing.dropped_after is not None:
        dropped = f"after {standing.dropped_after} heats: slower than {standing.dropped_for}"
    return Row(stage=stage, candidate=made.candidate, made=made, standing=standing, dropped=dropped)
